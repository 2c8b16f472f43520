"""What is decided of each document so far: one byte a document, of all shards in one file.

Work items of a round read the file of the round before, and each shard's item writes a part of the
next one.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TypedDict

import numpy as np

from pipeline.corpus.near_duplicates.compared_shards import read_comparison
from pipeline.corpus.near_duplicates.comparison_folder import ComparisonFolder
from pipeline.corpus.near_duplicates.partition_file import read_records
from pipeline.errors import DataError
from pipeline.store.checksummed_file import ChecksummedFile
from pipeline.store.curation.selection_folder import SELECT_AGAIN
from pipeline.store.files import file_record, read_json, temporary_path
from pipeline.store.records import FileRecord

STATUS = np.dtype("u1")
UNDECIDED = 0
STAYS = 1
LOST = 2
"""Removed; a document of higher priority than the one it lost to may still be found."""
REMOVED = 3
"""Removed, and it is certain which document it lost to."""
EMPTIED = 4
"""Loses to no other, and no other loses to it: nothing is left of it (`emptied_documents.py`)."""


class MergedStatus(TypedDict):
    """Result of the work item that joins the parts of all shards."""

    files: Mapping[str, FileRecord]


def is_removed(status: np.ndarray) -> np.ndarray:
    """Tell which documents are removed, or emptied, `(n,) bool`."""
    return status >= LOST


def needs_comparing(status: np.ndarray) -> np.ndarray:
    """Tell which documents may still be found to be like one that stays, `(n,) bool`."""
    return (status == UNDECIDED) | (status == LOST)


def write_status(table: Path, round_of_shard: Path, number: int, folder: Path) -> MergedStatus:
    """Join the statuses of all shards into the file of a round.

    `round_of_shard`: JSON list with the last round of each shard.
    """
    comparison = read_comparison(table)
    steps = ComparisonFolder(folder)
    rounds: list[int] = read_json(round_of_shard)
    output = steps.round(number).status
    path = output.single
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        with ChecksummedFile(temporary) as file:
            for shard, last in zip(comparison.shards, rounds, strict=True):
                part = read_records(steps.round(last).status_parts.of_shard(shard.name), STATUS)
                file.write(part.data)
            file.fsync()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return {"files": {output.name(path): file.record()}}


@lru_cache(maxsize=1)
def read_status(path: Path, checksum: str) -> np.ndarray:
    """Return the status of each document, `(documents,) uint8`, mapped into memory.

    Raises DataError where the file has another checksum.
    """
    if not path.is_file() or file_record(path)["checksum"] != checksum:
        raise DataError(f"{path}: is missing or damaged. {SELECT_AGAIN}")
    if not path.stat().st_size:
        return np.zeros(0, STATUS)
    return np.memmap(path, STATUS, "r")
