"""Weights that hold over every window, and places that are looked up."""

import numpy as np
import pytest

from pipeline.sampling.mixture import PERIOD, make_mixture

MIXTURES = [
    {"a": 1.0},
    {"a": 0.5, "b": 0.5},
    {"a": 67.0, "b": 15.0, "c": 4.5, "d": 4.5, "e": 4.5, "f": 2.5, "g": 2.0},
    {"big": 0.9999, "tiny": 0.0001},
    {str(i): float(i + 1) for i in range(20)},
]


@pytest.mark.parametrize("weights", MIXTURES)
def test_every_window_of_1000_samples_holds_the_weights_within_2(weights: dict[str, float]) -> None:
    mixture = make_mixture(weights)
    twice = np.concatenate([mixture.source, mixture.source])  # windows may reach over the period's end
    for i in range(len(mixture.names)):
        counts = np.concatenate([[0], np.cumsum(twice == i)])
        windows = counts[1000 : PERIOD + 1000] - counts[:PERIOD]
        assert np.abs(windows - 1000 * mixture.counts[i] / PERIOD).max() <= 2


@pytest.mark.parametrize("weights", MIXTURES)
def test_shares_are_the_weights_to_one_in_a_period(weights: dict[str, float]) -> None:
    mixture = make_mixture(weights)
    assert mixture.counts.sum() == PERIOD
    shares = np.array(list(weights.values())) / sum(weights.values())
    assert np.abs(mixture.counts - shares * PERIOD).max() <= 1


def test_each_sources_samples_are_numbered_without_gaps() -> None:
    mixture = make_mixture({"a": 2, "b": 1})
    start = 3 * PERIOD - 50
    numbers: dict[str, list[int]] = {"a": [], "b": []}
    for i in range(start, start + 100):
        source, number = mixture.locate(i)
        numbers[source].append(number)
    for source, found in numbers.items():
        first = mixture.samples_before(start)[source]
        assert found == list(range(first, first + len(found)))
    assert mixture.samples_before(start + 100) == {s: n[-1] + 1 for s, n in numbers.items()}


def test_a_source_of_weight_zero_never_comes() -> None:
    mixture = make_mixture({"a": 1, "b": 0, "c": 1})
    assert mixture.names == ("a", "c")
    assert {mixture.locate(i)[0] for i in range(10)} == {"a", "c"}
