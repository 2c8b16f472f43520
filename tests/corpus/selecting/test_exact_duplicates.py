"""Exact duplicates: which document of a key stays, and into how many parts keys are divided."""

import numpy as np

from pipeline.corpus.selecting.duplicates import KEYED, losers_among, partitions_of


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
