"""Checks that built-in tasks have the solved examples and the questions that a run file asks for.

Makes the tasks in a temporary folder, as `evaluate` does; reads the questions in run_dir. Imports
no lm-eval.
"""

import math
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.config.mismatches import CLOZE
from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError
from pipeline.evaluation.asked_tasks import asked_tasks
from pipeline.evaluation.built_in.built_in_tasks import (
    BUILT_IN,
    PATTERN_TASKS,
    QUESTIONS,
    write_tasks,
)


def check_built_in_tasks(config: RunConfig) -> None:
    """Raise ConfigError where a built-in task has fewer solved examples than `evaluation.shots`.

    Also where so many examples leave no question. The questions of `heldout_cloze` are made from
    held-out documents, which need not exist yet: they are not looked at.
    """
    asked = {name: shots for name, shots in asked_tasks(config).items() if name in BUILT_IN}
    asked.pop(CLOZE, None)
    problems: list[str] = []
    with TemporaryDirectory() as place:
        folder = Path(place)
        write_tasks(folder, folder, [], asked, config.evaluation)
        for name, shots in asked.items():
            for task in _tasks_of(name):
                examples = _lines(folder / f"{task}.examples.jsonl")
                questions = _lines(folder / f"{task}.jsonl")
                most = max(shots, default=0)
                if most <= examples and questions > 0:
                    continue
                problems.append(
                    f"evaluation.shots = {most}: {task!r} is made here, with {examples:,} solved "
                    f"examples and {questions:,} questions besides; set fewer examples, or leave "
                    "the task out of evaluation.tasks"
                )
    if problems:
        raise ConfigError(problems)


def tasks_with_fewer_questions(
    folder: Path, asked: Collection[str], limit: int | None
) -> dict[str, tuple[int, int]]:
    """Return the built-in tasks with fewer questions than asked for: how many of how many.

    `folder`: the tasks as `write_tasks` wrote them. `limit`: `evaluation.limit`.
    """
    wanted = limit or QUESTIONS
    fewer: dict[str, tuple[int, int]] = {}
    for name in BUILT_IN:
        if name not in asked:
            continue
        for task in _tasks_of(name):
            of_task = wanted
            if task in PATTERN_TASKS:
                of_task = math.ceil(wanted / len(PATTERN_TASKS))
            questions = _lines(folder / f"{task}.jsonl")
            if questions < of_task:
                fewer[task] = (questions, of_task)
    return fewer


def _tasks_of(name: str) -> tuple[str, ...]:
    """Return the tasks of a built-in name: those of the group `patterns`, or itself."""
    if name == "patterns":
        return PATTERN_TASKS
    return (name,)


def _lines(path: Path) -> int:
    return len(path.read_bytes().splitlines())
