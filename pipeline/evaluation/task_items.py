"""The questions of a public task, read for the commands of `evaluation`.

Reads `items.parquet` of the task in `evaluation.tasks_dir`.
"""

import difflib
from pathlib import Path

from pipeline.corpus.decontaminating.item_texts import TaskItems, read_item_texts
from pipeline.corpus.decontaminating.task_groups import GROUPS
from pipeline.errors import DataError, UserError
from pipeline.evaluation.task_data.catalogue import CATALOGUE
from pipeline.evaluation.task_data.source_records import how_to_fetch
from pipeline.logs import counted_noun
from pipeline.store.tasks_folder import TasksFolder


def read_task_items(tasks_dir: Path, task: str) -> TaskItems:
    """Read the questions of a task.

    Raises UserError for a task that is not in the folder, DataError for a damaged or missing file.
    """
    folder = TasksFolder(tasks_dir)
    if not folder.items(task).is_file():
        raise _not_there(folder, task)
    return read_item_texts(folder, task, how_to_fetch(task, folder))


def _not_there(folder: TasksFolder, task: str) -> UserError:
    """Return the error for a task whose questions are not in the folder as texts."""
    # Something of it is there, or it could be.
    if folder.source(task).exists():
        return DataError(f"{folder.items(task)}: is missing. {how_to_fetch(task, folder)}")
    missing = f"{task}: its questions are not in {folder.path}"
    if task in GROUPS:
        return UserError(
            f"{task}: is a group of tasks. Name one of them, such as {GROUPS[task][0]}."
        )
    if task in CATALOGUE:
        return UserError(f"{missing}. {how_to_fetch(task, folder)}")

    # It is no public task.
    names = [name for name in folder.names() if folder.items(name).is_file()]
    close = difflib.get_close_matches(task, sorted({*names, *CATALOGUE}), n=3)
    hint = ""
    if close:
        hint = f"; did you mean {' or '.join(close)}?"
    return UserError(
        f"{missing}, which has those of {counted_noun(len(names), 'task')}, and no public task has "
        f"this name{hint or '.'} `pipeline tasks list {folder.path} --known` shows all names."
    )
