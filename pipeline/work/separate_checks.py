"""Checks that need torch or lm-eval, each run in a process of its own.

So the command that needs them starts fast, and what a library prints or breaks stays in that
process. The facts that a passed check returns are stored in data_dir, under the fingerprint of
everything that decides them, and the check is not repeated. Where data_dir is read-only, every
command runs the check once.
"""

import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, TypeVar

from pydantic import TypeAdapter, ValidationError

from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError, UserError
from pipeline.logs import note
from pipeline.store.environment import LIBRARIES, library_versions
from pipeline.store.files import fingerprint, write_json
from pipeline.store.layout import data_folder
from pipeline.store.records import Json
from pipeline.work.warm.warm_python import run_python

TAIL_LINES = 25
"""Last lines of a crashed check's output that are printed."""
Facts = TypeVar("Facts")


class Verdict(TypedDict):
    """JSON that a check writes to its standard output."""

    problems: list[str]
    """Mistakes of the user, each with setting, value, rule and remedy; empty for a passed check."""
    facts: Mapping[str, Json]
    """Result of a passed check; each check has its own keys."""


_answered: dict[Path, Verdict] = {}
"""Verdicts that this command has asked for. Failed checks are not stored for the next command: a
library may have been installed since."""


class CheckCrashed(UserError):
    """A check ended without a verdict: a bug, or a library that does not work here (exit code 1)."""

    exit_code = 1


@dataclass(frozen=True)
class Subject:
    """A run file that a check looks at."""

    config: RunConfig
    decides: Mapping[str, Json]
    """Everything that decides the verdict besides library versions."""


def run_separate_check(
    module: str, form: type[Facts], config: RunConfig, decides: Mapping[str, Json], subject: str
) -> Facts:
    """Return the facts that the check `python -m module` finds about a run file, or found before.

    `form` is the dataclass or TypedDict of the facts. `decides` holds everything that decides the
    verdict besides library versions. `subject` is printed while the check runs. Raises ConfigError
    with every problem that the check found, CheckCrashed where it ended without a verdict.
    """
    return run_separate_checks(module, form, [Subject(config, decides)], subject)[0]


def run_separate_checks(
    module: str, form: type[Facts], subjects: Sequence[Subject], words: str
) -> list[Facts]:
    """Return the facts about several run files, in their order, from one process for all.

    As `run_separate_check`; raises ConfigError with the problems of all run files, each once.
    """
    # Facts that are missing, unreadable or damaged are found again.
    adapter = TypeAdapter(form)
    versions = _versions()
    paths = [
        data_folder(subject.config).passed_check(fingerprint([module, subject.decides, versions]))
        for subject in subjects
    ]
    facts: dict[Path, Facts] = {}
    for path in paths:
        with suppress(OSError, ValidationError):
            facts[path] = adapter.validate_json(path.read_bytes())

    # One process answers all questions that are open.
    configs = {path: subject.config for path, subject in zip(paths, subjects, strict=True)}
    asked = [path for path in configs if path not in facts and path not in _answered]
    if asked:
        note(f"checking {words}")
        verdicts = _ask(module, [configs[path] for path in asked])
        _answered.update(zip(asked, verdicts, strict=True))
    answered = {path: _answered[path] for path in configs if path not in facts}
    problems = [problem for verdict in answered.values() for problem in verdict["problems"]]
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))

    # data_dir is shared, and may be read-only.
    for path, verdict in answered.items():
        with suppress(OSError):
            write_json(path, verdict["facts"])
        facts[path] = adapter.validate_python(verdict["facts"])
    return [facts[path] for path in paths]


def serve_separate_check(find_facts: Callable[[RunConfig], Mapping[str, Json]]) -> None:
    """Run a check in this process: read run files from standard input, write verdicts to output.

    `find_facts` returns JSON values, or raises UserError for a mistake of the user.
    """
    # What libraries print goes to standard error, so that it does not mix with the verdicts.
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    verdicts = [
        _verdict(find_facts, RunConfig.model_validate(settings))
        for settings in json.loads(sys.stdin.read())
    ]
    output.write(json.dumps(verdicts))
    output.close()


def _verdict(find_facts: Callable[[RunConfig], Mapping[str, Json]], config: RunConfig) -> Verdict:
    try:
        return {"problems": [], "facts": find_facts(config)}
    except ConfigError as error:
        return {"problems": list(error.problems), "facts": {}}
    except UserError as error:
        return {"problems": [str(error)], "facts": {}}


def _ask(module: str, configs: Sequence[RunConfig]) -> list[Verdict]:
    """Run a check in a process of its own. Raises CheckCrashed with its last lines of output."""
    package_root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    environment = {**quiet, **os.environ, "PYTHONPATH": path}
    settings = json.dumps([config.model_dump(mode="json") for config in configs])
    process = run_python([module], settings, environment)
    if process.returncode != 0 or not process.stdout:
        tail = "\n".join(process.stderr.splitlines()[-TAIL_LINES:])
        raise CheckCrashed(
            f"{module} ended without a verdict (exit code {process.returncode}):\n{tail}"
        )
    return json.loads(process.stdout)


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **library_versions((*LIBRARIES, "accelerate"))}
