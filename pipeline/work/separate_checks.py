"""Checks that need torch or lm-eval: each runs in a process of its own, and what it found is kept.

So the command that starts them stays light, and what a library prints or breaks stays in that
process. A check that found nothing wrong is not repeated: what it found out lies in
data_dir, under the fingerprint of all that decides it. Where that folder cannot be
written, every command runs the check again, once.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError, UserError
from pipeline.logs import note
from pipeline.store.environment import LIBRARIES, library_versions
from pipeline.store.files import fingerprint, write_json
from pipeline.store.layout import data_folder

TAIL_LINES = 25
Facts = TypeVar("Facts")
_answered: dict[Path, dict[str, Any]] = {}
"""Verdicts of this command. What is refused is not kept for the next one: a library may have been
installed since."""


class CheckCrashed(UserError):
    """A check ended without a verdict: a bug, or a library that does not work here."""

    exit_code = 1


def found_by(
    module: str, form: type[Facts], config: RunConfig, decides: Mapping[str, Any], subject: str
) -> Facts:
    """Return what `python -m module` finds out about a run file, or found out before, as an
    instance of `form`.

    `form` is a dataclass or a TypedDict. `decides` holds JSON values: all that decides the verdict
    besides the versions of the libraries. Raises ConfigError with every problem that the check
    found, CheckCrashed where it ended without a verdict.
    """
    facts = TypeAdapter(form)
    path = data_folder(config).passed_check(fingerprint([module, decides, _versions()]))
    with suppress(
        OSError, ValidationError
    ):  # one that is missing, unreadable or damaged is made again
        return facts.validate_json(path.read_bytes())
    if path not in _answered:
        note(f"checking {subject}")
        _answered[path] = _ask(module, config)
    verdict = _answered[path]
    if verdict["problems"]:
        raise ConfigError(verdict["problems"])
    with suppress(OSError):  # data_dir is shared, and may be read-only
        write_json(path, verdict["facts"])
    return facts.validate_python(verdict["facts"])


def answer(find: Callable[[RunConfig], dict[str, Any]]) -> None:
    """Be that process: read the settings from standard input, write the verdict to standard output.

    `find` returns JSON values, or raises UserError where something is wrong.
    """
    verdicts = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not come between
    config = RunConfig.model_validate(json.loads(sys.stdin.read()))
    problems: list[str] = []
    facts: dict[str, Any] = {}
    try:
        facts = find(config)
    except ConfigError as error:
        problems = error.problems
    except UserError as error:
        problems = [str(error)]
    verdicts.write(json.dumps({"problems": problems, "facts": facts}))
    verdicts.close()


def _ask(module: str, config: RunConfig) -> dict[str, Any]:
    package_root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    process = subprocess.run(
        [sys.executable, "-m", module],
        input=config.model_dump_json(),
        env={**quiet, **os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if process.returncode != 0 or not process.stdout:
        tail = "\n".join(process.stderr.splitlines()[-TAIL_LINES:])
        raise CheckCrashed(
            f"{module} ended without a verdict (exit code {process.returncode}):\n{tail}"
        )
    return json.loads(process.stdout)


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **library_versions((*LIBRARIES, "accelerate"))}
