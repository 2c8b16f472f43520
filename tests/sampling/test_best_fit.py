"""Best-fit packing: against best-fit decreasing piece by piece, whole documents, every target
once."""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from token_files import write_shard

from pipeline.errors import DataError
from pipeline.sampling import best_fit
from pipeline.sampling.best_fit import assign_rows, cut_into_pieces, document_groups, pack_shard
from pipeline.sampling.packed_rows import PackedRows
from pipeline.store.files import file_record
from pipeline.tokens import indexed_dataset


def one_by_one(lengths: Sequence[int], capacity: int) -> list[int]:
    """Best-fit decreasing as its definition says: look at every row for every piece."""
    room: list[int] = []
    since: list[int] = []
    placed = [0] * len(lengths)
    for now, piece in enumerate(sorted(range(len(lengths)), key=lambda piece: -lengths[piece])):
        enough = [row for row in range(len(room)) if room[row] >= lengths[piece]]
        if enough:
            row = min(enough, key=lambda row: (room[row], since[row]))
        else:
            row = len(room)
            room.append(capacity)
            since.append(now)
        room[row] -= lengths[piece]
        since[row] = now
        placed[piece] = row
    return placed


def packed(lengths: Sequence[int], capacity: int) -> list[int]:
    return assign_rows(np.array(lengths, np.int64), capacity).tolist()


def test_the_fullest_row_with_room_takes_a_piece() -> None:
    # 7 opens row 0 (room 3), 6 row 1 (room 4); 4 fills row 1 to the brim, 3 row 0.
    assert packed([3, 4, 6, 7], 10) == [0, 1, 1, 0]
    # First fit would put 3 into row 0 (room 4); best fit sees that row 1 has just 3.
    assert packed([6, 7, 3, 4], 10) == [1, 0, 0, 1]
    assert packed([10, 10, 1], 10) == [0, 1, 2]
    assert packed([4, 4, 4, 4, 4], 10) == [0, 0, 1, 1, 2]
    assert packed([], 10) == []


def test_of_equal_rows_the_one_that_has_waited_longest_comes_first() -> None:
    # Three rows of 6 have room 4, and take the pieces of 3 in the order in which they were opened.
    assert packed([6, 6, 6, 3, 3], 10) == [0, 1, 2, 0, 1]


def some_pieces(capacity: int) -> st.SearchStrategy[tuple[list[int], int]]:
    short = st.integers(1, min(capacity, 5))
    return st.tuples(st.lists(st.integers(1, capacity) | short, max_size=120), st.just(capacity))


@given(st.integers(1, 40).flatmap(some_pieces))
def test_it_is_best_fit_decreasing(example: tuple[list[int], int]) -> None:
    lengths, capacity = example
    rows = packed(lengths, capacity)
    assert rows == one_by_one(lengths, capacity)
    filled = np.bincount(rows, lengths, minlength=1)
    assert filled.max() <= capacity


@given(st.lists(st.integers(1, 3000), max_size=60), st.sampled_from([3000, 70_000]))
def test_it_is_best_fit_decreasing_for_long_rows(lengths: list[int], capacity: int) -> None:
    assert packed(lengths, capacity) == one_by_one(lengths, capacity)


def test_only_documents_longer_than_a_row_are_cut() -> None:
    starts, lengths = cut_into_pieces(np.array([0, 5, 20]), np.array([4, 11, 8]), 4)
    assert starts.tolist() == [0, 5, 9, 13, 20, 24]
    assert lengths.tolist() == [4, 4, 4, 3, 4, 4]


def groups(prefix: Path, least: int) -> list[tuple[list[int], list[int]]]:
    shard = indexed_dataset.read(prefix)
    return [
        (starts.tolist(), positions.tolist())
        for starts, positions in document_groups(shard, least, "Mend it.")
    ]


def test_groups_are_consecutive_documents_without_the_empty_ones(tmp_path: Path) -> None:
    write_shard(tmp_path / "a", [3, 1, 4, 2, 1, 9, 2])
    assert groups(tmp_path / "a", 5) == [([0, 4], [2, 3]), ([8, 11], [1, 8]), ([20], [1])]
    assert groups(tmp_path / "a", 100) == [([0, 4, 8, 11, 20], [2, 3, 1, 8, 1])]
    write_shard(tmp_path / "empty", [1, 1])
    assert groups(tmp_path / "empty", 5) == []


