"""The keyed permutation: a bijection that looks random."""

import numpy as np
import pytest

from pipeline.sampling.permutation import derive_key, permute


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 1000, 4097])
def test_every_index_comes_exactly_once(size: int) -> None:
    for epoch in range(3):
        key = derive_key(7, "web", epoch)
        assert sorted(permute(i, size, key) for i in range(size)) == list(range(size))


def test_it_is_the_same_in_every_process_and_release() -> None:
    """Fixed values: a change here would change the order of every run in the world."""
    key = derive_key(1, "web", 0)
    assert [permute(i, 1000, key) for i in range(5)] == [448, 62, 876, 499, 879]


def test_keys_differ_by_every_part_and_parts_do_not_run_together() -> None:
    keys = [derive_key(*parts) for parts in [(1, "a", 0), (2, "a", 0), (1, "b", 0), (1, "a", 1), (1, "a0"), ("1a", 0)]]
    assert len(set(keys)) == len(keys)


def test_neighbours_are_uncorrelated_and_positions_uniform() -> None:
    size = 20_000
    images = np.array([permute(i, size, derive_key(3, "web", 0)) for i in range(size)], float)
    # The correlation of n independent pairs has standard deviation 1 / sqrt(n) = 0.007.
    assert abs(np.corrcoef(images[:-1], images[1:])[0, 1]) < 4 / np.sqrt(size)
    assert abs(np.corrcoef(np.arange(size), images)[0, 1]) < 4 / np.sqrt(size)
    # The first half of the images over 100 equal bins: chi-square with 99 degrees of freedom, sampled without
    # replacement at one half, so that its mean is 99 / 2 and its standard deviation sqrt(2 x 99) / 2.
    counts, _ = np.histogram(images[: size // 2], bins=100, range=(0, size))
    chi_square = ((counts - 100) ** 2 / 100).sum()
    assert abs(chi_square - 99 / 2) < 4 * np.sqrt(2 * 99) / 2


def test_indices_beyond_32_bits_stay_in_range() -> None:
    size, key = 10**13 + 3, derive_key(0, "huge", 0)
    images = [permute(i, size, key) for i in (0, 1, size - 1)]
    assert len(set(images)) == 3
    assert all(0 <= image < size for image in images)
