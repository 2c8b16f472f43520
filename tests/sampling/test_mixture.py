"""Shares that are exact after every sample, for any weights, and places that are computed both
ways."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.sampling.mixture import LARGEST_DEVIATION, LARGEST_SAMPLE, LARGEST_TOTAL, make_mixture

LLAMA = [67.0, 15.0, 4.5, 4.5, 4.5, 2.5, 2.0]
FIBONACCI = [1, 10**9, 10**9, 10**9, 2 * 10**9, 3 * 10**9, 5 * 10**9, 8 * 10**9]
"""The worst tree: each node is exactly as heavy as its child and its grandchild together."""
MIXTURES = [
    [1.0],
    [0.5, 0.5],
    LLAMA,
    [100, 10_000_000],
    [0.9999, 0.0001],
    [1.0, 0.0, 3.0],
    [float(i + 1) for i in range(20)],
    FIBONACCI,
    [1e-300, 1e300, 1 / 3],
    [1] * 100,
]
any_weights = st.lists(
    st.one_of(st.integers(0, 20), st.integers(0, 2**50), st.floats(0, 1e6, allow_nan=False)),
    min_size=1,
    max_size=30,
).filter(any)


def deviations(weights: list[float], samples: int) -> list[Fraction]:
    """Return the largest distance of each source's count from its exact share, over all beginnings
    of so many samples."""
    exact = [Fraction(str(weight)) for weight in weights]
    total = sum(exact)
    sources = make_mixture(weights).locate(np.arange(samples))[0]
    found = []
    for source, weight in enumerate(exact):
        places = np.flatnonzero(sources == source).tolist()
        share = weight / total
        # Between two samples of a source its count stands still, so the distance is largest at one
        # end or the other.
        ends = [*zip(range(len(places) + 1), [*places, samples], strict=True)]
        starts = [(count + 1, place + 1) for count, place in enumerate(places)]
        found.append(max(abs(count - n * share) for count, n in [*ends, *starts]))
    return found


@given(any_weights)
@example(FIBONACCI)
@example([*FIBONACCI, 0.0])
def test_after_every_sample_each_source_is_within_the_bound_of_its_exact_share(
    weights: list[float],
) -> None:
    rounding = Fraction(600, LARGEST_TOTAL)
    assert max(deviations(weights, 600)) < Fraction(str(LARGEST_DEVIATION)) + rounding


@pytest.mark.parametrize(
    ("weights", "most"),
    [([1, 1], 0.5), ([100, 10_000_000], 0.5), (LLAMA, 1.03), ([1, 2, 4, 8], 1), ([1] * 64, 1)],
    ids=str,
)
def test_common_mixtures_stay_within_about_one(weights: list[float], most: float) -> None:
    assert max(deviations(weights, 20_000)) <= Fraction(str(most))


@given(st.lists(st.integers(0, 300), min_size=1, max_size=12).filter(any))
@example([100, 100_000])
@example([1, 1, 1, 50_000])
def test_one_epoch_reads_every_row_of_every_source_once(rows: list[int]) -> None:
    mixture, total = make_mixture(rows), sum(rows)
    for epoch in (1, 2):
        assert mixture.samples_before(epoch * total).tolist() == [epoch * count for count in rows]
    assert np.bincount(mixture.locate(np.arange(total))[0], minlength=len(rows)).tolist() == rows


def test_a_source_of_100_rows_beside_one_of_10_million_comes_100_times_in_an_epoch() -> None:
    mixture = make_mixture([100, 10_000_000])
    assert mixture.samples_before(10_000_100).tolist() == [100, 10_000_000]
    places = mixture.find(0, np.arange(101))
    assert places[-1] >= 10_000_100
    assert {int(gap) for gap in np.diff(places)} == {100_001}  # evenly over the epoch


def test_shares_hold_in_the_largest_corpora() -> None:
    """1.2 T tokens and 8 E tokens at a sequence length of 2,048, the smallest source a row."""
    for total in (585_937_500, 1 << 52):
        rows = [1, 1000, total // 3, total - total // 3 - 1001]
        mixture = make_mixture(rows)
        assert mixture.samples_before(total).tolist() == rows
    assert mixture.weights == tuple(rows)


@given(any_weights, st.integers(0, LARGEST_SAMPLE - 300))
@example([1e-300, 1e300, 1 / 3], LARGEST_SAMPLE - 300)
@example([LARGEST_TOTAL // 2, LARGEST_TOTAL // 2 - 1, 1], LARGEST_SAMPLE - 300)
def test_a_sample_is_the_next_of_its_source_and_found_again(
    weights: list[float], first: int
) -> None:
    """Anywhere, as at the beginning: no place depends on where one starts to look."""
    mixture, indices = make_mixture(weights), np.arange(first, first + 200)
    sources, numbers = mixture.locate(indices)
    before = mixture.samples_before(first)
    assert before.sum() == first
    for source in range(len(weights)):
        here = sources == source
        assert numbers[here].tolist() == list(
            range(before[source], before[source] + int(here.sum()))
        )
        if weights[source] > 0:
            np.testing.assert_array_equal(mixture.find(source, numbers[here]), indices[here])
    after = mixture.samples_before(first + 200) - before
    assert after.tolist() == np.bincount(sources, minlength=len(weights)).tolist()


@pytest.mark.parametrize("weights", MIXTURES, ids=str)
def test_each_sources_samples_are_found_one_after_another(weights: list[float]) -> None:
    mixture = make_mixture(weights)
    for source, weight in enumerate(mixture.weights):
        if weight * 1000 >= sum(mixture.weights):  # of the others, none comes before sample 2^50
            places = mixture.find(source, np.arange(500)).tolist()
            assert all(place < following for place, following in pairwise(places))
            located, numbers = mixture.locate(np.array(places))
            assert set(located.tolist()) == {source}
            assert numbers.tolist() == list(range(500))


def test_a_source_of_weight_zero_never_comes() -> None:
    mixture = make_mixture([1, 0, 1])
    assert set(mixture.locate(np.arange(1000))[0].tolist()) == {0, 2}
    assert mixture.samples_before(1000).tolist() == [500, 0, 500]


def test_decimal_weights_are_what_is_written() -> None:
    assert make_mixture([0.7, 0.2, 0.1]).weights == (7, 2, 1)
    assert make_mixture(LLAMA).weights == (134, 30, 9, 9, 9, 5, 4)
    assert make_mixture([1e-5, 1]).weights == (1, 100_000)
