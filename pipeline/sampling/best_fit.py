"""Best-fit packing: rows of whole documents; only documents longer than a row are cut.

Reads a shard of tokens; writes the index of its rows (`packed_rows.py`). The stage `pack`
(`pack.py`) packs every shard.

A document of n tokens has n - 1 positions: each of its tokens but the last is an input, with the
next one as target. A document of one token, an empty text, has none and is in no row. Source: Ding
et al. 2024, "Fewer Truncations Improve Language Modeling", arXiv:2404.10830.
"""

from collections import defaultdict, deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.errors import DataError
from pipeline.sampling.packed_rows import RowsWriter
from pipeline.store.counts import RowCounts
from pipeline.store.records import FileRecord
from pipeline.tokens import indexed_dataset
from pipeline.tokens.indexed_dataset import BLOCK_DOCUMENTS, Shard
from pipeline.work.task import report_progress

GROUP_POSITIONS = 1 << 20
"""Minimum number of positions packed together: some 2 MB of tokens.

The pieces of a row then lie near each other in the file.
"""
GROUP_ROWS = 64
"""Minimum size of a group in rows: the last rows of every group remain partly empty."""


def assign_rows(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """Return the row of each piece by best-fit decreasing, `(pieces,) int64`.

    Rows are numbered from 0 in the order in which they are opened.

    `lengths`: `(pieces,)`, each from 1 to `capacity`. Longer pieces come first, equal ones in their
    order. A piece goes to the row with the least room that is enough; among rows with equal room, to
    the one that has had this room longest; where no row has enough, to a new row.

    All pieces of one length are placed together: each row of one room takes room // length of them
    before the next row does, since a row that has taken a piece has less room than the others, and
    so fits best.
    """
    counts = np.bincount(lengths, minlength=1)
    present = np.flatnonzero(counts)[::-1]
    # Ranges of rows by their room; in each queue the rows that have had this room longest come first.
    waiting: defaultdict[int, deque[tuple[int, int]]] = defaultdict(deque)
    # Bit r is set where rows of room r wait, so that one operation finds the least room that is enough.
    rooms = 0
    # First row, number of rows, and how many pieces of the current length each of them takes.
    runs: list[tuple[int, int, int]] = []
    opened = 0
    for length, count in zip(present.tolist(), counts[present].tolist(), strict=True):
        while count:
            enough = rooms >> length
            # Where no open row has enough room, open as many rows as the remaining pieces need.
            if not enough:
                new = -(-count // (capacity // length))
                waiting[capacity].append((opened, opened + new))
                rooms |= 1 << capacity
                opened += new
                continue
            # The rows with the least room that is enough: some take as many pieces as fit, and
            # the last one may take the rest.
            room = length + (enough & -enough).bit_length() - 1
            row, end = waiting[room].popleft()
            pieces_per_row = room // length
            full = min(end - row, count // pieces_per_row)
            rest = 0
            if row + full < end:
                rest = count - full * pieces_per_row
            for rows, pieces in ((full, pieces_per_row), (min(rest, 1), rest)):
                if rows:
                    runs.append((row, rows, pieces))
                    count -= rows * pieces
                    left = room - pieces * length
                    if left:
                        waiting[left].append((row, row + rows))
                        rooms |= 1 << left
                    row += rows
            # Rows that took nothing keep their place at the front of their queue.
            if row < end:
                waiting[room].appendleft((row, end))
            elif not waiting[room]:
                rooms ^= 1 << room
    return _rows_of_pieces(lengths, capacity, runs)


def _rows_of_pieces(
    lengths: np.ndarray, capacity: int, runs: list[tuple[int, int, int]]
) -> np.ndarray:
    """Return the row of each piece, `(pieces,) int64`, from runs of (first row, rows, pieces each)."""
    table = np.array(runs, np.int64).reshape(-1, 3)
    firsts = table[:, 0]
    rows = table[:, 1]
    pieces = table[:, 2]
    row = np.repeat(firsts - (np.cumsum(rows) - rows), rows) + np.arange(int(rows.sum()))
    placed = np.empty(len(lengths), np.int64)
    placed[_stable_order(capacity - lengths)] = np.repeat(row, np.repeat(pieces, rows))
    return placed


def _stable_order(values: np.ndarray) -> np.ndarray:
    """Return the stable sorting order of values that are at least 0."""
    # numpy sorts 16-bit values by radix, several times faster.
    if len(values) == 0 or values.max() < 1 << 16:
        values = values.astype(np.uint16)
    return np.argsort(values, kind="stable")


def cut_into_pieces(
    starts: np.ndarray, positions: np.ndarray, capacity: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cut documents into pieces of `capacity` positions and a rest.

    `starts` and `positions`: first token and number of positions of each document,
    `(documents,) int64`. Returns the same of each piece, `(pieces,) int64`.
    """
    pieces = -(-positions // capacity)
    number_in_document = np.arange(int(pieces.sum())) - np.repeat(
        np.cumsum(pieces) - pieces, pieces
    )
    within = number_in_document * capacity
    lengths = np.minimum(np.repeat(positions, pieces) - within, capacity)
    return np.repeat(starts, pieces) + within, lengths


def document_groups(
    shard: Shard, least: int, remedy: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield groups of consecutive documents as first tokens and positions, `(documents,) int64`.

    Documents without positions are left out. A group ends with the document that brings it to
    `least` positions; the last group may have fewer. Raises DataError, which ends with `remedy`,
    where the documents do not follow each other in the file.
    """
    starts = np.zeros(0, np.int64)
    positions = np.zeros(0, np.int64)
    for block_starts, block_positions in _document_blocks(shard, remedy):
        starts = np.concatenate([starts, block_starts])
        positions = np.concatenate([positions, block_positions])
        ends = np.cumsum(positions)
        first = 0
        last = int(np.searchsorted(ends, least))
        while last < len(ends):
            yield starts[first : last + 1], positions[first : last + 1]
            first = last + 1
            last = int(np.searchsorted(ends, int(ends[last]) + least))
        starts = starts[first:]
        positions = positions[first:]
    if len(starts):
        yield starts, positions


def _document_blocks(shard: Shard, remedy: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield first tokens and positions of the documents of a shard, a bounded number at a time."""
    sequences = 0
    tokens = 0
    for first in range(0, len(shard.documents) - 1, BLOCK_DOCUMENTS):
        documents = np.asarray(shard.documents[first : first + BLOCK_DOCUMENTS + 1])
        last = int(documents[-1])
        lengths = np.asarray(shard.lengths[sequences:last])
        offsets = np.asarray(shard.offsets[sequences:last])
        # The index must describe documents that follow each other without a gap.
        bounds = np.concatenate([[tokens], tokens + np.cumsum(lengths, dtype=np.int64)])
        if (
            documents[0] != sequences
            or (np.diff(documents) < 0).any()
            or last > len(shard.lengths)
            or (lengths < 0).any()
            or (offsets != bounds[:-1] * shard.ids.itemsize).any()
        ):
            raise _disordered(shard, remedy)
        # A document of n tokens has n - 1 positions; one of a single token has none.
        starts = bounds[documents - sequences]
        positions = np.diff(starts) - 1
        kept = positions > 0
        yield starts[:-1][kept], positions[kept]
        sequences = last
        tokens = int(bounds[-1])
    if sequences != len(shard.lengths):
        raise _disordered(shard, remedy)


def _disordered(shard: Shard, remedy: str) -> DataError:
    return DataError(
        f"{shard.prefix}.idx: its documents do not stand one after another in the .bin file, so "
        f"their ends cannot be determined. {remedy}"
    )


class PackedShard(RowCounts):
    """What one task of the stage `pack` reports about its shard of token ids."""

    files: dict[str, FileRecord]
    """Logical name of the file (`store/manifests/shard_places.py`) -> its record."""


def pack_shard(
    source: str, prefix: Path, path: Path, sequence_length: int, remedy: str | None
) -> PackedShard:
    """Write the index of the rows of one of a source's shards (`prefix`.bin, .idx) to `path`.

    Raises DataError for a broken shard.
    """
    shard = indexed_dataset.read(prefix, remedy)
    remedy = remedy or indexed_dataset.made_again(indexed_dataset.with_suffix(prefix, ".idx"))
    positions_in_all = 0
    cut_documents = 0
    # Pack group by group, so that memory does not grow with the shard.
    with RowsWriter(path, sequence_length) as writer:
        for starts, positions in document_groups(
            shard, max(GROUP_POSITIONS, GROUP_ROWS * sequence_length), remedy
        ):
            piece_starts, lengths = cut_into_pieces(starts, positions, sequence_length)
            rows = assign_rows(lengths, sequence_length)
            order = _stable_order(rows)
            writer.add(np.bincount(rows), piece_starts[order], lengths[order])
            positions_in_all += int(positions.sum())
            cut_documents += int((positions > sequence_length).sum())
            report_progress(int(starts[-1] + positions[-1]) / len(shard.ids), rows=writer.rows)
        record = writer.finish()
    return {
        "documents": len(shard.documents) - 1,
        "cut_documents": cut_documents,
        "positions": positions_in_all,
        "pieces": writer.pieces,
        "rows": writer.rows,
        "files": {f"{source}/{path.name}": record},
    }
