"""Places in the order to arrays for the model: inputs, targets, positions, and a checksum of what
was read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xxhash

from pipeline.sampling.blocks import BlockReader
from pipeline.sampling.order import Places
from pipeline.sampling.rows import RowPieces, Rows
from pipeline.sampling.stream import TokenStream

IGNORED = -100
"""Target where nothing is to be predicted (PyTorch's `ignore_index`)."""


@dataclass(frozen=True)
class Batch:
    """Rows for the model."""

    inputs: np.ndarray
    """`(rows, sequence_length) int32`; the end-of-document id where there is nothing."""
    targets: np.ndarray
    """`(rows, sequence_length) int32`: the token after each input, IGNORED where none is to be
    predicted."""
    positions: np.ndarray | None
    """`(rows, sequence_length) int32`, from 0 in each document; None where rows are read as one
    text."""
    checksums: np.ndarray
    """`(rows,) uint64`: of each row a hash of (sample number, tokens)."""

    @property
    def checksum(self) -> int:
        """Sum of the rows' hashes modulo 2^64: those of the parts of a global batch add up to that
        of the whole."""
        return int(self.checksums.sum(dtype=np.uint64))

    def take(self, chosen: slice | np.ndarray) -> "Batch":
        """Return some of the rows."""
        positions = None if self.positions is None else self.positions[chosen]
        return Batch(self.inputs[chosen], self.targets[chosen], positions, self.checksums[chosen])


@dataclass(frozen=True)
class RowShape:
    """What rows look like, the same for all sources."""

    sequence_length: int
    end_of_document: int
    document_mask: bool
    """Documents do not see each other, and their positions count from 0."""
    loss_after_end_of_document: bool
    """Whether the first token of a document is predicted from the end of the one before it."""


@dataclass(frozen=True)
class TokenSource:
    """The tokens of one source and how they are cut."""

    name: str
    stream: TokenStream
    rows: Rows
    blocks: BlockReader | None = None
    """Reads whole blocks and keeps them, where the order stays within a few blocks at a time."""


def read_batch(sources: Sequence[TokenSource], places: Places, shape: RowShape) -> Batch:
    """Read the samples at some places, `(rows,)` of them."""
    rows = len(places.row)
    length = shape.sequence_length
    masked = shape.document_mask
    # One allocation: malloc gives memory back to the system, and pays for fresh pages, where a
    # batch is several as large.
    arrays = np.empty(
        (3 if masked else 2, rows, length), np.int32
    )  # half of what the model takes: less to write and to copy
    inputs = arrays[0]
    targets = arrays[1]
    begins = np.zeros((rows, length), bool) if masked else None
    checksums = np.empty(rows, np.uint64)
    for index in np.flatnonzero(np.bincount(places.source)).tolist():
        source = sources[index]
        chosen = np.flatnonzero(places.source == index)
        pieces = source.rows.pieces(places.row[chosen])
        ids = _read(source, places.row[chosen], pieces)
        _fill(inputs, targets, chosen, pieces, ids, shape)
        checksums[chosen] = _checksums(ids, pieces, places.sample[chosen])
        if begins is not None:
            begins[chosen[pieces.row], pieces.offsets()] = True
    if begins is not None or not shape.loss_after_end_of_document:
        ends = inputs == shape.end_of_document
        ends &= targets != IGNORED
        if not shape.loss_after_end_of_document:
            targets[ends] = IGNORED
        if begins is not None:
            begins[:, 1:] |= ends[:, :-1]
            _count_positions(begins, arrays[2])
    return Batch(inputs, targets, arrays[2] if masked else None, checksums)


def cut_rows(batch: Batch, length: int) -> Batch:
    """Return a batch with every row cut into rows of `length`, which divides it, one after another.

    The same tokens have the same targets; what changes is how far back the model sees from them.
    Where there are positions, they also count from 0 in each new row.
    """
    if batch.inputs.shape[1] == length:
        return batch
    inputs = batch.inputs.reshape(-1, length)
    targets = batch.targets.reshape(-1, length)
    # A document that begins in the row has counted fewer places than the row, one that began before
    # it more.
    positions = (
        None
        if batch.positions is None
        else np.minimum(batch.positions.reshape(-1, length), np.arange(length, dtype=np.int32))
    )
    return Batch(inputs, targets, positions, batch.checksums)


def _read(source: TokenSource, rows: np.ndarray, pieces: RowPieces) -> np.ndarray:
    """Return the ids of all pieces, each with its last target, one after another."""
    if source.blocks is not None:
        return source.blocks.read_pieces(rows[pieces.row], pieces.start, pieces.length + 1)
    return source.stream.read_pieces(pieces.start, pieces.length + 1)


def _fill(
    inputs: np.ndarray,
    targets: np.ndarray,
    chosen: np.ndarray,
    pieces: RowPieces,
    ids: np.ndarray,
    shape: RowShape,
) -> None:
    length = shape.sequence_length
    if (
        len(pieces.row) == len(chosen) and (pieces.length == length).all()
    ):  # one whole piece a row: no index needed
        read = ids.reshape(-1, length + 1)
        where: slice | np.ndarray = slice(None) if len(chosen) == len(inputs) else chosen
        inputs[where], targets[where] = read[:, :-1], read[:, 1:]
        return
    last = np.cumsum(pieces.length + 1) - 1  # each piece has one id more than inputs, or targets
    filled = np.arange(length) < np.bincount(pieces.row, pieces.length, len(chosen))[:, np.newaxis]
    for arrays, left_out, padding in (
        (inputs, last, shape.end_of_document),
        (targets, last - pieces.length, IGNORED),
    ):
        kept = np.ones(len(ids), bool)
        kept[left_out] = False
        rows = np.full((len(chosen), length), padding, np.int32)
        rows[filled] = ids[kept]
        arrays[chosen] = rows


def _count_positions(begins: np.ndarray, positions: np.ndarray) -> None:
    """Count from 0 at every beginning, of which each row's first place is one; what is padded
    counts on."""
    first = np.flatnonzero(begins)
    before = np.repeat(first, np.diff(first, append=begins.size))
    np.subtract(np.arange(begins.size), before, out=positions.reshape(-1))


def _checksums(ids: np.ndarray, pieces: RowPieces, samples: np.ndarray) -> list[int]:
    """Hash each row's ids as they stand on disk, pieces in their order, with its sample number as
    the seed."""
    counts = pieces.length + 1
    if len(counts) != len(samples):
        counts = np.bincount(pieces.row, counts, len(samples)).astype(np.int64)
    ends = np.cumsum(counts) * ids.itemsize
    view = ids.data.cast("B")
    digest = xxhash.xxh3_64_intdigest
    hashes = []
    start = 0
    for end, sample in zip(ends.tolist(), samples.tolist(), strict=True):
        hashes.append(digest(view[start:end], sample))
        start = end
    return hashes
