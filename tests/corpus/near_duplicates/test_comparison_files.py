"""Files of a comparison: parts with checksums, damage found by name, nothing half-written."""

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from compared_texts import compare, ids_in, verdicts_of, write_shard

from pipeline.corpus.near_duplicates.band_records import (
    RECORDS_IN_A_PARTITION,
    partition_of,
    partitions_for,
)
from pipeline.corpus.near_duplicates.compared_shards import LARGEST_TEXT, ComparedShards, compared
from pipeline.corpus.near_duplicates.pairs import ROUNDING
from pipeline.corpus.near_duplicates.partition_file import (
    PartsFile,
    read_part,
    starts_of_parts,
    write_parts,
)
from pipeline.corpus.near_duplicates.rare_shingles import prefix_length
from pipeline.corpus.near_duplicates.statuses import read_status
from pipeline.errors import DataError, OutOfSpace, TasksFailed
from pipeline.store.checksummed_file import ChecksummedFile
from pipeline.store.files import file_record

PAIR = np.dtype([("a", "<u4"), ("b", "<u8")])
TEXTS = [ids_in(100, 138), ids_in(103, 141), ids_in(106, 144)]


def test_parts_are_read_alone(tmp_path: Path) -> None:
    records = np.array([(1, 10), (2, 20), (3, 30)], PAIR)
    path = tmp_path / "x.parts"
    starts = starts_of_parts(np.array([0, 2, 2]), 4)
    assert starts.tolist() == [0, 1, 1, 3, 3]
    assert write_parts(path, records, starts) == file_record(path)
    # Three records of 12 bytes, five bounds, four checksums, two numbers and magic.
    assert path.stat().st_size == 3 * 12 + 5 * 8 + 4 * 8 + 24
    assert read_part(path, PAIR, 0).tolist() == [(1, 10)]
    assert read_part(path, PAIR, 1).tolist() == []
    assert read_part(path, PAIR, 2).tolist() == [(2, 20), (3, 30)]
    with PartsFile(path, PAIR) as file:
        assert file.parts == 4
        assert file.bounds().tolist() == [0, 1, 1, 3, 3]


@pytest.mark.parametrize("place", [0, 15, 40, 70, 100, -1])
def test_flipped_byte_is_found(place: int, tmp_path: Path) -> None:
    path = tmp_path / "x.parts"
    write_parts(path, np.array([(1, 10), (2, 20), (3, 30)], PAIR), np.array([0, 1, 1, 3]))
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.parts: is damaged.*`pipeline select`"):
        for part in range(3):
            read_part(path, PAIR, part)


def test_file_that_ends_early_or_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.parts"
    write_parts(path, np.array([(1, 10)], PAIR), np.array([0, 1]))
    content = path.read_bytes()
    for size in (0, 10, 30, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(DataError, match=r"x\.parts: is damaged"):
            read_part(path, PAIR, 0)
    path.unlink()
    with pytest.raises(DataError, match=r"x\.parts: is missing"):
        read_part(path, PAIR, 0)


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    shard = write_shard(tmp_path, "s", TEXTS)
    monkeypatch.setattr(ChecksummedFile, "write", full)
    with pytest.raises(OutOfSpace):
        compare([shard], tmp_path / "work")
    assert not list((tmp_path / "work").rglob("*.parts")) + list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize(
    ("pattern", "later"),
    [
        ("bands/*/*.parts", "groups"),
        ("groups/*/*.members", "sets"),
        ("sets/*/*.sets", "rounds"),
        ("rounds/*/states/*/*.state", "verdicts"),
        ("rounds/*/statuses/*.status", "verdicts"),
    ],
)
def test_damaged_file_of_a_step_is_named_and_made_again(
    pattern: str, later: str, tmp_path: Path
) -> None:
    shard = write_shard(tmp_path, "s", TEXTS)
    work = tmp_path / "work"
    verdicts = verdicts_of(compare([shard], work))
    (path,) = work.glob(pattern)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    # A later step that has to run reads it.
    for record in (work / later).rglob("*~*.json" if later != "groups" else "0*.json"):
        record.unlink()
    read_status.cache_clear()
    with pytest.raises(TasksFailed, match=rf"{path.name}: .*damaged.*Delete it"):
        compare([shard], work)
    path.unlink()
    assert verdicts_of(compare([shard], work)) == verdicts


def test_damaged_annotations_are_named(tmp_path: Path) -> None:
    shard = write_shard(tmp_path, "s", TEXTS)
    shard.annotations.write_bytes(shard.annotations.read_bytes()[:-7])
    with pytest.raises(TasksFailed, match=r"annotations/s/.*damaged.*`pipeline annotate`"):
        compare([shard], tmp_path / "work")


def test_annotations_of_other_documents_are_named(tmp_path: Path) -> None:
    shard = write_shard(tmp_path, "s", TEXTS)
    other = write_shard(tmp_path / "other", "s", TEXTS[:2])
    shard.annotations.write_bytes(other.annotations.read_bytes())
    with pytest.raises(TasksFailed, match="has 2 rows and its documents 3"):
        compare([shard], tmp_path / "work")
    with pytest.raises(TasksFailed, match="annotates other documents"):
        compare([replace(shard, checksum="another")], tmp_path / "work")


def test_partitions_grow_with_the_documents() -> None:
    assert partitions_for(0) == partitions_for(RECORDS_IN_A_PARTITION) == 1
    assert partitions_for(RECORDS_IN_A_PARTITION + 1) == 2
    # RedPajama-1T: 900 million documents with 14 bands each.
    assert partitions_for(14 * 900_000_000) == 8192
    keys = np.array([0, 2**62, 2**63, 2**64 - 1], np.uint64)
    assert partition_of(keys, 4).tolist() == [0, 1, 2, 3]
    assert partition_of(keys, 1).tolist() == [0, 0, 0, 0]


def test_order_of_a_document_is_its_group_then_its_length(tmp_path: Path) -> None:
    shards = [
        write_shard(tmp_path, "b", TEXTS[:1], group=1),
        write_shard(tmp_path, "a", TEXTS, group=1),
        write_shard(tmp_path, "c", TEXTS[:2], group=0),
    ]
    comparison: ComparedShards = compared(shards)
    assert [shard.source for shard in comparison.shards] == ["c", "a", "b"]
    assert comparison.starts.tolist() == [0, 2, 5, 6]
    assert comparison.shard_of(np.array([0, 1, 2, 5], np.uint64)).tolist() == [0, 0, 1, 2]
    assert comparison.document_id(4) == "a/train_00_000/2"
    order = comparison.order(1, np.array([0, 7]))
    assert order.tolist() == [2**48 + LARGEST_TEXT, 2**48 + LARGEST_TEXT - 7]
    assert comparison.bytes_in_order(order).tolist() == [0, 7]


@pytest.mark.parametrize(
    ("shingles", "threshold", "expected"), [(100, 0.8, 21), (10, 0.7, 4), (5, 0.8, 2), (1, 0.8, 1)]
)
def test_prefix_holds_a_common_shingle(shingles: int, threshold: float, expected: int) -> None:
    assert prefix_length(shingles, threshold) == expected
    # So many shingles at the end may differ from those of a similar set.
    assert shingles - expected < threshold * shingles - ROUNDING + 1e-6
