"""The index of packed rows: the reader against the writer and the format's description, and damaged
files."""

import struct
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.sampling.packed_rows import HEADER, PackedRows, RowsWriter
from pipeline.store.files import file_record

TOKENS = 39
"""Tokens of the shard: the last target of the rows below is its last token."""


def write_rows(path: Path) -> dict[str, object]:
    """Write, for rows of 8, in two groups: (0, 5) and (9, 3) | (30, 8) | (6, 2)."""
    with RowsWriter(path, 8) as writer:
        writer.add(np.array([2, 1]), np.array([0, 9, 30]), np.array([5, 3, 8]))
        writer.add(np.array([1]), np.array([6]), np.array([2]))
        assert (writer.rows, writer.pieces) == (3, 4)
        return writer.finish()


def test_the_file_is_what_the_format_says(tmp_path: Path) -> None:
    record = write_rows(tmp_path / "a.rows")
    expected = b"BESTFIT\0" + struct.pack("<IIQQ", 1, 8, 3, 4) + struct.pack("<4q", 0, 2, 3, 4)
    expected += struct.pack("<4q", 0, 9, 30, 6) + struct.pack("<4i", 5, 3, 8, 2)
    assert (tmp_path / "a.rows").read_bytes() == expected
    assert record == file_record(tmp_path / "a.rows")
    assert [path.name for path in tmp_path.iterdir()] == ["a.rows"]


def test_leaving_early_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), RowsWriter(tmp_path / "a.rows", 8) as writer:
        writer.add(np.array([1]), np.array([6]), np.array([2]))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_rows_are_read_one_by_one_and_together(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.rows")
    rows = PackedRows(tmp_path / "a.rows", 8, TOKENS)
    assert rows.rows == 3
    assert [[part.tolist() for part in rows.pieces(row)] for row in range(3)] == [
        [[0, 9], [5, 3]],
        [[30], [8]],
        [[6], [2]],
    ]
    for row in (-1, 3):
        with pytest.raises(IndexError):
            rows.pieces(row)
    index, starts, lengths = rows.pieces_of_rows(np.array([2, 0, 2]))
    assert index.tolist() == [0, 1, 1, 2]
    assert starts.tolist() == [6, 0, 9, 6]
    assert lengths.tolist() == [2, 5, 3, 2]
    assert [len(part) for part in rows.pieces_of_rows(np.zeros(0, np.int64))] == [0, 0, 0]


def test_rows_are_found_by_their_tokens_the_last_target_included(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.rows")
    rows = PackedRows(tmp_path / "a.rows", 8, TOKENS)
    # Row 0 reads the tokens 0 to 5 and 9 to 12, row 1 30 to 38, row 2 6 to 8.
    expected = {
        (0, 1): [0],
        (5, 6): [0],
        (6, 9): [2],
        (5, 7): [0, 2],
        (12, 30): [0],
        (13, 30): [],
        (38, 99): [1],
    }
    assert {tokens: rows.rows_overlapping(*tokens).tolist() for tokens in expected} == expected
    assert rows.rows_overlapping(0, 99).tolist() == [0, 1, 2]


def test_a_shard_may_have_no_rows(tmp_path: Path) -> None:
    with RowsWriter(tmp_path / "a.rows", 8) as writer:
        writer.finish()
    rows = PackedRows(tmp_path / "a.rows", 8, TOKENS)
    assert rows.rows == 0
    assert rows.rows_overlapping(0, 9).tolist() == []


@pytest.mark.parametrize(
    ("place", "content", "what"),
    [
        (0, b"X", "is no index of packed rows, version 1"),
        (8, b"\2", "is no index of packed rows, version 1"),
        (12, b"\4", "holds rows of 4 positions instead of 8"),
        (16, b"\2", "has 112 bytes instead of 104"),
        (HEADER.size + 8, b"\5", "has rows without pieces, or with too many"),
        (HEADER.size + 8, b"\0", "has rows without pieces, or with too many"),
        (HEADER.size + 4 * 8 + 7, b"\xff", "has pieces outside the shard"),
        (HEADER.size + 8 * 8, b"\0", "has pieces outside the shard"),
        (HEADER.size + 5 * 8, b"\x24", "has pieces outside the shard"),
        (HEADER.size + 8 * 8, b"\6", "or rows of more than 8 positions"),
    ],
)
def test_a_damaged_file_is_refused_with_the_way_out(
    tmp_path: Path, place: int, content: bytes, what: str
) -> None:
    path = tmp_path / "web" / "a.rows"
    write_rows(path)
    damaged = bytearray(path.read_bytes())
    damaged[place : place + 1] = content
    path.write_bytes(damaged)
    for read in (lambda rows: rows.pieces(0), lambda rows: rows.pieces_of_rows(np.array([0, 1]))):
        with pytest.raises(DataError) as error:
            read(PackedRows(path, 8, TOKENS))
        assert f"{path}: " in str(error.value) and what in str(error.value)
        assert (
            f"Delete it and {tmp_path / 'manifest.json'}, then run `pipeline pack` "
            "with the same run file." in str(error.value)
        )


def test_a_file_that_is_cut_or_missing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "web" / "a.rows"
    write_rows(path)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"cannot be read|bytes instead of 112"):
            PackedRows(path, 8, TOKENS)
    path.unlink()
    with pytest.raises(DataError, match=r"a\.rows: cannot be read \(.*No such file"):
        PackedRows(path, 8, TOKENS)
