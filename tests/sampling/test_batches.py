"""Places to arrays: inputs, targets, positions by hand; the checksum; blocks read once."""

from pathlib import Path

import numpy as np
import pytest
from token_files import END, make_data, write_ids, write_stream

from pipeline.sampling.batches import IGNORED, Batch, RowShape, TokenSource, cut_rows, read_batch
from pipeline.sampling.order import Places
from pipeline.sampling.rows import Concatenated, Packed
from pipeline.sampling.stream import OpenFiles

X = IGNORED


def read_rows(
    folder: Path, ids: list[int], rows: list[int], mask: bool = False, after_end: bool = True
) -> Batch:
    """Read windows of 4 of one stream."""
    stream = write_ids(folder, [np.array(ids)])
    row = np.array(rows)
    places = Places(np.arange(len(rows)), np.zeros_like(row), np.zeros_like(row), row)
    shape = RowShape(4, END, mask, after_end)
    return read_batch([TokenSource("a", stream, Concatenated(len(stream), 4, 2))], places, shape)


def test_targets_are_the_next_tokens_and_a_short_window_is_padded(tmp_path: Path) -> None:
    batch = read_rows(tmp_path, [1, 2, 3, 4, 5, 6, 7], [1, 0])
    assert batch.inputs.tolist() == [[5, 6, END, END], [1, 2, 3, 4]]
    assert batch.targets.tolist() == [[6, 7, X, X], [2, 3, 4, 5]]
    assert batch.positions is None


def test_a_stream_shorter_than_a_row_is_one_padded_row(tmp_path: Path) -> None:
    batch = read_rows(tmp_path, [1, 2, 3], [0])
    assert (batch.inputs.tolist(), batch.targets.tolist()) == ([[1, 2, END, END]], [[2, 3, X, X]])


def test_positions_count_from_0_after_every_end_of_document(tmp_path: Path) -> None:
    batch = read_rows(tmp_path, [1, 2, END, END, 5, END, 7, 8, 9], [0, 1], mask=True)
    assert batch.inputs.tolist() == [[1, 2, END, END], [5, END, 7, 8]]
    assert batch.positions is not None
    assert batch.positions.tolist() == [[0, 1, 2, 0], [0, 1, 0, 1]]
    assert batch.targets.tolist() == [[2, END, END, 5], [END, 7, 8, 9]]


def test_no_first_token_is_predicted_from_another_document_unless_wanted(tmp_path: Path) -> None:
    batch = read_rows(tmp_path, [1, 2, END, 4, 5, END, 7, 8, 9], [0, 1], after_end=False)
    assert batch.targets.tolist() == [[2, END, X, 5], [END, X, 8, 9]]


def test_rows_are_cut_in_order_and_keep_their_targets(tmp_path: Path) -> None:
    batch = read_rows(tmp_path, [1, 2, 3, 4, 5, 6, 7], [1, 0])
    cut = cut_rows(batch, 2)
    assert cut.inputs.tolist() == [[5, 6], [END, END], [1, 2], [3, 4]]
    assert cut.targets.tolist() == [[6, 7], [X, X], [2, 3], [4, 5]]
    assert cut.positions is None
    assert batch.groups.tolist() == [0, 0]
    assert cut.groups.tolist() == [0, 0, 0, 0]
    assert cut.checksum == batch.checksum
    assert cut_rows(batch, 4) is batch


def test_positions_count_from_0_at_a_cut_and_at_every_document_as_before(tmp_path: Path) -> None:
    ids = [1, 2, END, 4, 5, END, END, 8, 9, 10, 11, 12]
    batch = read_rows(tmp_path, ids, [0, 1, 2], mask=True)
    assert batch.positions is not None
    assert batch.positions.tolist() == [[0, 1, 2, 0], [0, 1, 0, 0], [0, 1, 2, 3]]
    cut = cut_rows(batch, 2)
    assert cut.positions is not None
    assert cut.positions.tolist() == [[0, 1], [0, 0], [0, 1], [0, 0], [0, 1], [0, 1]]
    row = np.arange(8)[None]
    longer = cut_rows(
        Batch(
            row,
            row + 1,
            np.array([[0, 1, 0, 1, 2, 3, 0, 1]]),
            np.zeros(1, np.uint64),
            np.zeros(1, np.int64),
        ),
        4,
    )
    assert longer.positions is not None
    assert longer.positions.tolist() == [[0, 1, 0, 1], [0, 1, 0, 1]]


