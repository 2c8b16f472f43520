"""Whole documents in training rows: best-fit packing, which cuts only documents longer than a row.

Reads a tokens shard; writes the index of its rows (`packed_rows.py`). The stage `pack` (`pack.py`)
does that for every shard.

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
from pipeline.work.executor import report_progress

GROUP_POSITIONS = 1 << 20
"""Least positions packed together: some 2 MB of tokens, so that the pieces of a row lie near each
other."""
GROUP_ROWS = 64
"""Least rows' worth of positions packed together: a group's last rows stay partly empty."""


def assign_rows(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """Return the row of each piece by best-fit decreasing, `(pieces,) int64`; rows count from 0, as
    they are opened.

    `lengths`: `(pieces,)`, each from 1 to `capacity`. Longer pieces come first, equal ones in their
    order; each goes to the row with the least room that is enough, among equal rows to the one that
    has had this room longest, else to a new row.

    All pieces of one length are placed together: rows of one room take room // length of them, one
    row after another, since a row that has taken one has now the least room of those that are
    enough.
    """
    counts = np.bincount(lengths, minlength=1)
    present = np.flatnonzero(counts)[::-1]
    waiting: defaultdict[int, deque[tuple[int, int]]] = defaultdict(
        deque
    )  # room -> ranges of rows, first come first
    rooms = 0  # bit r is set where rows of room r wait: the least room that is enough is found in one step
    runs: list[tuple[int, int, int]] = []  # first row, rows, pieces of this length for each
    opened = 0
    for length, count in zip(present.tolist(), counts[present].tolist(), strict=True):
        while count:
            enough = rooms >> length
            if not enough:
                new = -(-count // (capacity // length))
                waiting[capacity].append((opened, opened + new))
                rooms |= 1 << capacity
                opened += new
                continue
            room = length + (enough & -enough).bit_length() - 1
            row, end = waiting[room].popleft()
            each = room // length
            full = min(end - row, count // each)
            rest = (
                count - full * each if row + full < end else 0
            )  # fewer than `each`, for one row more
            for rows, pieces in ((full, each), (min(rest, 1), rest)):
                if rows:
                    runs.append((row, rows, pieces))
                    count -= rows * pieces
                    left = room - pieces * length
                    if left:
                        waiting[left].append((row, row + rows))
                        rooms |= 1 << left
                    row += rows
            if row < end:
                waiting[room].appendleft((row, end))
            elif not waiting[room]:
                rooms ^= 1 << room
    return _rows_of_pieces(lengths, capacity, runs)


def _rows_of_pieces(
    lengths: np.ndarray, capacity: int, runs: list[tuple[int, int, int]]
) -> np.ndarray:
    firsts, rows, pieces = np.array(runs, np.int64).reshape(-1, 3).T
    row = np.repeat(firsts - (np.cumsum(rows) - rows), rows) + np.arange(rows.sum())
    placed = np.empty(len(lengths), np.int64)
    placed[_stable_order(capacity - lengths)] = np.repeat(row, np.repeat(pieces, rows))
    return placed


def _stable_order(values: np.ndarray) -> np.ndarray:
    """Return the stable sorting order of values from 0; numpy sorts 16 bits by radix, several times
    faster."""
    fits = len(values) == 0 or values.max() < 1 << 16
    return np.argsort(values.astype(np.uint16) if fits else values, kind="stable")


def cut_into_pieces(
    starts: np.ndarray, positions: np.ndarray, capacity: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cut documents, given by first token and positions, into pieces of `capacity` and a rest;
    return those likewise."""
    pieces = -(-positions // capacity)
    within = (np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)) * capacity
    return np.repeat(starts, pieces) + within, np.minimum(
        np.repeat(positions, pieces) - within, capacity
    )


def document_groups(
    shard: Shard, least: int, remedy: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield first tokens and positions of consecutive documents, `(documents,) int64` each, those
    without positions left out.

    A group ends with the document that brings it to `least` positions; the last one may have fewer.
    Raises DataError, which ends with `remedy`, where the documents do not follow each other.
    """
    starts = np.zeros(0, np.int64)
    positions = np.zeros(0, np.int64)
    for block_starts, block_positions in _document_blocks(shard, remedy):
        starts = np.concatenate([starts, block_starts])
        positions = np.concatenate([positions, block_positions])
        ends = np.cumsum(positions)
        first = before = 0
        while (last := int(np.searchsorted(ends, before + least))) < len(ends):
            yield starts[first : last + 1], positions[first : last + 1]
            first = last + 1
            before = int(ends[last])
        starts = starts[first:]
        positions = positions[first:]
    if len(starts):
        yield starts, positions


def _document_blocks(shard: Shard, remedy: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    sequences = tokens = 0
    for first in range(0, len(shard.documents) - 1, BLOCK_DOCUMENTS):
        documents = np.asarray(shard.documents[first : first + BLOCK_DOCUMENTS + 1])
        last = int(documents[-1])
        lengths, offsets = (
            np.asarray(values[sequences:last]) for values in (shard.lengths, shard.offsets)
        )
        bounds = np.concatenate([[tokens], tokens + np.cumsum(lengths, dtype=np.int64)])
        if (
            documents[0] != sequences
            or (np.diff(documents) < 0).any()
            or last > len(shard.lengths)
            or (lengths < 0).any()
            or (offsets != bounds[:-1] * shard.ids.itemsize).any()
        ):
            raise _disordered(shard, remedy)
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
        f"{shard.prefix}.idx: its documents do not stand one after another in the .bin file, so it "
        "cannot be told where "
        f"each ends. {remedy}"
    )


class PackedShard(RowCounts):
    """What a task has made of one shard of token ids."""

    files: dict[str, FileRecord]
    """Path below the packing's folder -> what the file holds."""


def pack_shard(prefix: Path, path: Path, sequence_length: int, remedy: str | None) -> PackedShard:
    """Write the rows of one tokens shard (`prefix`.bin, .idx) to `path`. Raises DataError for a
    broken shard."""
    shard = indexed_dataset.read(prefix, remedy)
    remedy = remedy or indexed_dataset.made_again(indexed_dataset.with_suffix(prefix, ".idx"))
    positions_in_all = cut_documents = 0
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
        "files": {f"{path.parent.name}/{path.name}": record},
    }
