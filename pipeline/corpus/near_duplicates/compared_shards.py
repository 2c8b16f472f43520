"""The shards whose documents are compared, in the order of priority, as every work item sees them.

Writes the table of the shards once, as JSON in the folder of the comparison, and reads it there: a
list of thousands of paths in the arguments of every work item would be thousands times thousands.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TypedDict

import numpy as np

from pipeline.errors import DataError
from pipeline.store.files import fingerprint, read_json, write_json

BYTES_BITS = 48
"""Bits of a document's order that hold the size of its text; the group stands above them."""
LARGEST_TEXT = (1 << BYTES_BITS) - 1
MOST_GROUPS = 1 << (64 - BYTES_BITS)
"""Number of groups of shards that an order can tell apart."""


@dataclass(frozen=True)
class ComparedShard:
    """A shard of documents with its annotations, whose documents are compared with all others."""

    source: str
    stem: str
    """Stem of the shard's name; `source/stem/row` is the id of a document."""
    documents: Path
    """Parquet shard of documents."""
    checksum: str
    """Content of the shard, as the manifest of `prepare` lists it."""
    annotations: Path
    """Parquet file with the annotations of the shard, row by row."""
    keep: Path | None
    """Parquet file with a column `keep`, row by row: documents without it take no part; and a column
    `cut_out` of what is cut of them anyway. None where all take part as they are."""
    group: int
    """Documents of a smaller group come first: they stay. Several shards may be of one group."""
    rows: int
    """Number of documents in the shard."""
    file_bytes: int
    """Size of the Parquet shard of documents."""
    fingerprint: str
    """Hash of the documents, of the annotations that are read here, and of `keep`."""
    always_stays: bool = False
    """Whether none of its documents is removed or cut, whatever comes before it."""

    @property
    def name(self) -> str:
        """Name of the shard's work items and files."""
        return f"{self.source}~{self.stem}"

    def document_id(self, row: int) -> str:
        """Return the id of a document."""
        return f"{self.source}/{self.stem}/{row}"


class _StoredShard(TypedDict):
    source: str
    stem: str
    documents: str
    checksum: str
    annotations: str
    keep: str | None
    group: int
    rows: int
    file_bytes: int
    fingerprint: str
    always_stays: bool


@dataclass(frozen=True)
class ComparedShards:
    """All shards that are compared, sorted by group and name; documents are numbered in this order.

    A document comes before another one if its group is smaller, then if its text is longer (bytes of
    UTF-8), then if its number is smaller: by the name of its shard, then by its row.
    """

    shards: tuple[ComparedShard, ...]

    @cached_property
    def starts(self) -> np.ndarray:
        """Number of the first document of each shard and, last, of all documents, `(shards + 1,)`."""
        rows = np.array([shard.rows for shard in self.shards], np.uint64)
        return np.concatenate([np.zeros(1, np.uint64), np.cumsum(rows, dtype=np.uint64)])

    @property
    def documents(self) -> int:
        """Number of documents in all shards."""
        return int(self.starts[-1])

    @cached_property
    def fingerprint(self) -> str:
        """Hash of what numbers and orders documents."""
        return fingerprint(
            [[shard.name, shard.group, shard.rows, shard.always_stays] for shard in self.shards]
        )

    @property
    def fingerprint_of_table(self) -> str:
        """Hash of all that `write` writes."""
        return fingerprint([_stored(shard) for shard in self.shards])

    def shard_of(self, documents: np.ndarray) -> np.ndarray:
        """Return the shard of each document number, `(documents,) int64`."""
        return np.searchsorted(self.starts, documents, side="right") - 1

    def document_id(self, number: int) -> str:
        """Return the id of a document."""
        shard = int(np.searchsorted(self.starts, np.uint64(number), side="right")) - 1
        return self.shards[shard].document_id(number - int(self.starts[shard]))

    def order(self, shard: int, text_bytes: np.ndarray) -> np.ndarray:
        """Return the order of documents of a shard by the size of their texts, `(n,) uint64`.

        The smaller one comes first; of equal ones that with the smaller number.
        """
        group = np.uint64(self.shards[shard].group << BYTES_BITS)
        return group + (np.uint64(LARGEST_TEXT) - text_bytes.astype(np.uint64))

    @staticmethod
    def bytes_in_order(order: np.ndarray) -> np.ndarray:
        """Return the size of the texts with these orders, `(n,) uint64`."""
        return np.uint64(LARGEST_TEXT) - (order & np.uint64(LARGEST_TEXT))

    def write(self, path: Path) -> None:
        """Write the table of the shards."""
        write_json(path, [_stored(shard) for shard in self.shards])


def compared(shards: Sequence[ComparedShard]) -> ComparedShards:
    """Return the comparison of shards, which may come in any order."""
    groups = {shard.group for shard in shards}
    assert all(0 <= group < MOST_GROUPS for group in groups), "groups are numbered from 0"
    return ComparedShards(tuple(sorted(shards, key=lambda shard: (shard.group, shard.name))))


@lru_cache(maxsize=2)
def read_comparison(path: Path) -> ComparedShards:
    """Read the table of the shards, once in each process: its name changes with its content."""
    rows: list[_StoredShard] | None = read_json(path)
    if rows is None:
        raise DataError(f"{path}: is missing. Run `pipeline select` again.")
    return ComparedShards(tuple(_shard_of(row) for row in rows))


def _stored(shard: ComparedShard) -> _StoredShard:
    keep = None
    if shard.keep is not None:
        keep = str(shard.keep)
    return {
        "source": shard.source,
        "stem": shard.stem,
        "documents": str(shard.documents),
        "checksum": shard.checksum,
        "annotations": str(shard.annotations),
        "keep": keep,
        "group": shard.group,
        "rows": shard.rows,
        "file_bytes": shard.file_bytes,
        "fingerprint": shard.fingerprint,
        "always_stays": shard.always_stays,
    }


def _shard_of(row: _StoredShard) -> ComparedShard:
    keep = row["keep"]
    keep_path = None
    if keep is not None:
        keep_path = Path(keep)
    return ComparedShard(
        source=row["source"],
        stem=row["stem"],
        documents=Path(row["documents"]),
        checksum=row["checksum"],
        annotations=Path(row["annotations"]),
        keep=keep_path,
        group=row["group"],
        rows=row["rows"],
        file_bytes=row["file_bytes"],
        fingerprint=row["fingerprint"],
        always_stays=row["always_stays"],
    )
