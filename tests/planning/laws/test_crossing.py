"""Crossings of laws of compute, by hand."""

import pytest

from pipeline.planning.laws.crossing import crossing, crossing_words, crossings_of
from pipeline.planning.laws.loss_law import PowerLaw

SLOW = PowerLaw("slow", 1.8, 400.0, 0.30)
FAST = PowerLaw("fast", 1.8, 1000.0, 0.35)


def test_two_laws_cross_where_the_factors_ratio_says() -> None:
    """400 C^-.30 = 1000 C^-.35, so C^.05 = 2.5 and C = 2.5^20."""
    assert crossing(SLOW, FAST) == pytest.approx(2.5**20, rel=1e-10)
    assert crossing(FAST, SLOW) == pytest.approx(9.095e7, rel=1e-4)
    assert crossing_words(SLOW, FAST) == "fast is better from 9.095e+07 FLOPs on"


def test_a_law_against_itself_is_not_separable() -> None:
    assert crossing(SLOW, SLOW) is None
    again = PowerLaw("again", 1.8, 400.0, 0.30)
    assert crossing_words(SLOW, again) == "slow and again are not separable"


def test_one_law_may_be_better_everywhere() -> None:
    low = PowerLaw("low", 1.7, 400.0, 0.30)
    assert crossing(SLOW, low) is None
    assert crossing_words(SLOW, low) == "low is better at every compute"


def test_rounding_is_no_crossing() -> None:
    def wavering(flops: float) -> float:
        return SLOW.loss(flops) * (1 + 1e-15 * (-1) ** int(10 * flops))

    assert crossings_of(SLOW.loss, wavering, 1e5, 1e10) == []


def test_curves_may_cross_twice_and_on_a_step() -> None:
    """x and 1 + (x - 1) (x - 100) / 1000 ... with a difference of 0 at C = 10 and C = 1000."""

    def flat(flops: float) -> float:
        return 1.0

    def bent(flops: float) -> float:
        return 1.0 + (flops - 10) * (flops - 1000) / 1e6

    assert crossings_of(flat, bent, 1.0, 1e4) == pytest.approx([10.0, 1000.0])
    assert crossings_of(flat, bent, 20.0, 1e4) == pytest.approx([1000.0])