def test_groups_do_not_depend_on_how_much_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = np.random.default_rng(1).integers(1, 9, 200).tolist()
    write_shard(tmp_path / "a", lengths)
    at_once = groups(tmp_path / "a", 30)
    for documents in (1, 7, 64):
        monkeypatch.setattr(best_fit, "BLOCK_DOCUMENTS", documents)
        assert groups(tmp_path / "a", 30) == at_once


def test_documents_may_have_several_sequences_and_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shard(tmp_path / "a", [3, 1, 4, 2])
    path = tmp_path / "a.idx"
    content = bytearray(path.read_bytes())
    content[-5 * 8 :] = np.array([0, 2, 2, 3, 4], "<i8").tobytes()  # of 4, 0, 4 and 2 tokens
    path.write_bytes(content)
    for documents in (1, 2, 64):
        monkeypatch.setattr(best_fit, "BLOCK_DOCUMENTS", documents)
        assert groups(tmp_path / "a", 100) == [([0, 4, 8], [3, 3, 1])]


@pytest.mark.parametrize(
    ("entry", "value"),
    [(-4, 1), (-2, 9), (-1, 4), (-6, 8)],
    ids=[
        "the first is not 0",
        "one beyond the next",
        "more than there are",
        "an offset of another sequence",
    ],
)
def test_documents_that_do_not_follow_each_other_are_refused(
    tmp_path: Path, entry: int, value: int
) -> None:
    write_shard(
        tmp_path / "a", [3, 1, 4]
    )  # its file ends with three offsets and four entries of documents
    path = tmp_path / "a.idx"
    content = path.read_bytes()
    numbers = np.frombuffer(content[-7 * 8 :], "<i8").copy()
    assert numbers.tolist() == [0, 12, 16, 0, 1, 2, 3]
    numbers[entry] = value
    path.write_bytes(content[: -7 * 8] + numbers.tobytes())
    with pytest.raises(
        DataError, match=r"a\.idx: its documents do not stand one after another.*\. Mend it\."
    ):
        groups(tmp_path / "a", 100)


@given(
    lengths=st.lists(st.integers(1, 40) | st.integers(1, 4), max_size=80),
    sequence_length=st.integers(2, 20),
)
def test_every_target_is_in_one_row_and_short_documents_are_whole(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], sequence_length: int
) -> None:
    folder = tmp_path_factory.mktemp("packed")
    write_shard(folder / "a", lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(best_fit, "GROUP_POSITIONS", 50)
        patch.setattr(best_fit, "GROUP_ROWS", 2)
        counts = pack_shard(
            "web", folder / "a", folder / "web" / "a.rows", sequence_length, "Mend it."
        )
    rows = PackedRows(folder / "web" / "a.rows", sequence_length, sum(lengths))
    ends = np.cumsum(lengths, dtype=np.int64)
    targets, pieces = [], Counter()
    for row in range(rows.rows):
        starts, piece_lengths = rows.pieces(row)
        assert len(starts) and piece_lengths.sum() <= sequence_length
        assert (np.diff(starts) > 0).all()
        for start, length in zip(starts.tolist(), piece_lengths.tolist(), strict=True):
            document = int(np.searchsorted(ends, start, side="right"))
            pieces[document] += 1
            targets += range(start + 1, start + length + 1)
    taught = [
        i for end, n in zip(ends.tolist(), lengths, strict=True) for i in range(end - n + 1, end)
    ]
    assert sorted(targets) == taught
    assert pieces == {i: -(-(n - 1) // sequence_length) for i, n in enumerate(lengths) if n > 1}
    assert counts["files"] == {"web/a.rows": file_record(folder / "web" / "a.rows")}
    assert {name: value for name, value in counts.items() if name != "files"} == {
        "documents": len(lengths),
        "cut_documents": sum(n - 1 > sequence_length for n in lengths),
        "positions": len(taught),
        "pieces": pieces.total(),
        "rows": rows.rows,
    }
    shutil.rmtree(folder)