def test_packed_documents_have_positions_of_their_own(tmp_path: Path) -> None:
    from pipeline.sampling.best_fit import pack_shard
    from pipeline.tokens.indexed_dataset import ShardWriter

    with ShardWriter(tmp_path / "train_0", np.dtype(np.uint16)) as writer:
        ids = np.array([1, 2, END, 4, 5, 6, 7, 8, 9, END, 11, END])
        writer.add(ids, np.array([3, 7, 2]), np.arange(3))
        writer.finish()
    made = pack_shard("s", tmp_path / "train_0", tmp_path / "p" / "s" / "train_0.rows", 4, "")
    stream = write_ids(tmp_path / "same", [ids])
    rows = Packed(
        stream, 4, [(stream.paths[0], tmp_path / "p" / "s" / "train_0.rows", made["rows"])]
    )
    numbers = np.arange(rows.count)
    places = Places(numbers, np.zeros_like(numbers), np.zeros_like(numbers), numbers)
    batch = read_batch([TokenSource("a", stream, rows)], places, RowShape(4, END, True, True))
    found = {
        tuple(
            zip(
                *(
                    part[i]
                    for part in (
                        batch.inputs.tolist(),
                        batch.targets.tolist(),
                        batch.positions.tolist(),
                    )
                ),
                strict=True,
            )
        )
        for i in range(rows.count)
    }
    # Pieces of 4 (4 5 6 7), 2 (8 9), 2 (1 2) and 1 (11) inputs: the longest first, each into the
    # fullest row with room.
    first = ((4, 5, 0), (5, 6, 1), (6, 7, 2), (7, 8, 3))
    second = ((1, 2, 0), (2, END, 1), (8, 9, 0), (9, END, 1))
    third = ((11, END, 0), (END, X, 1), (END, X, 2), (END, X, 3))
    assert found == {first, second, third}


def test_the_checksum_says_what_was_read_however_it_is_divided(tmp_path: Path) -> None:
    data = make_data(
        {
            "a": write_stream(tmp_path / "a", [101]),
            "b": write_stream(tmp_path / "b", [40, 33], start=500),
        }
    )
    whole = data.read(range(24)).checksum
    for size in (1, 2, 3, 8, 12):
        assert (
            sum(data.read(range(i, i + size)).checksum for i in range(0, 24, size)) % 2**64 == whole
        )
    assert data.read([1, 0, *range(2, 24)]).checksum == whole
    assert data.read(range(1, 25)).checksum != whole
    ids = np.fromfile(tmp_path / "a" / "train_0.bin", np.uint16)
    row = int(data.order.locate(np.arange(24)).row[data.order.locate(np.arange(24)).source == 0][0])
    ids[row * 4] += 1
    ids.tofile(tmp_path / "a" / "train_0.bin")
    assert data.read(range(24)).checksum != whole


class CountingFiles(OpenFiles):
    """Keeps what was read: file name, first byte, bytes."""

    def __init__(self) -> None:
        super().__init__(64)
        self.reads: list[tuple[str, int, int]] = []

    def read_into(self, path: Path, buffer: memoryview, offset: int) -> int:
        self.reads.append((path.name, offset, len(buffer)))
        return super().read_into(path, buffer, offset)


@pytest.mark.parametrize("size", [4 * 16 * 40 + 1, 4 * 16 * 40 + 30])
def test_blocks_are_read_once_an_epoch_in_whole_and_give_what_single_reads_give(
    tmp_path: Path, size: int
) -> None:
    files = CountingFiles()
    block = 16
    data = make_data({"a": write_stream(tmp_path, [size], files=files)}, block=block)
    rows = data.sources[0].rows.count
    plain = make_data({"a": write_stream(tmp_path, [size])}, block=block)
    sources = [TokenSource("a", plain.sources[0].stream, plain.sources[0].rows)]
    for first in range(0, rows - rows % 8, 8):
        positions = np.arange(first, first + 8)
        batch, single = (
            data.read(positions),
            read_batch(sources, plain.order.locate(positions), plain.shape),
        )
        np.testing.assert_array_equal(batch.inputs, single.inputs)
        np.testing.assert_array_equal(batch.targets, single.targets)
        assert batch.checksum == single.checksum
    data.read(np.arange(rows - rows % 8, rows))
    last = size - 1
    expected = [
        (first * 2, (min(last, first + block * 4) - first + 1) * 2)
        for first in range(0, last, block * 4)
    ]
    assert sorted((offset, count) for _, offset, count in files.reads) == expected
