"""Built-in tasks with fewer questions than a run file asks for. Reads the tasks in run_dir."""

import math
from collections.abc import Collection
from pathlib import Path

from pipeline.evaluation.built_in.built_in_tasks import BUILT_IN, PATTERN_TASKS, QUESTIONS


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
