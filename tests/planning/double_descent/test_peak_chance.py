"""Peaks that seeds agree on, and how often chance shows them, by hand and against noise."""

import numpy as np
import pytest

from pipeline.planning.double_descent.peak_chance import peak_test


def test_seeds_are_measured_where_the_others_have_their_peak() -> None:
    """The second seed's peak is at the third size, where the first one has its last minimum."""
    test = peak_test(np.array([[2.0, 9.0, 1.0, 3.0], [2.0, 1.0, 9.0, 3.0]]))
    assert (test.peak_seeds, test.lower_seeds, test.chance) == (0, 0, 1.0)


def test_the_chance_of_a_peak_by_hand() -> None:
    """The highest value of a seed is in the middle of three in a third of all orders, of two in a ninth."""
    test = peak_test(np.array([[1.0, 9.0, 2.0], [3.0, 8.0, 2.0]]))
    assert (test.peak_seeds, test.lower_seeds) == (2, 1)
    assert test.chance == pytest.approx(1 / 9, rel=0.1)


def test_a_peak_as_clear_as_the_measured_one_is_rarer_the_clearer_it_is() -> None:
    """Both seeds fall by 1 after the peak in the first study, by 3 in the second."""
    faint = peak_test(np.array([[5.5, 5.0, 7.0, 9.0, 8.0]] * 2))
    clear = peak_test(np.array([[5.5, 5.0, 7.0, 9.0, 6.0]] * 2))
    assert faint.peak_seeds == clear.peak_seeds == 2
    assert clear.chance < faint.chance


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_noise_has_a_chance_below_a_twentieth_in_one_of_twenty_studies(seeds: int) -> None:
    generator = np.random.default_rng(1)
    studies = generator.normal(size=(200, seeds, 10))
    chances = [peak_test(study, orders=199).chance for study in studies]
    assert sum(chance <= 0.05 for chance in chances) == pytest.approx(10, abs=8)


def test_curves_without_a_peak_inside_confirm_none() -> None:
    assert peak_test(np.array([[1.0, 2.0, 3.0]] * 3)).peak_seeds == 0
    assert peak_test(np.array([[1.0, 1.0, 1.0]] * 3)).peak_seeds == 0
