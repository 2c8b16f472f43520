"""The index of packed rows: which pieces of a shard of tokens make each training row.

Writes and reads one index file per shard; readers map it into memory.

`.rows`, little-endian: magic `BESTFIT\\0`, version of the stage `pack` uint32, sequence length uint32,
rows uint64, pieces uint64, then the first piece of each row and the number of pieces,
int64[rows + 1]; the start of each piece in the shard, in tokens, int64[pieces]; the positions of
each piece, int32[pieces]. The pieces of a row stand in the order of their starts.

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
from pipeline.store.manifests.moved_files import existing_place, stage_folder_of
from pipeline.store.records import FileRecord

MAGIC = b"BESTFIT\x00"
HEADER = struct.Struct("<8sIIQQ")
"""Layout of the header: 32 bytes, so that every array after it is aligned."""
COPIED_BYTES = 1 << 20
"""Bytes copied at once into the finished file."""
SCANNED_PIECES = 1 << 20
"""Pieces compared at once in `rows_overlapping`."""


class RowsWriter:
    """Writes one index file, group by group; memory does not grow with the rows.

    Use as a context manager. `finish` gives the file its name; leaving without `finish` writes no
    file.
    """

    def __init__(self, path: Path, sequence_length: int) -> None:
        self.rows = 0
        self.pieces = 0
        self._path = path
        self._sequence_length = sequence_length
        path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = temporary_path(path)
        self._stack = ExitStack()

    def __enter__(self) -> "RowsWriter":
        # The length of each array is known only at the end. Until then each is a file without a name.
        self._firsts = self._nameless_file()
        self._starts = self._nameless_file()
        self._lengths = self._nameless_file()
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
        """Append rows.

        `counts`: number of pieces in each row, `(rows,)`; `starts`, `lengths`: start and positions
        of each piece, `(pieces,)`, row by row.
        """
        ends = self.pieces + np.cumsum(counts, dtype=np.int64)
        self._firsts.write((ends - counts).astype("<i8").data)
        self._starts.write(starts.astype("<i8", copy=False).data)
        self._lengths.write(lengths.astype("<i4").data)
        self.rows += len(counts)
        self.pieces += len(starts)

    def finish(self) -> FileRecord:
        """Complete the file and return the record of its content."""
        self._firsts.write(np.array([self.pieces], "<i8").data)
        with ChecksummedFile(self._temporary) as file:
            file.write(
                HEADER.pack(MAGIC, versions.PACK, self._sequence_length, self.rows, self.pieces)
            )
            for part in (self._firsts, self._starts, self._lengths):
                part.seek(0)
                shutil.copyfileobj(part, file, COPIED_BYTES)
            file.fsync()
        self._temporary.replace(self._path)
        return file.record()

    def _nameless_file(self) -> IO[bytes]:
        return self._stack.enter_context(tempfile.TemporaryFile(dir=self._path.parent))


class PackedRows:
    """Reads the index of one shard. The file is memory-mapped; opening reads only the header."""

    def __init__(self, path: Path, sequence_length: int, tokens: int) -> None:
        """Open the index file of a shard that has `tokens` tokens.

        Raises DataError where the file is missing, has another format or sequence length, or has
        the wrong size.
        """
        path = existing_place(path)
        self._path = path
        self._sequence_length = sequence_length
        self._tokens = tokens
        # The header says what the file must be.
        try:
            content = np.asarray(np.memmap(path, np.uint8, "r"))
            magic, version, length, rows, pieces = HEADER.unpack(content[: HEADER.size].tobytes())
        except (OSError, ValueError, struct.error) as error:
            raise self._damaged(f"cannot be read ({error})") from None
        if magic != MAGIC or version != versions.PACK:
            raise self._damaged(f"is no index of packed rows, version {versions.PACK}")
        if length != sequence_length:
            raise self._damaged(f"holds rows of {length} positions instead of {sequence_length}")
        # Three arrays follow the header.
        starts = HEADER.size + 8 * (rows + 1)
        lengths = starts + 8 * pieces
        if len(content) != lengths + 4 * pieces:
            raise self._damaged(f"has {len(content)} bytes instead of {lengths + 4 * pieces}")
        self.rows: int = rows
        self._first_piece = content[HEADER.size : starts].view("<i8")
        self._starts = content[starts:lengths].view("<i8")
        self._lengths = content[lengths:].view("<i4")

    def pieces(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the starts and lengths of a row's pieces, as views of the file.

        Raises IndexError where there is no such row, DataError where the file is damaged.
        """
        if not 0 <= row < self.rows:
            raise IndexError(f"row {row} of {self.rows}")
        first = int(self._first_piece[row])
        last = int(self._first_piece[row + 1])
        starts = self._starts[first:last]
        lengths = self._lengths[first:last]
        self._check(np.array([last - first]), np.zeros(len(starts), np.int64), starts, lengths)
        return starts, lengths

    def pieces_of_rows(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return three arrays `(pieces,)` for all pieces of `rows`, row by row.

        The arrays hold, for each piece, the index of its row in `rows`, its start and its length.
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
            raise self._damaged("refers to pieces that do not exist")
        starts = self._starts[places]
        lengths = self._lengths[places]
        self._check(counts, index, starts, lengths)
        return index, starts, lengths

    def rows_overlapping(self, start: int, end: int) -> np.ndarray:
        """Return, ascending, the rows that have one of the shard's tokens `[start, end)` as input or
        target.

        Reads the starts and lengths of all pieces.
        """
        overlapping: list[np.ndarray] = []
        for first in range(0, len(self._starts), SCANNED_PIECES):
            starts = self._starts[first : first + SCANNED_PIECES]
            last_targets = starts + self._lengths[first : first + SCANNED_PIECES]
            overlapping.append(first + np.flatnonzero((starts < end) & (last_targets >= start)))
        pieces = np.concatenate([np.zeros(0, np.int64), *overlapping])
        return np.unique(np.searchsorted(self._first_piece, pieces, side="right") - 1)

    def _check(
        self, counts: np.ndarray, index: np.ndarray, starts: np.ndarray, lengths: np.ndarray
    ) -> None:
        """Raise DataError where pieces cannot be those of rows with `counts` pieces."""
        if len(starts) != counts.sum() or (counts < 1).any():
            raise self._damaged("has rows without pieces, or with too many")
        if not len(starts):
            return
        filled = np.bincount(index, lengths.clip(0))
        last_targets = starts + lengths
        is_outside = lengths.min() < 1 or starts.min() < 0 or last_targets.max() >= self._tokens
        if is_outside or filled.max() > self._sequence_length:
            raise self._damaged(
                f"has pieces outside the shard, or rows of more than {self._sequence_length} "
                "positions"
            )

    def _damaged(self, what: str) -> DataError:
        """Return an error with the problem of the file and how to make the file again."""
        manifest = manifest_path(stage_folder_of(self._path))
        return DataError(
            f"{self._path}: {what}. Delete it and {manifest}, then run `pipeline pack` "
            "with the same run file."
        )
