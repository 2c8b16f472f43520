"""Shuffles of one source's rows: exact, invertible, and `block` stays within a window."""

import numpy as np
import pytest

from pipeline.sampling.permutation import derive_key
from pipeline.sampling.shuffle import WINDOW_BLOCKS, BlockShuffle, FullShuffle, Shuffle

SHUFFLES = [
    FullShuffle(1),
    FullShuffle(1000),
    *(
        BlockShuffle(size, block)
        for size in (1, 5, 16, 17, 100, 1000, 4097)
        for block in (1, 3, 8, 64)
    ),
]


@pytest.mark.parametrize("shuffle", SHUFFLES, ids=str)
def test_every_row_comes_exactly_once_and_is_found_again(
    shuffle: FullShuffle | BlockShuffle,
) -> None:
    for epoch in range(4):
        key = derive_key(1, "web", epoch)
        rows = shuffle.rows(np.arange(shuffle.size), key)
        assert sorted(rows.tolist()) == list(range(shuffle.size))
        np.testing.assert_array_equal(shuffle.positions(rows, key), np.arange(shuffle.size))


@pytest.mark.parametrize("shuffle", [FullShuffle(10_000), BlockShuffle(10_003, 16)], ids=str)
def test_any_part_is_computed_as_the_whole(shuffle: Shuffle) -> None:
    key = derive_key(2, "web", 0)
    whole = shuffle.rows(np.arange(10_000), key)
    for start in (0, 1, 255, 256, 5000, 9_990):
        np.testing.assert_array_equal(
            shuffle.rows(np.arange(start, start + 10), key), whole[start : start + 10]
        )


@pytest.mark.parametrize("size", [64 * 16 * 16, 64 * 16 * 16 + 5])
def test_a_window_of_positions_reads_a_window_of_blocks_each_once(size: int) -> None:
    block = 16
    shuffle, key = BlockShuffle(size, block), derive_key(3, "web", 0)
    blocks = shuffle.rows(np.arange(size), key) // block
    seen: dict[int, list[int]] = {}
    for position, index in enumerate(blocks.tolist()):
        seen.setdefault(index, []).append(position)
    spans = [positions[-1] - positions[0] for positions in seen.values()]
    assert max(spans) < WINDOW_BLOCKS * block
    assert (
        len({tuple(blocks[:block]), tuple(blocks[block : 2 * block])}) == 2
    )  # blocks are mixed within the window
    assert len(set(blocks[: 4 * block].tolist())) > WINDOW_BLOCKS // 2


def test_blocks_come_in_a_random_order() -> None:
    shuffle, key = BlockShuffle(16 * 16 * 400, 16), derive_key(4, "web", 0)
    firsts = shuffle.rows(np.arange(0, shuffle.size, 16 * 16), key) // 16  # one of every window
    assert abs(np.corrcoef(firsts[:-1], firsts[1:])[0, 1]) < 4 / np.sqrt(len(firsts))


def test_epochs_differ() -> None:
    for shuffle in (FullShuffle(500), BlockShuffle(500, 8)):
        orders = [
            shuffle.rows(np.arange(500), derive_key(1, "web", epoch)).tolist() for epoch in range(3)
        ]
        assert orders[0] != orders[1] != orders[2]
