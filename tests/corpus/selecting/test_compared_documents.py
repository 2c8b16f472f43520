"""The shards as those who compare documents take them."""

from pathlib import Path

from pipeline.corpus.selecting.compared_documents import compared_shards
from pipeline.corpus.selecting.judged_shards import ALWAYS_STAYS, JudgedShard, rank_of

FOLDERS = {"documents": Path("documents"), "annotations": Path("annotations")}


def shard(name: str, number: int, rank: int) -> JudgedShard:
    source, stem = name.split("/")
    return JudgedShard(
        f"{name}.parquet", number, source, stem.partition("_")[0], rank, 10, "sum", "other"
    )


def test_held_out_files_come_first_and_always_stay() -> None:
    shards = [
        shard("a/validation_00_000", 0, ALWAYS_STAYS),
        shard("a/train_00_000", 1, rank_of(0, "train")),
        shard("b/validation_00_000", 2, rank_of(1, "validation")),
    ]
    compared = compared_shards(FOLDERS, shards, {each.name: 3 for each in shards})
    assert [each.always_stays for each in compared] == [True, False, False]
    groups = [each.group for each in compared]
    assert groups == sorted(groups)
    assert [each.name for each in compared] == [
        "a~validation_00_000",
        "a~train_00_000",
        "b~validation_00_000",
    ]
