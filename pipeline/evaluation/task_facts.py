"""Checks of the evaluation's tasks before there is a model. Imports no lm-eval.

A process of its own (`task_check.py`) builds the tasks. Reads the files below
`evaluation.task_paths`.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.evaluation_section import QUESTIONS_SUFFIX
from pipeline.config.run_config import RunConfig
from pipeline.corpus.decontaminating.task_groups import GROUPS, members_of
from pipeline.errors import ConfigError, first_of
from pipeline.evaluation.asked_tasks import asked_suite, asked_tasks
from pipeline.evaluation.built_in.built_in_tasks import (
    BUILT_IN,
    PATTERN_TASKS,
    too_many_examples,
)
from pipeline.evaluation.task_data.catalogue import CATALOGUE
from pipeline.model.model_facts import model_facts
from pipeline.store.files import file_record, fingerprint
from pipeline.store.records import Json
from pipeline.store.tasks_folder import TasksFolder
from pipeline.work.separate_checks import run_separate_check

VERSION = 2
"""Increased when `task_check` refuses or returns something else: older verdicts are not used."""
MOST_NAMES = 5
"""Maximum number of tasks that a message names."""
DATA_VARIABLES = (
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_DATASETS_CACHE",
    "HF_HUB_OFFLINE",
    "HF_DATASETS_OFFLINE",
)
"""Environment variables that decide where the data of tasks are searched."""


@dataclass(frozen=True)
class TaskFacts:
    """Requirements of a run file's tasks on the model."""

    generated_tokens: dict[str, int]
    """Task that has the model write -> most tokens written."""


def foreign_tasks(config: RunConfig) -> list[str]:
    """Return the tasks of the run file and its suite that are not built in, and are to be asked."""
    asked = asked_tasks(config)
    return [name for name, shots in asked.items() if shots and name not in BUILT_IN]


def refuse_cloze_without_text(config: RunConfig) -> None:
    """Raise ConfigError where `heldout_cloze` is asked for and no source has text.

    Called before hours of training.
    """
    if "heldout_cloze" not in config.evaluation.tasks:
        return
    if config.sources_with_text:
        return
    raise ConfigError(
        [
            "evaluation.tasks: heldout_cloze makes its questions from held-out text, and no source "
            "has text (all are of kind megatron). Remove it, for example "
            "evaluation.tasks=[patterns,arithmetic]; or add a source with documents, with weight 0 "
            "in data.mixture if it is not to be trained on"
        ]
    )


def check_named_tasks(config: RunConfig) -> None:
    """Raise ConfigError for folders that do not exist, and tasks that would be scored twice.

    Also for public tasks whose questions are not in `evaluation.tasks_dir`, and built-in tasks that
    have fewer solved examples than are to be shown.
    """
    problems = [
        f"evaluation.task_paths: {folder} is not a folder; use one with task files of lm-eval, or "
        "leave it out"
        for folder in config.evaluation.task_paths
        if not folder.is_dir()
    ]
    problems += _missing_questions(config)
    names = asked_tasks(config)
    problems += [
        f"evaluation.tasks: {name}: no such file; give a JSONL file of questions"
        for name in names
        if name.endswith(QUESTIONS_SUFFIX) and not Path(name).is_file()
    ]
    problems += [
        f"evaluation.tasks: {name} is a part of patterns, which is also listed; leave one of them "
        "out"
        for name in names
        if name in PATTERN_TASKS and "patterns" in names
    ]
    problems += too_many_examples(names)
    if problems:
        raise ConfigError(problems)


def check_built_tasks(config: RunConfig) -> None:
    """Raise ConfigError for tasks that do not exist, lack data, or write more than a context."""
    if not foreign_tasks(config):
        return
    decides = _what_decides(config)
    facts = run_separate_check(
        "pipeline.evaluation.task_check", TaskFacts, config, decides, "the evaluation's tasks"
    )
    if not facts.generated_tokens:
        return
    positions = model_facts(config).positions
    problems = [
        f"evaluation.tasks: {name!r} has the model write up to {count} tokens, but its context "
        f"holds {positions}, the question included; raise model.config.max_position_embeddings, "
        "give the task fewer (max_gen_toks), or leave it out"
        for name, count in facts.generated_tokens.items()
        if positions is not None and count >= positions
    ]
    if problems:
        raise ConfigError(problems)


