"""Which pieces of a tokens shard make each training row: one index file per shard, written once,
memory-mapped.

`.rows`, little-endian: magic `BESTFIT\\0`, version of the stage `pack` uint32, sequence length uint32, rows uint64,
pieces uint64, then the first piece of each row and the number of pieces, int64[rows + 1]; where
each piece starts in the shard, in tokens, int64[pieces]; each piece's positions, int32[pieces]. The
pieces of a row stand in the order of their starts.

A piece (start, length) has the inputs tokens[start : start + length] and the targets one token
further on.
"""

import shutil
import struct
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np

from pipeline.errors import DataError
from pipeline.store import versions
from pipeline.store.checksummed_file import ChecksummedFile
from pipeline.store.files import temporary_path
from pipeline.store.layout import manifest_path
from pipeline.store.records import FileRecord

MAGIC = b"BESTFIT\x00"
HEADER = struct.Struct("<8sIIQQ")
"""32 bytes, so that every array is aligned."""
BLOCK_BYTES = 1 << 20
SCANNED_PIECES = 1 << 20
"""Pieces compared at once in `rows_overlapping`."""


class RowsWriter:
    """Writes one file, group by group; memory does not grow with the rows.

    Use as a context manager: the file appears under its name on `finish`, and leaving without it
    leaves nothing.
    """

    def __init__(self, path: Path, sequence_length: int) -> None:
        self.rows = self.pieces = 0
        self._path = path
        self._sequence_length = sequence_length
        path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = temporary_path(path)
        self._stack = ExitStack()

    def __enter__(self) -> "RowsWriter":
        # How long each array gets is known at the end: until then it is a file that has no name.
        self._firsts, self._starts, self._lengths = (
            self._nameless(),
            self._nameless(),
            self._nameless(),
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        self._temporary.unlink(missing_ok=True)

    def add(self, counts: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> None:
        """Append rows: pieces in each `(rows,)`, then the pieces' starts and lengths `(pieces,)`,
        row by row."""
        ends = self.pieces + np.cumsum(counts, dtype=np.int64)
        self._firsts.write((ends - counts).astype("<i8").data)
        self._starts.write(starts.astype("<i8", copy=False).data)
        self._lengths.write(lengths.astype("<i4").data)
        self.rows += len(counts)
        self.pieces += len(starts)

    def finish(self) -> FileRecord:
        """Complete the file and return its record."""
        self._firsts.write(np.array([self.pieces], "<i8").data)
        with ChecksummedFile(self._temporary) as file:
            file.write(
                HEADER.pack(MAGIC, versions.PACK, self._sequence_length, self.rows, self.pieces)
            )
            for part in (self._firsts, self._starts, self._lengths):
                part.seek(0)
                shutil.copyfileobj(part, file, BLOCK_BYTES)
            file.fsync()
        self._temporary.replace(self._path)
        return file.record()

    def _nameless(self) -> IO[bytes]:
        return self._stack.enter_context(tempfile.TemporaryFile(dir=self._path.parent))


class PackedRows:
    """The rows of one shard, memory-mapped; opening it reads the header only."""

    def __init__(self, path: Path, sequence_length: int) -> None:
        """Raises DataError where the file is missing, of another format or sequence length, or of a
        wrong size."""
        self._path = path
        self._sequence_length = sequence_length
        try:
            content = np.asarray(np.memmap(path, np.uint8, "r"))
            magic, version, length, rows, pieces = HEADER.unpack(content[: HEADER.size].tobytes())
        except (OSError, ValueError, struct.error) as error:
            raise self._damaged(f"cannot be read ({error})") from None
        if magic != MAGIC or version != versions.PACK:
            raise self._damaged(f"is no index of packed rows, version {versions.PACK}")
        if length != sequence_length:
            raise self._damaged(f"holds rows of {length} positions instead of {sequence_length}")
        starts = HEADER.size + 8 * (rows + 1)
        lengths = starts + 8 * pieces
        if len(content) != lengths + 4 * pieces:
            raise self._damaged(f"has {len(content)} bytes instead of {lengths + 4 * pieces}")
        self.rows: int = rows
        self._first_piece = content[HEADER.size : starts].view("<i8")
        self._starts, self._lengths = (
            content[starts:lengths].view("<i8"),
            content[lengths:].view("<i4"),
        )

    def pieces(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the starts and lengths of a row's pieces, views of the file. Raises DataError
        where it is damaged."""
        if not 0 <= row < self.rows:
            raise IndexError(f"row {row} of {self.rows}")
        first = int(self._first_piece[row])
        last = int(self._first_piece[row + 1])
        starts = self._starts[first:last]
        lengths = self._lengths[first:last]
        self._check(np.array([last - first]), np.zeros(len(starts), np.int64), starts, lengths)
        return starts, lengths

    def pieces_of_rows(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return for each piece of `rows`: its row's index in `rows`, its start, its length; row by
        row.

        `rows`: `(n,) int64`, each from 0 and below `self.rows`. Raises DataError where the file is
        damaged.
        """
        firsts = self._first_piece[rows]
        counts = self._first_piece[rows + 1] - firsts
        if len(rows) and not 0 < counts.min() <= counts.max() <= self._sequence_length:
            raise self._damaged("has rows without pieces, or with too many")
        index = np.repeat(np.arange(len(rows)), counts)
        places = np.arange(len(index)) + np.repeat(firsts - (np.cumsum(counts) - counts), counts)
        if len(places) and not 0 <= places.min() <= places.max() < len(self._starts):
            raise self._damaged("names pieces that are not there")
        starts = self._starts[places]
        lengths = self._lengths[places]
        self._check(counts, index, starts, lengths)
        return index, starts, lengths

    def rows_overlapping(self, start: int, end: int) -> np.ndarray:
        """Return, ascending, all rows in which a token of the shard's `[start, end)` is an input or
        a target.

        Goes through the starts and lengths of all pieces.
        """
        found = []
        for first in range(0, len(self._starts), SCANNED_PIECES):
            starts = self._starts[first : first + SCANNED_PIECES]
            lasts = starts + self._lengths[first : first + SCANNED_PIECES]  # the last target
            found.append(first + np.flatnonzero((starts < end) & (lasts >= start)))
        pieces = np.concatenate(found) if found else np.zeros(0, np.int64)
        return np.unique(np.searchsorted(self._first_piece, pieces, side="right") - 1)

    def _check(
        self, counts: np.ndarray, index: np.ndarray, starts: np.ndarray, lengths: np.ndarray
    ) -> None:
        if len(starts) != counts.sum() or (counts < 1).any():
            raise self._damaged("has rows without pieces, or with too many")
        if not len(starts):
            return
        filled = np.bincount(index, lengths.clip(0))
        if lengths.min() < 1 or starts.min() < 0 or filled.max() > self._sequence_length:
            raise self._damaged(
                f"has pieces outside the shard, or rows of more than {self._sequence_length} "
                "positions"
            )

    def _damaged(self, what: str) -> DataError:
        manifest = manifest_path(self._path.parents[1])
        return DataError(
            f"{self._path}: {what}. Delete it and {manifest}, then run `pipeline pack` "
            "with the same run file."
        )
