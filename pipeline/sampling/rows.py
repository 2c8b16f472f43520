"""Rows: how the tokens of one source are cut into inputs and targets.

A row has `sequence_length` inputs; the target of an input is the token after it. A row is made of
pieces: ranges of the stream in which every token but the last is an input, and every token but the
first a target. In one epoch every target comes exactly once. Packed rows read their index files.
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
"""Bytes of neighbouring rows that `data.shuffle: block` reads at once."""
MOST_OPEN_INDEXES = 4096
"""Index files of packed rows kept open per source; the one used longest ago is closed."""


@dataclass(frozen=True)
class RowPieces:
    """The pieces of some rows, row by row, in the order in which the rows were asked for."""

    row: np.ndarray
    """`(pieces,) int64`: index of the piece's row among the rows that were asked for."""
    start: np.ndarray
    """`(pieces,) int64`: the piece's first input, as a position in the stream."""
    length: np.ndarray
    """`(pieces,) int64`: number of inputs; there are as many targets, each one token further on."""

    def offsets(self) -> np.ndarray:
        """Return the offset of each piece within its row, `(pieces,) int64`."""
        before = np.cumsum(self.length) - self.length
        first_of_row = np.ones(len(self.row), bool)
        first_of_row[1:] = np.diff(self.row) != 0
        return before - np.maximum.accumulate(np.where(first_of_row, before, 0))


class Rows(Protocol):
    """The rows of one source."""

    @property
    def count(self) -> int:
        """Number of rows in an epoch."""
        ...

    @property
    def block(self) -> int:
        """Number of neighbouring rows that hold about BLOCK_BYTES of the stream."""
        ...

    def pieces(self, rows: np.ndarray) -> RowPieces:
        """Return the pieces of rows `(n,)`."""
        ...

    def overlapping(self, start: int, end: int) -> np.ndarray:
        """Return the rows `(n,) int64` that have a token of `[start, end)` as input or target."""
        ...


@dataclass(frozen=True)
class Concatenated:
    """Windows over the stream of all documents; the last one is padded.

    Source: Brown et al. 2020, appendix B.
    """

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
        # The last target of a row is the first input of the next row.
        first = max(0, start - 1) // self.sequence_length
        last = min(self.count - 1, (end - 1) // self.sequence_length)
        return np.arange(first, last + 1)


@dataclass(frozen=True)
class EvenlySpread:
    """Some rows of a source, evenly spread over it, as if it had no others."""

    whole: Concatenated
    at_most: int

    @property
    def count(self) -> int:
        return min(self.whole.count, self.at_most)

    @property
    def block(self) -> int:
        return self.whole.block

    @property
    def tokens(self) -> int:
        """Number of targets in an epoch."""
        return int(self.pieces(np.arange(self.count)).length.sum())

    def pieces(self, rows: np.ndarray) -> RowPieces:
        return self.whole.pieces(self._in_whole(np.asarray(rows, np.int64)))

    def overlapping(self, start: int, end: int) -> np.ndarray:
        reading = self.whole.overlapping(start, end)
        return np.flatnonzero(np.isin(self._in_whole(np.arange(self.count)), reading))

    def _in_whole(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows of the whole source that some rows are."""
        return rows * self.whole.count // self.count


class Packed:
    """Rows of whole documents (`best_fit.py`) over all shards of a source.

    Index files are opened when they are needed.
    """

    def __init__(
        self, stream: TokenStream, sequence_length: int, files: Sequence[tuple[Path, Path, int]]
    ) -> None:
        """Open nothing yet. `files`: `.bin`, index and number of rows of each shard, in order."""
        self.count = sum(rows for _, _, rows in files)
        self.block = max(1, BLOCK_BYTES // (sequence_length * stream.dtype.itemsize))
        self._sequence_length = sequence_length
        starts = dict(zip(stream.paths, stream.starts.tolist(), strict=False))
        tokens = dict(zip(stream.paths, np.diff(stream.starts).tolist(), strict=True))
        kept = [(shard, path, rows) for shard, path, rows in files if rows]
        self._starts = np.array([starts[shard] for shard, _, _ in kept], np.int64)
        self._tokens = [tokens[shard] for shard, _, _ in kept]
        self._paths = [path for _, path, _ in kept]
        self._first_rows = np.cumsum([0, *(rows for _, _, rows in kept)])

        def open_index(shard: int) -> PackedRows:
            return PackedRows(self._paths[shard], sequence_length, self._tokens[shard])

        self._open = lru_cache(MOST_OPEN_INDEXES)(open_index)

    def pieces(self, rows: np.ndarray) -> RowPieces:
        shards = np.searchsorted(self._first_rows, rows, side="right") - 1
        row: list[np.ndarray] = []
        start: list[np.ndarray] = []
        length: list[np.ndarray] = []
        for shard in np.unique(shards).tolist():
            here = np.flatnonzero(shards == shard)
            index, starts, lengths = self._open(shard).pieces_of_rows(
                rows[here] - self._first_rows[shard]
            )
            row.append(here[index])
            start.append(starts + self._starts[shard])
            length.append(lengths.astype(np.int64))
        rows_of_pieces = np.concatenate(row)
        in_order = np.argsort(rows_of_pieces, kind="stable")
        return RowPieces(
            rows_of_pieces[in_order],
            np.concatenate(start)[in_order],
            np.concatenate(length)[in_order],
        )

    def overlapping(self, start: int, end: int) -> np.ndarray:
        shard = int(np.searchsorted(self._starts, start, side="right")) - 1
        if shard < 0:
            return np.zeros(0, np.int64)
        first = int(self._starts[shard])
        return (
            self._open(shard).rows_overlapping(start - first, end - first) + self._first_rows[shard]
        )
