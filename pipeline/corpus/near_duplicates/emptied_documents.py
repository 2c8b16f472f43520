"""Documents of which nothing is left, in favour of which no other document is removed.

A document that is compared may be blank once its repeated paragraphs are cut. Whoever finds that
writes the rows of each shard, and compares again: those documents may still lose to others, but
none to them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.corpus.near_duplicates.comparison_folder import ComparisonFolder
from pipeline.corpus.near_duplicates.partition_file import PartsFile, read_records, write_records
from pipeline.corpus.near_duplicates.shingles import HASH
from pipeline.store.files import fingerprint
from pipeline.store.records import FileRecord

ROW = np.dtype("<u4")


@dataclass(frozen=True)
class EmptiedDocuments:
    """The rows of each shard, and how far the comparisons before came."""

    paths: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """`source~stem` of each shard that has any -> the file of its rows."""
    checksums: Mapping[str, str] = field(default_factory=dict[str, str])
    """`source~stem` of each shard that has any -> checksum of that file."""
    rounds: int = 0
    """Rounds of the comparisons before this one, whose files stay beside its own."""
    compared: int = 0
    """Pairs that these have compared."""

    @property
    def digest(self) -> str:
        """Hash of all rows."""
        return fingerprint(sorted(self.checksums.items()))


def rows_in_groups(folder: Path, shard: str) -> np.ndarray:
    """Return the rows of a shard that share a band with others, ascending, `(n,) int64`.

    `folder`: of the comparison, which has been made. `shard`: `source~stem`.
    """
    with PartsFile(ComparisonFolder(folder).sets.of_shard(shard), HASH) as sets:
        return np.flatnonzero(np.diff(sets.bounds().astype(np.int64)))


def write_emptied(path: Path, rows: list[int]) -> FileRecord:
    """Write ascending rows of a shard; return size and checksum of the file."""
    return write_records(path, np.array(rows, ROW))


def is_emptied(path: Path | None, rows: int) -> np.ndarray:
    """Tell of each of a shard's `rows` whether the file has it, `(rows,) bool`."""
    emptied = np.zeros(rows, bool)
    if path is not None:
        emptied[read_records(path, ROW)] = True
    return emptied
