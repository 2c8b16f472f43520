"""Groups of neighbouring raw files that one task reads; RedPajama has thousands of tiny files, and
huge ones.

A group and its key depend on the files in it and just around it, never on how many come before:
adding or removing a file changes its own group, and every other task of the source stays done.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import xxhash

from pipeline.corpus.file_search import InputFile

GROUP_BYTES = 64 * 2**20
"""Raw bytes of a group on average; a file of that size or more is a group of its own."""
GROUP_FILES = 1000
"""Files of a group on average, however small they are."""
MOST_SHARES = 4
"""A group ends at four times these averages at the latest."""


@dataclass(frozen=True)
class FileGroup:
    """The input of one task."""

    key: str
    """12 hexadecimal digits; stands in the names of the task, its shards and its rejected rows."""
    files: tuple[InputFile, ...]


def group_files(files: Sequence[InputFile]) -> list[FileGroup]:
    """Return groups of `files`, which are sorted by name.

    Filling groups up to a size would move every later boundary when a file is added. So boundaries
    are chosen by the files themselves, as content-defined chunking chooses them by bytes: a group
    ends after a file whose hashed name, as a number in [0, 1), is below the file's share of a
    group. A group then holds one share on average, and where a file was added the next boundary is
    the old one again. Lengths vary like those of a Poisson process; the bound of four shares cuts
    exp(-4) = 2 % of them, and only up to the next chosen boundary do such cuts move.
    """
    groups: list[FileGroup] = []
    waiting: list[InputFile] = []
    waiting_share = 0.0
    for file in files:
        share = file.size / GROUP_BYTES + 1 / GROUP_FILES
        if waiting and (file.size >= GROUP_BYTES or waiting_share + share > MOST_SHARES):
            groups.append(_group(waiting))
            waiting = []
            waiting_share = 0.0
        waiting.append(file)
        waiting_share += share
        if _hash(file) / 2**64 < share:
            groups.append(_group(waiting))
            waiting = []
            waiting_share = 0.0
    if waiting:
        groups.append(_group(waiting))
    if len(keys := {group.key: group for group in groups}) < len(groups):
        first, second = next((g, keys[g.key]) for g in groups if keys[g.key] is not g)
        # 48 bits: the chance is 2e-5 for 100,000 groups of a source. Their shards would overwrite
        # each other.
        raise RuntimeError(
            f"two groups have the key {first.key}: from {first.files[0].path}, "
            f"{second.files[0].path}"
        )
    return groups


def _group(files: Sequence[InputFile]) -> FileGroup:
    return FileGroup(f"{_hash(files[0]) >> 16:012x}", tuple(files))


def _hash(file: InputFile) -> int:
    return xxhash.xxh3_64_intdigest(file.name.encode())
