"""The files of tasks whose outputs lie in the folder of a source, or in parts of it.

A task `<source>~...` lists its files by logical names (`store/manifests/shard_places.py`), and says
with `outputs_in_parts` where they lie. Renames finished files of a stage's folder.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pipeline.logs import note
from pipeline.store.manifests.moved_files import settle_files
from pipeline.store.manifests.shard_places import placed
from pipeline.work.task import Task

RecordT = TypeVar("RecordT")


def settle_outputs(
    folder: Path, tasks: Sequence[Task], suffixes: Sequence[str], below: str = ""
) -> None:
    """Move finished files with these suffixes to their place, where a source has grown or shrunk.

    `folder`: the stage's; `below`: a folder in each source's that holds the files. To be called
    before `run_tasks`, which then finds the work done.
    """
    in_parts: dict[str, bool] = {}
    for task in tasks:
        source = task.name.partition("~")[0]
        in_parts[source] = in_parts.get(source, False) or task.outputs_in_parts
    for source, is_in_parts in in_parts.items():
        moved = settle_files(folder / source / below, suffixes, is_in_parts)
        if moved:
            note(f"source {source}: {moved:,} finished files are moved, and not made again")


def placed_files(
    tasks: Sequence[Task], files: Mapping[str, Mapping[str, RecordT]]
) -> dict[str, RecordT]:
    """Return path below the stage's folder -> record of all files of some tasks.

    `files`: name of each task -> logical name of a file -> record.
    """
    return {
        placed(name, task.outputs_in_parts): record
        for task in tasks
        for name, record in files[task.name].items()
    }