def _missing_questions(config: RunConfig) -> list[str]:
    """Return a message where questions of public tasks are not here: which, and how to get them."""
    settings = config.evaluation
    suite = asked_suite(config)
    if suite is not None and not suite.tasks:
        name, reason = next(iter(suite.missing.items()))
        return [
            f"evaluation.suite = {suite.name!r}: none of its {len(suite.missing)} tasks is in "
            f"evaluation.tasks_dir; {name}: {reason}. Run `pipeline tasks fetch {suite.name}` so, or "
            "choose another suite (`pipeline tasks list` shows them)"
        ]
    asked = [name for name in foreign_tasks(config) if name in CATALOGUE or name in GROUPS]
    if settings.tasks_dir is None:
        # Without the folder, only a suite is known to need it: tasks may be in task_paths, or their
        # data in Hugging Face's cache.
        if settings.suite is None or not asked:
            return []
        return [
            f"evaluation.suite = {settings.suite!r}: its questions are read from "
            "evaluation.tasks_dir, which is not set. Fetch them on a machine with network access "
            f"(`pipeline tasks fetch {settings.suite} --to FOLDER`) and set evaluation.tasks_dir to "
            "that folder"
        ]
    tasks = TasksFolder(settings.tasks_dir)
    missing = [
        name
        for name in asked
        if any(not tasks.source(member).exists() for member in members_of(name))
    ]
    if not missing or settings.task_paths:  # own task files may define the names, too
        return []
    first = next(member for member in members_of(missing[0]) if not tasks.source(member).exists())
    wanted = " ".join(missing)
    if suite is not None and {task.name for task in suite.tasks}.issuperset(missing):
        wanted = suite.name
    return [
        f"evaluation.tasks_dir = {tasks.path}: {tasks.source(first)} does not exist; the questions "
        f"of {first_of(missing, MOST_NAMES)} are missing. Run `pipeline tasks fetch "
        f"{wanted} --to {tasks.path}` on a machine with network access; the folder can "
        "be copied"
    ]


def describe_task_files(config: RunConfig) -> dict[str, str | None]:
    """Return a hash of the files of tasks, for the fingerprint of `evaluate`.

    In a folder of task files, the hash is of the names, sizes and modification times. Of public
    tasks it is of the record with the checksums of their questions, of a JSONL file its content.
    None for what is gone.
    """
    names = foreign_tasks(config)
    if not names:
        return {}
    own = (config.paths.data_dir, config.paths.run_dir)
    hashes: dict[str, str | None] = {}
    for name in names:
        if name.endswith(QUESTIONS_SUFFIX):
            hashes[f"questions in {name}"] = _hash_of(Path(name))
        elif config.evaluation.tasks_dir is not None:
            tasks = TasksFolder(config.evaluation.tasks_dir)
            records = [_hash_of(tasks.source(member)) for member in members_of(name)]
            if None not in records:
                hashes[f"questions of {name}"] = fingerprint(records)
    return hashes | {
        f"files of {folder}": fingerprint(list(_files_below(folder, own)))
        if folder.is_dir()
        else None
        for folder in config.evaluation.task_paths
    }


def _hash_of(path: Path) -> str | None:
    if not path.is_file():
        return None
    return file_record(path)["checksum"]


def _what_decides(config: RunConfig) -> dict[str, Json]:
    """Return everything that decides the verdict of `task_check` besides library versions."""
    settings = config.evaluation
    return {
        "version": VERSION,
        "tasks": foreign_tasks(config),
        "shots": {name: list(shots) for name, shots in asked_tasks(config).items()},
        "tasks_dir": str(settings.tasks_dir),
        "files": describe_task_files(config),
        "environment": {name: os.environ.get(name) for name in DATA_VARIABLES},
        "current folder": str(Path.cwd()),  # a task's own data_files are relative to it
    }


def _files_below(folder: Path, own: tuple[Path, ...]) -> Iterator[tuple[str, int, int]]:
    for path in sorted(folder.rglob("*")):
        written_by_runs = "__pycache__" in path.parts or any(
            path.is_relative_to(other) for other in own
        )
        if path.is_file() and not written_by_runs:
            status = path.stat()
            yield str(path.relative_to(folder)), status.st_size, status.st_mtime_ns
