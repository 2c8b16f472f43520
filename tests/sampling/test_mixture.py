"""Weights that hold over every window, and places that are looked up both ways."""

import numpy as np
import pytest

from pipeline.sampling.mixture import PERIOD, make_mixture

MIXTURES = [
    [1.0],
    [0.5, 0.5],
    [67.0, 15.0, 4.5, 4.5, 4.5, 2.5, 2.0],
    [0.9999, 0.0001],
    [1.0, 0.0, 3.0],
    [float(i + 1) for i in range(20)],
]


@pytest.mark.parametrize("weights", MIXTURES, ids=str)
def test_every_window_of_1000_samples_holds_the_weights_within_2(weights: list[float]) -> None:
    mixture = make_mixture(weights)
    twice = np.concatenate([mixture.source, mixture.source])  # windows may reach over the period's end
    for i in range(len(weights)):
        counts = np.concatenate([[0], np.cumsum(twice == i)])
        windows = counts[1000 : PERIOD + 1000] - counts[:PERIOD]
        assert np.abs(windows - 1000 * mixture.counts[i] / PERIOD).max() <= 2


@pytest.mark.parametrize("weights", MIXTURES, ids=str)
def test_shares_are_the_weights_to_one_in_a_period(weights: list[float]) -> None:
    mixture = make_mixture(weights)
    assert mixture.counts.sum() == PERIOD
    shares = np.array(weights) / sum(weights)
    assert np.abs(mixture.counts - shares * PERIOD).max() <= 1


@pytest.mark.parametrize("weights", MIXTURES, ids=str)
def test_each_sources_samples_are_numbered_without_gaps_and_found_again(weights: list[float]) -> None:
    mixture = make_mixture(weights)
    indices = np.arange(3 * PERIOD - 500, 3 * PERIOD + 500)
    sources, numbers = mixture.locate(indices)
    for source in set(sources.tolist()):
        here = sources == source
        first = int(mixture.samples_before(int(indices[0]))[source])
        assert numbers[here].tolist() == list(range(first, first + int(here.sum())))
        np.testing.assert_array_equal(mixture.find(source, numbers[here]), indices[here])
    after = mixture.samples_before(int(indices[-1]) + 1) - mixture.samples_before(int(indices[0]))
    assert after.tolist() == np.bincount(sources, minlength=len(weights)).tolist()


def test_a_source_of_weight_zero_never_comes() -> None:
    mixture = make_mixture([1, 0, 1])
    assert set(mixture.source.tolist()) == {0, 2}
    assert mixture.counts[1] == 0
