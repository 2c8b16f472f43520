"""Streams cut into rows: every target once an epoch, also the last ones, also of a stream shorter
than a row."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.sampling.best_fit import pack_shard
from pipeline.sampling.rows import Concatenated, Packed, RowPieces, Rows
from pipeline.sampling.stream import TokenStream
from pipeline.tokens.indexed_dataset import ShardWriter


@pytest.mark.parametrize("tokens", [0, 1, 2, 4, 5, 6, 8, 9, 101])
def test_windows_have_every_target_once(tokens: int) -> None:
    rows = Concatenated(tokens, 4, 2)
    pieces = rows.pieces(np.arange(rows.count))
    targets = [
        t
        for start, n in zip(pieces.start, pieces.length, strict=True)
        for t in range(start + 1, start + n + 1)
    ]
    assert targets == list(range(1, tokens))
    assert all(0 < n <= 4 for n in pieces.length)


@pytest.mark.parametrize("rows", [Concatenated(21, 4, 2), Concatenated(3, 4, 2)], ids=str)
def test_the_rows_that_overlap_some_tokens_are_those_that_read_one_of_them(
    rows: Concatenated,
) -> None:
    pieces = rows.pieces(np.arange(rows.count))
    for start in range(rows.tokens):
        for end in range(start + 1, rows.tokens + 1):
            reading = [
                row
                for row, first, n in zip(pieces.row, pieces.start, pieces.length, strict=True)
                if first < end and first + n >= start
            ]
            assert rows.overlapping(start, end).tolist() == reading


def test_pieces_know_where_in_their_row_they_begin() -> None:
    pieces = RowPieces(np.array([0, 0, 1, 3, 3, 3]), np.zeros(6, int), np.array([2, 1, 4, 1, 1, 2]))
    assert pieces.offsets().tolist() == [0, 2, 0, 0, 1, 2]


@pytest.fixture
def packed(tmp_path: Path) -> tuple[Rows, TokenStream, list[int]]:
    """Return three shards of documents packed into rows of 8, their stream, and the documents'
    lengths."""
    lengths = [[3, 9, 20, 1], [2, 2, 2], [5, 8, 17, 4, 1]]
    shards, files, value = [], [], 0
    for number, documents in enumerate(lengths):
        prefix, index = (
            tmp_path / f"train_{number}",
            tmp_path / "packing" / "s" / f"train_{number}.rows",
        )
        with ShardWriter(prefix, np.dtype(np.uint16)) as writer:
            ids = np.arange(value, value + sum(documents))
            writer.add(ids, np.array(documents), np.arange(len(documents)))
            writer.finish()
        value += sum(documents)
        made = pack_shard("web", prefix, index, 8, "")
        shards.append((prefix.with_suffix(".bin"), sum(documents)))
        files.append((prefix.with_suffix(".bin"), index, made["rows"]))
    stream = TokenStream(shards, np.dtype(np.uint16))
    return Packed(stream, 8, files), stream, [n for documents in lengths for n in documents]


def test_packed_rows_over_several_shards_have_every_target_of_every_document_once(
    packed: tuple,
) -> None:
    rows, stream, documents = packed
    order = np.random.default_rng(0).permutation(rows.count)
    pieces = rows.pieces(order)
    assert (np.diff(pieces.row) >= 0).all()
    assert np.bincount(pieces.row, pieces.length).max() <= 8
    found = sorted(
        t
        for start, n in zip(pieces.start, pieces.length, strict=True)
        for t in range(start + 1, start + n + 1)
    )
    starts = np.cumsum([0, *documents])
    expected = [
        t for first, n in zip(starts, documents, strict=False) for t in range(first + 1, first + n)
    ]
    assert found == expected
    assert len(stream) == starts[-1]


def test_packed_rows_that_overlap_a_document_are_those_that_read_it(packed: tuple) -> None:
    rows, _, documents = packed
    pieces = rows.pieces(np.arange(rows.count))
    start = 0
    for length in documents:
        reading = {
            int(row)
            for row, first, n in zip(pieces.row, pieces.start, pieces.length, strict=True)
            if first < start + length and first + n >= start
        }
        assert set(rows.overlapping(start, start + length).tolist()) == reading
        start += length


def test_a_block_is_about_a_megabyte() -> None:
    assert Concatenated(10**9, 2048, 2).block == 256
    assert Concatenated(10**9, 2**20, 4).block == 1
