"""Moves the files of a source's shards into parts of its folder, or back, and finds moved ones.

A stage moves them by renaming before it looks for finished work, so a source that grows over the
bound of `shard_places.py` is not made again. Each rename stands alone: killed between two of them,
the next run moves the rest. A job that was reading the files finds them at their other place.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from pipeline.store.layout import manifest_path, task_records
from pipeline.store.manifests.shard_places import PART, part_of

MOVING_THREADS = 16
"""Folders whose files are renamed at a time: on a network file system each rename waits."""


def settle_files(folder: Path, suffixes: Sequence[str], in_parts: bool) -> int:
    """Rename a source's files with these suffixes into parts of its folder, or out of them.

    Returns the number of files moved. A file that lies at both places, which no rename leaves
    behind, is deleted at both: nothing tells which one is right, and its work item makes it again.
    """
    if not folder.is_dir():
        return 0
    parts = {name: folder / name for name in _parts(folder)}
    if in_parts:
        moves: dict[Path, list[str]] = {}
        for name in _files(folder, suffixes):
            moves.setdefault(folder / part_of(name), []).append(name)
        steps = [(folder, target, names) for target, names in moves.items()]
    else:
        steps = [(path, folder, list(_files(path, suffixes))) for path in parts.values()]
    taken = {folder: set(_files(folder, suffixes))}

    def move(step: tuple[Path, Path, list[str]]) -> None:
        home, target, names = step
        target.mkdir(exist_ok=True)
        there = taken.get(target)
        if there is None:
            there = set(_files(target, suffixes))
        for name in names:
            if name in there:
                (home / name).unlink(missing_ok=True)
                (target / name).unlink(missing_ok=True)
            else:
                (home / name).rename(target / name)

    with ThreadPoolExecutor(MOVING_THREADS) as pool:
        list(pool.map(move, steps))
    if not in_parts:
        for path in parts.values():
            # What else is in there stays.
            with suppress(OSError):
                path.rmdir()
    return sum(len(names) for _, _, names in steps)


def existing_place(path: Path) -> Path:
    """Return where a shard's file lies: at `path`, or where moving has put it; else `path` itself."""
    if os.path.lexists(path):
        return path
    part = part_of(path.name)
    other = path.parent / part / path.name
    if path.parent.name == part and not os.path.lexists(other):
        other = path.parents[1] / path.name
    if os.path.lexists(other):
        return other
    return path


def stage_folder_of(path: Path) -> Path:
    """Return the stage's folder that holds a shard's file, in a part or not."""
    if path.parent.name != part_of(path.name) or _is_stage_folder(path.parents[1]):
        return path.parents[1]
    return path.parents[2]


def _is_stage_folder(folder: Path) -> bool:
    return manifest_path(folder).exists() or task_records(folder).exists()


def _parts(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if PART.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                yield entry.name


def _files(folder: Path, suffixes: Sequence[str]) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(tuple(suffixes)) and not entry.is_dir(follow_symlinks=False):
                yield entry.name
