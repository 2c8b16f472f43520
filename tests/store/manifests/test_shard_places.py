"""Where the files of a source's shards lie, and the names by which shards are called."""

import pytest

from pipeline.store.manifests import shard_places
from pipeline.store.manifests.shard_places import (
    file_of,
    logical_name,
    needs_parts,
    part_of,
    placed,
    source_of,
    stem_of,
)

SHARD = "train_0a1b2c3d4e5f_000"


def test_the_files_of_a_shard_have_one_part() -> None:
    files = [f"{SHARD}.parquet", f".{SHARD}.keys", *(f"{SHARD}.{s}" for s in ("bin", "idx", "doc"))]
    assert {part_of(file) for file in files} == {"0a"}

    # Of other names, dots included, the hash counts, without the suffix.
    others = ["train_my.corpus.bin", "train_my.corpus.idx", "train_my.corpus.rows"]
    assert len({part_of(file) for file in others}) == 1
    assert len({part_of(f"train_{number}.bin") for number in range(2000)}) == 256


def test_a_path_is_taken_apart_wherever_it_lies() -> None:
    for path in (f"web/{SHARD}.parquet", f"web/0a/{SHARD}.parquet"):
        assert source_of(path) == "web"
        assert file_of(path) == f"{SHARD}.parquet"
        assert stem_of(path) == SHARD
        assert logical_name(path) == f"web/{SHARD}.parquet"
    # A source may be called like a part; files of other stages keep their names.
    assert source_of("0a/x.bin") == "0a"
    for path in ("0a/x.bin", "manifest.json", "web/rejected/0a.jsonl", "a/0a/b/c.json"):
        assert logical_name(path) == path


def test_placing_and_naming_are_inverse() -> None:
    for name in (f"web/{SHARD}.bin", "0a/train_0a.bin", f"web/.{SHARD}.keys"):
        assert placed(name, False) == name
        path = placed(name, True)
        assert path.count("/") == 2
        assert logical_name(path) == name


def test_paths_in_parts_sort_as_shards_do() -> None:
    keys = [f"{number * 0x9E3779B97F4A7C15 % 2**48:012x}" for number in range(300)]
    names = [f"web/train_{key}_{part:03d}.parquet" for key in keys for part in range(2)]
    paths = sorted(placed(name, True) for name in names)
    assert [logical_name(path) for path in paths] == sorted(names)


def test_the_bound_counts_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_places, "MOST_ITEMS_IN_A_FOLDER", 3)
    assert [needs_parts(items) for items in (0, 3, 4)] == [False, False, True]
