"""Batches for the model, read from the token files.

Holds the arrays of a batch (inputs, targets, positions, checksums) and the function that reads them
for given places in the order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xxhash

from pipeline.sampling.blocks import BlockReader
from pipeline.sampling.label_noise import LabelNoise
from pipeline.sampling.order import Places
from pipeline.sampling.rows import RowPieces, Rows
from pipeline.sampling.stream import TokenStream

IGNORED = -100
"""Target of a position where the model predicts nothing (PyTorch's `ignore_index`)."""


@dataclass(frozen=True)
class Batch:
    """Rows of tokens for the model."""

    inputs: np.ndarray
    """`(rows, sequence_length) int32`: token ids; padding is the end-of-document id."""
    targets: np.ndarray
    """`(rows, sequence_length) int32`: the token after each input, or IGNORED."""
    positions: np.ndarray | None
    """`(rows, sequence_length) int32`, counted from 0 in each document.

    None where the document mask is off: then the model counts from 0 in each row.
    """
    checksums: np.ndarray
    """`(rows,) uint64`: a hash of (sample number, tokens) for each row."""
    groups: np.ndarray
    """`(rows,) int64`: whose loss each row's is: 2 x source + 1 if the run repeats the text, else + 0."""

    @property
    def checksum(self) -> int:
        """Sum of the rows' hashes modulo 2^64.

        The checksums of the parts of a global batch add up to the checksum of the whole batch.
        """
        return int(self.checksums.sum(dtype=np.uint64))

    def take(self, chosen: slice | np.ndarray) -> "Batch":
        """Return a batch of the chosen rows."""
        positions = self.positions
        if positions is not None:
            positions = positions[chosen]
        return Batch(
            self.inputs[chosen],
            self.targets[chosen],
            positions,
            self.checksums[chosen],
            self.groups[chosen],
        )


def loss_groups(sources: int) -> int:
    """Return the number of groups of rows whose losses are told apart, for a number of sources."""
    return 2 * sources


@dataclass(frozen=True)
class RowShape:
    """What the rows of all sources have in common."""

    sequence_length: int
    end_of_document: int
    document_mask: bool
    """Whether attention stays within a document, whose positions count from 0."""
    loss_after_end_of_document: bool
    """Whether the model predicts a document's first token from the end of the document before it."""
    label_noise: LabelNoise | None = None
    """Wrong targets of `data.small_sample`, whose rows are one piece each; None without any."""


@dataclass(frozen=True)
class TokenSource:
    """The tokens of one source, and how they are cut into rows."""

    name: str
    stream: TokenStream
    rows: Rows
    blocks: BlockReader | None = None
    """Reads and caches whole blocks; set with `data.shuffle: block`."""


def read_batch(sources: Sequence[TokenSource], places: Places, shape: RowShape) -> Batch:
    """Read the samples at `(rows,)` places into one batch."""
    rows = len(places.row)
    length = shape.sequence_length
    masked = shape.document_mask
    # One allocation for all arrays of a batch: with several large ones malloc would return memory
    # to the system, and pay for fresh pages every time. int32 is half of the model's int64: less to
    # write and to copy.
    arrays = np.empty((3 if masked else 2, rows, length), np.int32)
    inputs = arrays[0]
    targets = arrays[1]
    begins = np.zeros((rows, length), bool) if masked else None
    checksums = np.empty(rows, np.uint64)
    # Each source reads its rows together, and puts them where the order wants them.
    for index in np.flatnonzero(np.bincount(places.source)).tolist():
        source = sources[index]
        chosen = np.flatnonzero(places.source == index)
        pieces = source.rows.pieces(places.row[chosen])
        ids = _read(source, places.row[chosen], pieces)
        _fill(inputs, targets, chosen, pieces, ids, shape)
        if shape.label_noise is not None:
            noise = shape.label_noise
            targets[chosen] = noise.noisy_targets(source.name, pieces.start, targets[chosen])
        checksums[chosen] = _checksums(ids, pieces, places.sample[chosen])
        if begins is not None:
            begins[chosen[pieces.row], pieces.offsets()] = True
    # Both the mask and the loss depend on where a document ends within a row.
    if begins is not None or not shape.loss_after_end_of_document:
        ends = inputs == shape.end_of_document
        ends &= targets != IGNORED
        if not shape.loss_after_end_of_document:
            targets[ends] = IGNORED
        if begins is not None:
            begins[:, 1:] |= ends[:, :-1]
            _count_positions(begins, arrays[2])
    # From its second epoch on the run has seen a source's text before.
    groups = 2 * places.source + (places.epoch > 0)
    return Batch(inputs, targets, arrays[2] if masked else None, checksums, groups)


def cut_rows(batch: Batch, length: int) -> Batch:
    """Cut every row of a batch into consecutive rows of `length` tokens, a divisor of its length.

    The same tokens have the same targets; what changes is how far back the model sees from them.
    Where there are positions, they also count from 0 in each new row.
    """
    if batch.inputs.shape[1] == length:
        return batch
    inputs = batch.inputs.reshape(-1, length)
    targets = batch.targets.reshape(-1, length)
    positions = batch.positions
    if positions is not None:
        # A document that begins in the new row has a smaller position than the row; a document that
        # began before the row has a larger one.
        positions = np.minimum(positions.reshape(-1, length), np.arange(length, dtype=np.int32))
    groups = batch.groups.repeat(batch.inputs.shape[1] // length)
    return Batch(inputs, targets, positions, batch.checksums, groups)


def _read(source: TokenSource, rows: np.ndarray, pieces: RowPieces) -> np.ndarray:
    """Return the ids of all pieces, one after another, each piece with its last target."""
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
    # The usual case, one whole piece a row, needs no index.
    if len(pieces.row) == len(chosen) and (pieces.length == length).all():
        read = ids.reshape(-1, length + 1)
        where: slice | np.ndarray = chosen
        if len(chosen) == len(inputs):
            where = slice(None)
        inputs[where] = read[:, :-1]
        targets[where] = read[:, 1:]
        return
    # A piece has one id more than inputs: its last id is no input, its first id no target.
    last = np.cumsum(pieces.length + 1) - 1
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
    """Write positions that count from 0 at every True of `begins`, and on through padding.

    `begins` is True at the first place of every row.
    """
    first = np.flatnonzero(begins)
    before = np.repeat(first, np.diff(first, append=begins.size))
    np.subtract(np.arange(begins.size), before, out=positions.reshape(-1))


def _checksums(ids: np.ndarray, pieces: RowPieces, samples: np.ndarray) -> list[int]:
    """Hash each row's ids as they are on disk, with the row's sample number as the seed.

    The pieces of a row are hashed in their order.
    """
    counts = pieces.length + 1
    if len(counts) != len(samples):
        counts = np.bincount(pieces.row, counts, len(samples)).astype(np.int64)
    ends = np.cumsum(counts) * ids.itemsize
    view = ids.data.cast("B")
    digest = xxhash.xxh3_64_intdigest
    hashes: list[int] = []
    start = 0
    for end, sample in zip(ends.tolist(), samples.tolist(), strict=True):
        hashes.append(digest(view[start:end], sample))
        start = end
    return hashes
