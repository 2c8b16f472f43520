"""Files of records in parts: what is written is read, damage is named, a full disk leaves nothing."""

import errno
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus.selecting.duplicates import KEYED, losers_among, partitions_of
from pipeline.corpus.selecting.partition_files import read_part, write_parts
from pipeline.errors import DataError
from pipeline.store.checksummed_file import ChecksummedFile
from pipeline.store.files import file_record

RECORD = np.dtype([("a", "<u8"), ("b", "<u4")])


def records(count: int) -> np.ndarray:
    made = np.zeros(count, RECORD)
    made["a"] = np.arange(count) * 7
    return made


def test_each_part_is_read_alone(tmp_path: Path) -> None:
    written = records(10)
    record = write_parts(tmp_path / "x.parts", written, [3, 3, 10])
    assert record == file_record(tmp_path / "x.parts")
    parts = [read_part(tmp_path / "x.parts", part, RECORD) for part in range(3)]
    assert [part["a"].tolist() for part in parts] == [[0, 7, 14], [], [7 * n for n in range(3, 10)]]
    write_parts(tmp_path / "empty.parts", records(0), [0])
    assert len(read_part(tmp_path / "empty.parts", 0, RECORD)) == 0


def test_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.parts"
    write_parts(path, records(10), [3, 10])
    whole = path.read_bytes()
    for place in (0, 8, 20, 33, 40, len(whole) - 1):
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(DataError, match=r"x\.parts: is damaged .*Delete it, then run"):
            for part in range(2):
                read_part(path, part, RECORD)
    for size in (0, 10, 40, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"x\.parts: is damaged"):
            read_part(path, 1, RECORD)
    path.unlink()
    with pytest.raises(DataError, match=r"x\.parts: is missing\. Delete it, then run"):
        read_part(path, 0, RECORD)


def test_a_full_disk_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: ChecksummedFile, content: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ChecksummedFile, "write", full)
    with pytest.raises(OSError, match="No space left"):
        write_parts(tmp_path / "x.parts", records(10), [10])
    assert list(tmp_path.iterdir()) == []


def test_the_first_in_the_order_of_priority_stays() -> None:
    # Key, rank, size, shard, row: two keys, of which the second has one document.
    rows = [(1, 3, 9, 5, 0), (1, 2, 4, 9, 1), (1, 2, 5, 9, 7), (1, 2, 5, 9, 2), (2, 9, 1, 1, 1)]
    keyed = np.zeros(len(rows), KEYED)
    for number, (key, rank, size, shard, row) in enumerate(rows):
        keyed[number] = (0, key, rank, size, shard, row)
    lost = losers_among(keyed)
    assert {(int(loser["shard"]), int(loser["row"])) for loser in lost} == {(5, 0), (9, 1), (9, 7)}
    assert {(int(loser["to_shard"]), int(loser["to_row"])) for loser in lost} == {(9, 2)}
    # What `validation_paths` hold out never loses, even to each other.
    keyed["rank"][:3] = 0
    assert {int(loser["row"]) for loser in losers_among(keyed)} == {2}
    assert len(losers_among(keyed[:0])) == 0


def test_parts_grow_with_the_documents() -> None:
    assert [partitions_of(count) for count in (0, 4_000_000, 4_000_001, 10**9)] == [1, 1, 2, 250]
