"""`pipeline tasks`: fetch, list and verify the questions of public tasks.

Reads and writes `evaluation.tasks_dir`. Only `fetch` imports lm-eval.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from pipeline.config.shipped_files import SUITES, shipped_files
from pipeline.config.suites import load_suite
from pipeline.corpus.decontaminating.task_groups import GROUPS, members_of
from pipeline.errors import DataError, first_of
from pipeline.evaluation.built_in.built_in_tasks import BUILT_IN
from pipeline.evaluation.task_data.catalogue import CATALOGUE
from pipeline.evaluation.task_data.source_records import (
    SourceRecord,
    damaged_questions,
    read_source,
)
from pipeline.harmless_text import print_plain
from pipeline.logs import console, counted_noun, note, print_json, print_wide, warn
from pipeline.store.tasks_folder import TasksFolder

MOST_NAMES = 4
"""Maximum number of tasks that a row of suites names."""
LEAST_WIDTH = 120
"""Columns of the tables: a narrower terminal breaks lines rather than words."""


class ListedTask(TypedDict):
    """A task, or a whole group of tasks, as `list --json` prints it."""

    name: str
    tasks: int
    """Number of tasks: more than 1 for a group."""
    questions: int
    scored_split: str
    examples_from: str
    licence: str
    licence_source: str
    origin: str
    suites: list[str]
    """Suites that ask it."""


class ListedSuite(TypedDict):
    """A suite, as `list --json` prints it."""

    name: str
    description: str
    tasks: list[str]
    absent: list[str]
    """Tasks whose questions `pipeline tasks fetch` brings and that are not here."""
    missing: dict[str, str]
    """Task that the suite is scored without -> reason."""


def fetch_questions(names: Sequence[str], folder: Path, own_files: Path | None) -> None:
    """Fetch suites, groups and tasks into a folder; see `task_data/fetch.py` for the errors."""
    from pipeline.evaluation.task_data.fetch import fetch_tasks

    tasks = TasksFolder(folder.absolute())
    fetch_tasks(names, tasks, own_files)
    note(f"{folder}: holds {counted_noun(len(tasks.names()), 'task')}")


def list_questions(folder: Path, as_json: bool, with_known: bool) -> None:
    """Print the tasks in a folder and all suites; `with_known`: also what can be fetched."""
    # What is in the folder, and what could be.
    tasks = TasksFolder(folder.absolute())
    records, damaged = _readable_tasks(tasks)
    suites = [_listed_suite(name, list(records)) for name in shipped_files(SUITES)]
    listed = list(_listed_tasks(records, suites))
    known: list[str] = []
    if with_known:
        known = sorted({*CATALOGUE, *GROUPS} - {m for group in GROUPS for m in members_of(group)})

    # Print it.
    if as_json:
        content = {"folder": str(folder), "tasks": listed, "damaged": damaged, "suites": suites}
        print_json({**content, "known": known})
        return
    if listed:
        _print_tasks(listed)
    for name, flaw in damaged.items():
        warn(f"{name} is damaged: {flaw}")
    if not listed and not damaged:
        note(
            f"{folder}: holds no tasks. `pipeline tasks fetch small --to {folder}` brings those that "
            "small models can do"
        )
    console.print()
    _print_suites(suites)
    for name in known:
        task = CATALOGUE.get(name)
        licence = "licences of its tasks"
        if task is not None:
            licence = f"licence {task.licence}"
        print_plain(f"{name}: {licence}")


def _readable_tasks(tasks: TasksFolder) -> tuple[dict[str, SourceRecord], dict[str, str]]:
    """Return the records of a folder's tasks, and of those that are damaged the reason, by name.

    A task whose files have an old format is in neither.
    """
    records: dict[str, SourceRecord] = {}
    damaged: dict[str, str] = {}
    for name in tasks.names():
        try:
            record = read_source(tasks, name)
        except DataError as error:
            damaged[name] = str(error)
            continue
        if record is not None:
            records[name] = record
    return records, damaged


def verify_questions(folder: Path) -> None:
    """Compare every byte with its checksum. Raises DataError naming each damaged file."""
    tasks = TasksFolder(folder.absolute())
    names = tasks.names()
    if not names:
        raise DataError(
            f"{folder}: holds no tasks. Fetch some with `pipeline tasks fetch SUITE --to {folder}`."
        )
    problems = [problem for name in names for problem in damaged_questions(tasks, name)]
    if problems:
        raise DataError("\n".join([f"{folder}: damaged", *(f"  - {line}" for line in problems)]))
    note(f"{counted_noun(len(names), 'task')}: every byte is as it was written")


def _listed_suite(name: str, present: Sequence[str]) -> ListedSuite:
    suite = load_suite(name, present)
    here = {*present, *BUILT_IN}
    absent = [
        task.name
        for task in suite.tasks
        if task.name not in BUILT_IN and not here.issuperset(members_of(task.name))
    ]
    return {
        "name": name,
        "description": suite.description,
        "tasks": [task.name for task in suite.tasks],
        "absent": absent,
        "missing": suite.missing,
    }


def _listed_tasks(
    records: Mapping[str, SourceRecord], suites: Sequence[ListedSuite]
) -> Iterable[ListedTask]:
    """Yield a row for each task, and one for all tasks of a group that is complete."""
    for name, members in _rows_of(list(records)):
        complete = [records[member] for member in members]
        first = complete[0]
        yield {
            "name": name,
            "tasks": len(complete),
            "questions": sum(record["items"]["rows"] for record in complete),
            "scored_split": first["scored_split"],
            "examples_from": first["examples_from"],
            "licence": first["licence"],
            "licence_source": first["licence_source"],
            "origin": first["origin"],
            "suites": [suite["name"] for suite in suites if name in suite["tasks"]],
        }


def _rows_of(names: Sequence[str]) -> Iterable[tuple[str, Sequence[str]]]:
    """Yield the names of rows, each with its tasks; the largest complete groups come first."""
    left = set(names)
    groups = sorted(GROUPS, key=lambda group: -len(members_of(group)))
    rows: list[tuple[str, Sequence[str]]] = []
    for group in groups:
        if left.issuperset(members_of(group)):
            rows.append((group, members_of(group)))
            left -= set(members_of(group))
    rows += [(name, (name,)) for name in left]
    return sorted(rows)


def _print_tasks(listed: Sequence[ListedTask]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("task")
    table.add_column("questions", justify="right")
    for heading in ("scored", "examples from", "licence", "suites"):
        table.add_column(heading)
    for task in listed:
        name = task["name"]
        if task["tasks"] > 1:
            name = f"{name} ({task['tasks']} tasks)"
        table.add_row(
            name,
            f"{task['questions']:,}",
            task["scored_split"],
            task["examples_from"],
            task["licence"],
            ", ".join(task["suites"]),
        )
    print_wide(table, LEAST_WIDTH)


def _print_suites(suites: Sequence[ListedSuite]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("suite", "here", "what it is", "only from elsewhere, or not at all"):
        table.add_column(heading)
    for suite in suites:
        here = len(suite["tasks"]) - len(suite["absent"])
        table.add_row(
            suite["name"],
            f"{here} of {len(suite['tasks'])}",
            suite["description"],
            first_of(list(suite["missing"]), MOST_NAMES),
        )
    print_wide(table, LEAST_WIDTH)
