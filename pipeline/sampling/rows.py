"""How the tokens of one source are cut into rows of `sequence_length` inputs, each with the token
after it as target.

A row is made of pieces: stretches of the stream, of which every token but the last is an input and
every token but the first a target. In one epoch every target comes exactly once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from pipeline.sampling.packed_rows import PackedRows
from pipeline.sampling.stream import TokenStream

BLOCK_BYTES = 1 << 20
"""Of neighbouring rows that `data.shuffle: block` reads at once."""
MOST_OPEN_INDEXES = 4096
"""Of packed rows, per source; the one used longest ago is closed."""


@dataclass(frozen=True)
class RowPieces:
    """Stretches of a stream, those of one row one after another, rows in the order they were asked
    for."""

    row: np.ndarray
    """`(pieces,) int64`: place of the row among those asked for."""
    start: np.ndarray
    """`(pieces,) int64`: its first input, a token of the stream."""
    length: np.ndarray
    """`(pieces,) int64`: its inputs; as many targets, each one token further on."""

    def offsets(self) -> np.ndarray:
        """Return where in its row each piece begins, `(pieces,) int64`."""
        before = np.cumsum(self.length) - self.length
        first_of_row = np.r_[True, np.diff(self.row) != 0] if len(self.row) else np.zeros(0, bool)
        return before - np.maximum.accumulate(np.where(first_of_row, before, 0))


class Rows(Protocol):
    """The rows of one source."""

    @property
    def count(self) -> int:
        """Rows of an epoch."""
        ...

    @property
    def block(self) -> int:
        """Neighbouring rows that are about BLOCK_BYTES of the stream."""
        ...

    def pieces(self, rows: np.ndarray) -> RowPieces:
        """Return what rows `(n,)` are made of."""
        ...

    def overlapping(self, start: int, end: int) -> np.ndarray:
        """Return the rows `(n,) int64` that have a token of the stream's `[start, end)` as input or
        target."""
        ...


@dataclass(frozen=True)
class Concatenated:
    """Windows over the stream of all documents (Brown et al. 2020, appendix B); the last one is
    padded."""

    tokens: int
    sequence_length: int
    token_bytes: int

    @property
    def count(self) -> int:
        return max(0, -(-(self.tokens - 1) // self.sequence_length))

    @property
    def block(self) -> int:
        return max(1, BLOCK_BYTES // (self.sequence_length * self.token_bytes))

    def pieces(self, rows: np.ndarray) -> RowPieces:
        start = np.asarray(rows, np.int64) * self.sequence_length
        return RowPieces(
            np.arange(len(start)), start, np.minimum(self.sequence_length, self.tokens - 1 - start)
        )

    def overlapping(self, start: int, end: int) -> np.ndarray:
        first = (
            max(0, start - 1) // self.sequence_length
        )  # a row's last target is the next one's first input
        last = min(self.count - 1, (end - 1) // self.sequence_length)
        return np.arange(first, last + 1)


class Packed:
    """Whole documents packed into rows (`best_fit.py`), over all shards of a source; index files
    are opened when needed."""

    def __init__(
        self, stream: TokenStream, sequence_length: int, files: Sequence[tuple[Path, Path, int]]
    ) -> None:
        """Take, in the stream's order, each shard's `.bin`, its index, and the rows in it."""
        self.count = sum(rows for _, _, rows in files)
        self.block = max(1, BLOCK_BYTES // (sequence_length * stream.dtype.itemsize))
        self._sequence_length = sequence_length
        starts = dict(zip(stream.paths, stream.starts.tolist(), strict=False))
        kept = [(starts[shard], path, rows) for shard, path, rows in files if rows]
        self._starts = np.array([start for start, _, _ in kept], np.int64)
        self._paths = [path for _, path, _ in kept]
        self._first_rows = np.cumsum([0, *(rows for _, _, rows in kept)])
        self._open = lru_cache(MOST_OPEN_INDEXES)(
            lambda shard: PackedRows(self._paths[shard], sequence_length)
        )

    def pieces(self, rows: np.ndarray) -> RowPieces:
        shards = np.searchsorted(self._first_rows, rows, side="right") - 1
        parts = []
        for shard in np.unique(shards).tolist():
            here = np.flatnonzero(shards == shard)
            index, starts, lengths = self._open(shard).pieces_of_rows(
                rows[here] - self._first_rows[shard]
            )
            parts.append((here[index], starts + self._starts[shard], lengths.astype(np.int64)))
        row, start, length = (np.concatenate(part) for part in zip(*parts, strict=True))
        in_order = np.argsort(row, kind="stable")
        return RowPieces(row[in_order], start[in_order], length[in_order])

    def overlapping(self, start: int, end: int) -> np.ndarray:
        shard = int(np.searchsorted(self._starts, start, side="right")) - 1
        if shard < 0:
            return np.zeros(0, np.int64)
        first = int(self._starts[shard])
        return (
            self._open(shard).rows_overlapping(start - first, end - first) + self._first_rows[shard]
        )
