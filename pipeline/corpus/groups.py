"""Groups of neighbouring raw files, each read by one task; a corpus may have thousands of tiny files.

A group and its key depend on the files in it and just around it, never on how many come before:
adding or removing a file changes only its own group, and the other tasks of the source stay done.
Reads and writes no file.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import xxhash

from pipeline.corpus.file_search import InputFile

GROUP_BYTES = 64 * 2**20
"""Average raw bytes of a group; a file of this size or more is a group of its own."""
GROUP_FILES = 1000
"""Average number of files of a group, however small they are."""
MOST_SHARES = 4
"""A group ends at the latest when it holds four times these averages."""


@dataclass(frozen=True)
class FileGroup:
    """The raw files that one task reads."""

    key: str
    """12 hexadecimal digits, part of the names of the task, its shards and its rejected rows."""
    files: tuple[InputFile, ...]


def group_files(files: Sequence[InputFile]) -> list[FileGroup]:
    """Divide `files`, which are sorted by name, into groups.

    Filling groups up to a size would move every later boundary when a file is added. So the files
    themselves choose the boundaries, as in content-defined chunking: a group ends after a file
    whose hashed name, as a number in [0, 1), is below the file's share of a group. Then a group
    holds one share on average, and after an added file the next boundary is the old one again. The
    sizes of groups vary like the intervals of a Poisson process; the bound of four shares cuts
    exp(-4) = 2 % of them, and such a cut moves others only up to the next chosen boundary.
    """
    groups: list[FileGroup] = []
    waiting: list[InputFile] = []
    waiting_share = 0.0
    for file in files:
        # End the group before a file that would make it too large.
        share = file.size / GROUP_BYTES + 1 / GROUP_FILES
        if waiting and (file.size >= GROUP_BYTES or waiting_share + share > MOST_SHARES):
            groups.append(_group(waiting))
            waiting = []
            waiting_share = 0.0
        # End it after a file whose hash chooses a boundary.
        waiting.append(file)
        waiting_share += share
        if _hash(file) / 2**64 < share:
            groups.append(_group(waiting))
            waiting = []
            waiting_share = 0.0
    if waiting:
        groups.append(_group(waiting))
    _check_keys_differ(groups)
    return groups


def _check_keys_differ(groups: Sequence[FileGroup]) -> None:
    """Raise RuntimeError where two groups have the same key: their shards would overwrite each other.

    A key has 48 bits: for 100,000 groups of a source the chance is 2e-5.
    """
    group_with_key: dict[str, FileGroup] = {}
    for group in groups:
        other = group_with_key.setdefault(group.key, group)
        if other is not group:
            raise RuntimeError(
                f"two groups have the key {group.key}: from {other.files[0].path}, "
                f"{group.files[0].path}"
            )


def _group(files: Sequence[InputFile]) -> FileGroup:
    return FileGroup(f"{_hash(files[0]) >> 16:012x}", tuple(files))


def _hash(file: InputFile) -> int:
    return xxhash.xxh3_64_intdigest(file.name.encode())
