"""Descents and peaks by hand."""

from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.planning.double_descent.curve_shape import (
    SeedBand,
    descent_shape,
    interpolation_threshold,
    seed_bands,
)


def by_size(*seeds: Sequence[float]) -> dict[float, dict[int, float]]:
    """Return size -> seed -> value, at sizes 1, 2, 4 and so on."""
    return {
        2.0**place: {seed: values[place] for seed, values in enumerate(seeds, start=1)}
        for place in range(len(seeds[0]))
    }


HELD_OUT_LOSS = (
    (6.008, 7.246, 8.838, 10.67, 16.054, 15.04, 12.182, 10.524, 9.387, 8.774),
    (6.085, 7.04, 8.521, 10.624, 16.13, 15.088, 12.004, 10.502, 9.353, 8.631),
    (6.097, 6.967, 8.544, 10.628, 16.421, 15.197, 11.906, 10.602, 9.358, 8.696),
)
"""Of three seeds of jobs/study-width.yaml, over the width."""


def test_a_double_descent() -> None:
    """Five seeds fall to 3, rise to 9 and fall to 1; that all end lower is 1 of 32 by chance."""
    seeds = [(5.0 + add, 4 + add, 3 + add, 9 + add, 2 + add, 1 + add) for add in range(5)]
    shape = descent_shape(by_size(*seeds))
    assert shape is not None
    assert shape.first_minimum == SeedBand(4.0, 5, 3, 7)
    assert shape.peak == SeedBand(8.0, 11, 9, 13)
    assert shape.last_minimum == SeedBand(32.0, 3, 1, 5)
    assert shape.test is not None
    assert (shape.seeds, shape.test.peak_seeds, shape.test.lower_seeds) == (5, 5, 5)
    assert shape.lower_chance == 1 / 32
    assert shape.has_peak
    assert shape.is_below_first
    # Of three of these seeds that all end lower is 1 of 8.
    fewer = descent_shape(by_size(*seeds[:3]))
    assert fewer is not None
    assert fewer.is_lower_in_every_seed
    assert not fewer.is_below_first


def test_the_peak_of_the_shipped_study_is_not_chance() -> None:
    shape = descent_shape(by_size(*HELD_OUT_LOSS))
    assert shape is not None
    assert shape.test is not None
    assert (shape.test.peak_seeds, shape.test.lower_seeds) == (3, 0)
    assert shape.test.chance < 0.002
    assert shape.has_peak
    assert not shape.is_below_first


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_noise_has_no_peak(seeds: int) -> None:
    """Each seed is often higher where all of them together are highest: a peak is seldom told."""
    generator = np.random.default_rng(2)
    studies = [by_size(*generator.normal(size=(seeds, 10)).tolist()) for _ in range(60)]
    shapes = [descent_shape(study) for study in studies]
    peaks = sum(shape is not None and shape.has_peak for shape in shapes)
    assert peaks <= 6
    assert not any(shape is not None and shape.is_below_first for shape in shapes)


def test_a_peak_counts_only_where_every_seed_shows_it() -> None:
    shape = descent_shape(by_size((2.0, 9.0, 1.0), (2.0, 8.0, 1.0), (3.0, 3.5, 4.0)))
    assert shape is not None
    assert shape.test is not None
    assert (shape.seeds, shape.test.peak_seeds) == (3, 2)
    assert not shape.has_peak


def test_a_single_seed_is_not_tested() -> None:
    """The second seed lacks a size."""
    curve = by_size((2.0, 9.0, 3.0), (2.0, 9.0, 3.0))
    del curve[4.0][2]
    shape = descent_shape(curve)
    assert shape is not None
    assert (shape.seeds, shape.test) == (1, None)
    assert not shape.has_peak


def test_curves_without_a_peak_inside() -> None:
    assert descent_shape({1.0: {1: 3.0}, 2.0: {1: 2.0}, 3.0: {1: 1.0}}) is None
    assert descent_shape({1.0: {1: 1.0}, 2.0: {1: 2.0}, 3.0: {1: 3.0}}) is None
    assert descent_shape({1.0: {1: 1.0}, 2.0: {1: 2.0}}) is None
    assert descent_shape({1.0: {1: 1.0}, 2.0: {1: 1.0}, 3.0: {1: 1.0}}) is None


def test_a_single_seed_has_no_band() -> None:
    assert seed_bands({2.0: {1: 1.0}, 1.0: {1: 3.0}}) == [
        SeedBand(1.0, 3.0, None, None),
        SeedBand(2.0, 1.0, None, None),
    ]


def test_the_interpolation_threshold() -> None:
    errors = {8.0: {1: 0.2, 2: 0.1}, 16.0: {1: 0.02, 2: 0.0}, 32.0: {1: 0.0, 2: 0.0}}
    assert interpolation_threshold(errors, 0.01) == 16.0
    assert interpolation_threshold(errors, 0.0) == 32.0
    assert interpolation_threshold({8.0: {1: 0.2}}, 0.01) is None


def test_all_larger_widths_fit_beyond_the_threshold() -> None:
    """Width 24 fits and 48 does not: from 64 on all do; where the largest one does not, none."""
    errors = {16.0: {1: 0.3}, 24.0: {1: 0.01}, 48.0: {1: 0.41}, 64.0: {1: 0.0}, 96.0: {1: 0.01}}
    assert interpolation_threshold(errors, 0.02) == 64.0
    assert interpolation_threshold({**errors, 128.0: {1: 0.41}}, 0.02) is None


def test_the_mean_of_seeds_that_tie_is_their_value() -> None:
    """Errors are shares k / N and often tie; a mean above the highest seed has a bar below 0."""
    assert seed_bands({4.0: {1: 0.4, 2: 0.4, 3: 0.4}}) == [SeedBand(4.0, 0.4, 0.4, 0.4)]
    for hundredth in range(100):
        (band,) = seed_bands({4.0: dict.fromkeys(range(7), hundredth / 100)})
        assert band.low == band.mean == band.high
