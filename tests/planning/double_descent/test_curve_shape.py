"""Descents and peaks by hand."""

from pipeline.planning.double_descent.curve_shape import (
    SeedBand,
    descent_shape,
    interpolation_threshold,
    seed_bands,
)


def test_a_double_descent() -> None:
    curve = {1.0: {1: 5.0, 2: 6.0}, 2.0: {1: 3.0, 2: 4.0}, 4.0: {1: 9.0, 2: 8.0}}
    curve |= {8.0: {1: 2.0, 2: 1.0}, 16.0: {1: 2.5, 2: 1.5}}
    shape = descent_shape(curve)
    assert shape is not None
    assert shape.first_minimum == SeedBand(2.0, 3.5, 3.0, 4.0)
    assert shape.peak == SeedBand(4.0, 8.5, 8.0, 9.0)
    assert shape.last_minimum == SeedBand(8.0, 1.5, 1.0, 2.0)
    assert shape.has_peak
    assert shape.is_below_first


def test_a_second_descent_that_ends_above_the_first() -> None:
    shape = descent_shape({1.0: {1: 2.0}, 2.0: {1: 9.0}, 3.0: {1: 3.0}})
    assert shape is not None
    assert shape.has_peak
    assert not shape.is_below_first


def test_a_peak_counts_only_where_every_seed_shows_it() -> None:
    shape = descent_shape({1.0: {1: 2.0, 2: 3.0}, 2.0: {1: 9.0, 2: 3.5}, 3.0: {1: 1.0, 2: 4.0}})
    assert shape is not None
    assert (shape.seeds, shape.rising_seeds, shape.falling_seeds) == (2, 2, 1)
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
