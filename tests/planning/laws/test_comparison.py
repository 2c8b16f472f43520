"""Two procedures by their laws: which is better, from where on, and whether that can be said."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from law_points import COUNT, SLANTED, grid_of

from pipeline.errors import ConfigError
from pipeline.planning.laws.comparison import (
    Curve,
    Direction,
    Prediction,
    compare_curves,
    compare_laws,
    comparison_words,
    largest_run,
    predict_largest,
)
from pipeline.planning.laws.fit import FittedLaw, fit_law
from pipeline.planning.laws.loss_law import LossLaw
from pipeline.planning.laws.points import LawPoint

SLOW = LossLaw("slow", 1.8, 10.0, 0.1, 10.0, 0.1)
"""N_opt = D_opt = sqrt(C / 6): L*(C) = 1.8 + 20 (C / 6)^-.05."""
FAST = LossLaw("fast", 1.8, 100.0, 0.2, 100.0, 0.2)
"""L*(C) = 1.8 + 200 (C / 6)^-.1: equal to that of SLOW where (C / 6)^.05 = 10."""
CROSSING = 6e20
BUDGETS = (1e18, 1e21)


def law_of(law: LossLaw, spread: float) -> FittedLaw:
    """Return a law whose 41 resamples differ from it by up to `spread` in E."""
    resampled = [
        replace(law, irreducible=law.irreducible + spread * (number - 20) / 20)
        for number in range(41)
    ]
    return FittedLaw(law, COUNT, 0.0, tuple(grid_of(law, BUDGETS)), tuple(resampled), seed=0)


def test_curves_and_their_crossing_by_hand() -> None:
    comparison = compare_laws(law_of(SLOW, 0.0), law_of(FAST, 0.0))
    assert comparison.axis[0] == pytest.approx(1e18)
    assert comparison.axis[-1] == pytest.approx(1e23)
    assert len(comparison.axis) == 21
    assert comparison.first_curve[0].value == pytest.approx(1.8 + 20 * (1e18 / 6) ** -0.05)
    assert comparison.crossing == pytest.approx(CROSSING)
    assert comparison.crossing_interval == pytest.approx((CROSSING, CROSSING))


def test_without_noise_each_is_better_on_its_side() -> None:
    comparison = compare_laws(law_of(SLOW, 0.0), law_of(FAST, 0.0))
    before, after = comparison.stretches
    assert (before.better, after.better) == ("first", "second")
    assert before.high < CROSSING < after.low
    assert comparison_words(comparison) == [
        "slow is better from C = 1e+18 to C = 5.62e+20",
        "fast is better from C = 1e+21 on, as far as the axis goes (C = 1e+23)",
        "the two curves cross at C = 6e+20 [6e+20, 6e+20]",
    ]


def test_resamples_are_compared_in_pairs() -> None:
    """Both laws move together, so their difference does not move at all."""
    comparison = compare_laws(law_of(SLOW, 0.5), law_of(FAST, 0.5))
    assert len(comparison.stretches) == 2
    first = comparison.first_curve[0]
    assert first.high - first.low == pytest.approx(0.95)
    assert comparison.difference[0].low == pytest.approx(comparison.difference[0].high)


def test_where_the_band_of_the_difference_holds_zero_nothing_is_said() -> None:
    """FAST alone moves by 0.1 in E: differences below 0.095 are not separable.

    With x = (C / 6e20)^.05, FAST minus SLOW is 2 / x^2 - 2 / x: 0.095 at x = 0.956 (C = 2.4e20) and
    -0.095 at x = 1.053 (C = 1.7e21). Steps of the axis are 10^.25: 1.78e20 and 1.78e21.
    """
    comparison = compare_laws(law_of(SLOW, 0.0), law_of(FAST, 0.1))
    assert comparison_words(comparison)[:2] == [
        "slow is better from C = 1e+18 to C = 1.78e+20",
        "fast is better from C = 1.78e+21 on, as far as the axis goes (C = 1e+23)",
    ]
    assert comparison.crossing_interval is not None
    low, high = comparison.crossing_interval
    assert 1.78e20 < low < CROSSING < high < 1.78e21 * 10**0.25


def test_only_far_away_it_can_be_said_which_is_better() -> None:
    """FAST alone moves by 0.4: a difference of 0.38 is there from x = 1.34 (C = 2.1e23) on, beyond the
    axis, and down to x = 0.85 (C = 2.3e19)."""
    comparison = compare_laws(law_of(FAST, 0.4), law_of(SLOW, 0.0))
    assert comparison_words(comparison)[0] == "slow is better from C = 1e+18 to C = 1.78e+19"
    assert len(comparison.stretches) == 1


def test_a_start_that_is_not_separable_is_said() -> None:
    """With a B of 50 they cross at C = 5.7e14. With x = (C / 5.7e14)^.05, the difference is
    4 / x^2 - 4 / x: beyond 0.95 x 0.95 from x = 1.53 (C = 2.8e18) on."""
    early = LossLaw("early", 1.8, 50.0, 0.2, 50.0, 0.2)
    comparison = compare_laws(law_of(SLOW, 0.0), law_of(early, 0.95))
    assert comparison_words(comparison) == [
        "slow and early are not separable below C = 3.16e+18",
        "early is better from C = 3.16e+18 on, as far as the axis goes (C = 1e+23)",
        "the two curves do not cross on this axis",
    ]


def test_a_crossing_that_few_resamples_show_has_no_interval() -> None:
    comparison = compare_laws(law_of(SLOW, 0.0), law_of(FAST, 1.0))
    assert comparison.crossing == pytest.approx(CROSSING)
    assert comparison.crossing_interval is None
    assert comparison_words(comparison) == [
        "slow is better at C = 1e+18 only",
        "the two curves cross at C = 6e+20, without an interval: more than 2.5% of the resamples do "
        "not cross",
    ]


def test_a_law_against_itself_is_not_separable() -> None:
    comparison = compare_laws(law_of(SLOW, 0.1), law_of(SLOW, 0.1))
    assert comparison.stretches == ()
    assert comparison.crossing is None
    assert comparison_words(comparison) == ["slow and slow are not separable below C = 1e+23"]


def curve_of(name: str, value: Callable[[float], float]) -> Curve:
    return Curve(name, value, (value,) * 40, (1e18, 1e20))


FLAT = curve_of("flat", lambda flops: 0.5)
RISING = curve_of("rising", lambda flops: 0.5 + 0.1 * math.log10(flops / 2e19))
"""0.1 higher for each decade; equal at C = 2e19."""


@pytest.mark.parametrize(("better", "names"), [("lower", "rf"), ("higher", "fr")])
def test_lower_or_higher_values_can_be_better(better: Direction, names: str) -> None:
    comparison = compare_curves(FLAT, RISING, better)
    assert comparison.crossing == pytest.approx(2e19)
    found = {"first": "f", "second": "r"}
    assert "".join(found[stretch.better] for stretch in comparison.stretches) == names


def test_small_differences_make_neither_better() -> None:
    """At 1e18 the difference is -0.130, a step of the axis adds 0.025: beyond 0.09 are the first two
    places, and those from 10^20.25 on (0.095)."""
    comparison = compare_curves(FLAT, RISING, "higher", 0.09)
    before, after = comparison.stretches
    assert before.high == pytest.approx(10**18.25)
    assert after.low == pytest.approx(10**20.25)
    assert comparison.crossing == pytest.approx(2e19)


def test_different_quantities_are_refused_all_at_once() -> None:
    first = law_of(SLOW, 0.0)
    points = tuple(replace(point, tokenizer="bpe") for point in first.points)
    first = replace(first, points=points)
    other = tuple(replace(point, tokenizer="spm") for point in points)
    second = replace(
        law_of(replace(FAST, unit="bits"), 0.0), points=other, count="parameters_total"
    )
    with pytest.raises(ConfigError) as raised:
        compare_laws(first, second)
    assert raised.value.problems == [
        "the losses are in nats and in bits: fit both with one --unit",
        "N is parameters in one and parameters_total in the other: count it in one way",
        "the tokens are those of 2 tokenizers (bpe, spm): compare bits per byte, with --unit "
        "bits-per-byte",
    ]


def test_the_largest_run_is_left_out_with_its_seeds() -> None:
    points = grid_of(SLANTED)
    largest = replace(points[-1], name="largest", seed="1")
    points = [*points[:-1], largest, replace(largest, seed="2", loss=largest.loss + 0.1)]
    run = largest_run(points, COUNT)
    assert run is not None
    assert [point.seed for point in run.repeats] == ["1", "2"]
    assert len(run.others) == 19
    # Where the others are not enough without it, the next smaller one of its compute is taken.
    run = largest_run(points, COUNT, lambda others: largest in others)
    assert run is not None
    assert run.repeats[0].flops == pytest.approx(largest.flops)
    assert run.repeats[0].counts[COUNT] < largest.counts[COUNT]
    assert largest_run(points, COUNT, lambda others: False) is None


def predicted(points: list[LawPoint]) -> Prediction:
    run = largest_run(points, COUNT)
    assert run is not None
    return predict_largest(fit_law(points, COUNT, "grid", "nats", resamples=8), run)


def test_points_of_a_law_predict_their_largest_run() -> None:
    points: list[LawPoint] = grid_of(SLANTED)
    prediction = predicted(points)
    assert prediction.name == points[-1].name
    assert prediction.predicted.value == pytest.approx(points[-1].loss, rel=1e-6)
    assert prediction.error == pytest.approx(0, abs=1e-6)
    wrong = [*points[:-1], replace(points[-1], loss=points[-1].loss / 1.1)]
    prediction = predicted(wrong)
    assert prediction.error == pytest.approx(0.1, rel=1e-5)
