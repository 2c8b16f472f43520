"""The keyed permutation: a bijection that looks random, both ways."""

import numpy as np
import pytest

from pipeline.sampling.permutation import derive_key, invert, permute


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 1000, 4097])
def test_every_index_comes_exactly_once_and_is_found_again(size: int) -> None:
    indices = np.arange(size)
    for epoch in range(3):
        key = derive_key(7, "web", epoch)
        images = permute(indices, size, key)
        assert sorted(images) == list(range(size))
        np.testing.assert_array_equal(invert(images, size, key), indices)


def test_it_is_the_same_in_every_process_and_release() -> None:
    """Fixed values: a change here would change the order of every run in the world."""
    assert permute(np.arange(5), 1000, derive_key(1, "web", 0)).tolist() == [448, 62, 876, 499, 879]


def test_keys_differ_by_every_part_and_parts_do_not_run_together() -> None:
    keys = [
        derive_key(*parts)
        for parts in [(1, "a", 0), (2, "a", 0), (1, "b", 0), (1, "a", 1), (1, "a0"), ("1a", 0)]
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("seed", range(5))
def test_neighbours_are_uncorrelated_and_positions_uniform(seed: int) -> None:
    size = 20_000
    images = permute(np.arange(size), size, derive_key(seed, "web", 0)).astype(float)
    # The correlation of n independent pairs has standard deviation 1 / sqrt(n) = 0.007.
    assert abs(np.corrcoef(images[:-1], images[1:])[0, 1]) < 4 / np.sqrt(size)
    assert abs(np.corrcoef(np.arange(size), images)[0, 1]) < 4 / np.sqrt(size)
    # The first half of the images over 100 equal bins: chi-square with 99 degrees of freedom,
    # sampled without replacement at one half, so that its mean is 99 / 2 and its standard deviation
    # sqrt(2 x 99) / 2.
    counts, _ = np.histogram(images[: size // 2], bins=100, range=(0, size))
    chi_square = ((counts - 100) ** 2 / 100).sum()
    assert abs(chi_square - 99 / 2) < 4 * np.sqrt(2 * 99) / 2


@pytest.mark.parametrize("seed", range(5))
def test_gaps_between_neighbours_are_spread_as_those_of_a_random_order(seed: int) -> None:
    """The gap (next - this) mod n is uniform over 1 .. n - 1 in a random permutation."""
    size, bins = 20_011, 90
    images = permute(np.arange(size), size, derive_key(seed, "gaps", 0))
    gaps = np.diff(images) % size
    assert gaps.min() >= 1
    counts, _ = np.histogram(gaps, bins=bins, range=(1, size))
    expected = len(gaps) / bins
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_square - (bins - 1)) < 4 * np.sqrt(2 * (bins - 1))


def test_two_epochs_are_unrelated() -> None:
    size = 20_000
    first, second = (
        permute(np.arange(size), size, derive_key(3, "web", epoch)) for epoch in (0, 1)
    )
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(size)
    assert (first == second).sum() < 10  # 1 is expected


@pytest.mark.parametrize("size", [10**13 + 3, 2**62])
def test_indices_beyond_32_bits_stay_in_range_and_come_back(size: int) -> None:
    key, indices = derive_key(0, "huge", 0), np.array([0, 1, size - 1])
    images = permute(indices, size, key)
    assert len(set(images.tolist())) == 3
    assert all(0 <= image < size for image in images.tolist())
    np.testing.assert_array_equal(invert(images, size, key), indices)
