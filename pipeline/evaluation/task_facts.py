"""Checks of the evaluation's tasks before there is a model. Imports no lm-eval.

A process of its own (`task_check.py`) builds the tasks. Reads the files below
`evaluation.task_paths`.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError
from pipeline.evaluation.built_in.built_in_tasks import BUILT_IN, PATTERN_TASKS
from pipeline.model.model_facts import model_facts
from pipeline.store.files import fingerprint
from pipeline.store.records import Json
from pipeline.work.separate_checks import run_separate_check

VERSION = 1
"""Increased when `task_check` refuses or returns something else: older verdicts are not used."""
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
    """Return the tasks of the run file that are not built in."""
    return [name for name in dict.fromkeys(config.evaluation.tasks) if name not in BUILT_IN]


def check_named_tasks(config: RunConfig) -> None:
    """Raise ConfigError for folders that do not exist, and tasks that would be scored twice."""
    problems = [
        f"evaluation.task_paths: {folder} is not a folder; use one with task files of lm-eval, or "
        "leave it out"
        for folder in config.evaluation.task_paths
        if not folder.is_dir()
    ]
    names = config.evaluation.tasks
    problems += [
        f"evaluation.tasks: {name} is a part of patterns, which is also listed; leave one of them "
        "out"
        for name in dict.fromkeys(names)
        if name in PATTERN_TASKS and "patterns" in names
    ]
    if problems:
        raise ConfigError(problems)


def check_built_tasks(config: RunConfig) -> None:
    """Raise ConfigError for tasks that do not exist, lack data, or write more than a context."""
    if not foreign_tasks(config) or not config.evaluation.own_shots:
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


def describe_task_files(config: RunConfig) -> dict[str, str | None]:
    """Return a hash of the files in each folder of tasks, for the fingerprint of `evaluate`.

    The hash is of the names, sizes and modification times; None for a folder that is gone.
    """
    if not foreign_tasks(config):
        return {}
    own = (config.paths.data_dir, config.paths.run_dir)
    return {
        f"files of {folder}": fingerprint(list(_files_below(folder, own)))
        if folder.is_dir()
        else None
        for folder in config.evaluation.task_paths
    }


def _what_decides(config: RunConfig) -> dict[str, Json]:
    """Return everything that decides the verdict of `task_check` besides library versions."""
    settings = config.evaluation
    return {
        "version": VERSION,
        "tasks": foreign_tasks(config),
        "shots": sorted(set(settings.own_shots)),
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
