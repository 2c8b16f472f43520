"""Both steps to a task's accuracy: known laws and sigmoids, and the noise between checkpoints."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from law_points import COUNT, grid_of, selection_of

from pipeline.errors import ConfigError, RequirementError
from pipeline.planning.laws.comparison import comparison_words
from pipeline.planning.laws.fit import FittedLaw, fit_law
from pipeline.planning.laws.loss_law import LossLaw
from pipeline.planning.laws.points import LawPoint
from pipeline.planning.laws.two_step import AccuracySigmoid, TaskPoint, TwoStepLaw
from pipeline.planning.laws.two_step_fit import (
    FittedTask,
    accuracy_curve,
    compare_accuracies,
    fit_two_steps,
    noise_above_difference,
    predict_largest_accuracy,
)

SLANTED = LossLaw("slanted", 1.0, 64.0, 0.5, 16.0, 0.25, unit="bits-per-byte")
SLANTED_SIGMOID = AccuracySigmoid(floor=0.25, height=0.5, steepness=8.0, middle=1.3)
SLANTED_BUDGETS = (1e13, 1e15, 1e17)
SLOW = LossLaw("slow", 1.8, 10.0, 0.1, 10.0, 0.1, unit="bits-per-byte")
FAST = LossLaw("fast", 1.8, 100.0, 0.2, 100.0, 0.2, unit="bits-per-byte")
"""Their lowest losses are equal at C = 6e20: `test_comparison.py`."""
SIGMOID = AccuracySigmoid(floor=0.25, height=0.5, steepness=2.0, middle=4.2)
Last = tuple[tuple[float, float], ...]


def last_with(noise: float) -> Last:
    """Return last checkpoints whose middle one is sqrt(1.5) x noise off the line between the others."""
    return ((1, 0.4), (2, 0.4 + math.sqrt(1.5) * noise), (3, 0.4))


QUIET = last_with(0)


def scores_of(
    points: Sequence[LawPoint], sigmoid: AccuracySigmoid, last: Last = QUIET
) -> list[TaskPoint]:
    """Return scores on a sigmoid."""
    return [
        TaskPoint(point.name, point.loss, sigmoid.accuracy(point.loss), last) for point in points
    ]


def task_of(law: LossLaw, last: Last = QUIET) -> FittedTask:
    """Return both steps whose resamples are all equal."""
    points = grid_of(law)
    fitted = FittedLaw(law, COUNT, 0.0, tuple(points), (law,) * 40, seed=0)
    both = TwoStepLaw(law, SIGMOID)
    return FittedTask(fitted, tuple(scores_of(points, SIGMOID, last)), both, (both,) * 40)


def test_a_known_law_and_sigmoid_are_recovered() -> None:
    points = grid_of(SLANTED, SLANTED_BUDGETS)
    fitted = fit_law(points, COUNT, "grid", "bits-per-byte", resamples=8)
    # In another order than the law's points.
    scores = scores_of(points, SLANTED_SIGMOID)[::-1]
    task = fit_two_steps(fitted, scores, "arc")
    assert [score.name for score in task.points] == [point.name for point in points]
    curve = accuracy_curve(task)
    assert curve.name == "grid"
    for flops in (1e13, 1e15, 1e19):
        exact = SLANTED_SIGMOID.accuracy(SLANTED.optimal_loss(flops))
        band = curve.with_band(flops)
        assert band.value == pytest.approx(exact, abs=1e-5)
        assert (band.low, band.high) == pytest.approx((exact, exact), abs=1e-3)


def test_a_model_that_misses_the_sigmoid_widens_the_band() -> None:
    """The law is exact, so that the band is that of the sigmoid alone."""
    points = grid_of(SLANTED, SLANTED_BUDGETS)
    fitted = fit_law(points, COUNT, "grid", "bits-per-byte", resamples=20)
    scores = scores_of(points, SLANTED_SIGMOID)
    scores[-1] = replace(scores[-1], accuracy=scores[-1].accuracy - 0.2)
    band = accuracy_curve(fit_two_steps(fitted, scores, "arc")).with_band(1e17)
    assert band.high - band.low > 0.02
    assert band.high == pytest.approx(
        SLANTED_SIGMOID.accuracy(SLANTED.optimal_loss(1e17)), abs=1e-3
    )


def test_noise_is_refused_under_the_name_given() -> None:
    points = grid_of(SLANTED, SLANTED_BUDGETS)
    fitted = fit_law(points, COUNT, "grid", "bits-per-byte", resamples=0)
    scores = scores_of(points, SLANTED_SIGMOID, last_with(0.8))
    with pytest.raises(RequirementError, match=r"^a\.yaml, arc: accuracy is not predicted"):
        fit_two_steps(fitted, scores, "a.yaml, arc")


def test_with_one_sigmoid_accuracies_cross_where_the_losses_do() -> None:
    comparison = compare_accuracies(task_of(SLOW), task_of(FAST))
    assert comparison.least_difference == 0
    assert comparison.first_curve[0].value == pytest.approx(
        SIGMOID.accuracy(1.8 + 20 * (1e18 / 6) ** -0.05)
    )
    assert noise_above_difference(comparison) == ""
    assert comparison_words(comparison) == [
        "slow is better from C = 1e+18 to C = 5.62e+20",
        "fast is better from C = 1e+21 on, as far as the axis goes (C = 1e+23)",
        "the two curves cross at C = 6e+20 [6e+20, 6e+20]",
    ]


def test_differences_within_the_noise_make_neither_better() -> None:
    noisy = last_with(0.02)
    comparison = compare_accuracies(task_of(SLOW, noisy), task_of(FAST, noisy))
    assert comparison.least_difference == pytest.approx(0.02)
    for stretch in comparison.stretches:
        for place in (stretch.low, stretch.high):
            difference = comparison.difference[comparison.axis.index(place)].value
            assert abs(difference) > 0.02
    exact = compare_accuracies(task_of(SLOW), task_of(FAST))
    assert comparison.stretches[0].high < exact.stretches[0].high
    assert comparison.stretches[1].low > exact.stretches[1].low


def test_noise_above_every_difference_refuses_the_pair() -> None:
    noisy = last_with(0.4)
    comparison = compare_accuracies(task_of(SLOW, noisy), task_of(FAST, noisy))
    assert comparison.stretches == ()
    largest = max(abs(interval.value) for interval in comparison.difference)
    assert noise_above_difference(comparison) == (
        f"slow and fast: the accuracies differ by at most {largest:.4f} on this axis, the noise over "
        "the last checkpoints of a run is 0.4000: score more questions, or larger models"
    )
    itself = compare_accuracies(task_of(SLOW), task_of(SLOW))
    assert "differ by at most 0.0000 on this axis" in noise_above_difference(itself)


def test_sizes_counted_in_different_ways_are_refused() -> None:
    other = task_of(FAST)
    other = replace(other, fitted=replace(other.fitted, count="parameters_total"))
    with pytest.raises(ConfigError, match="N is parameters in one and parameters_total"):
        compare_accuracies(task_of(SLOW), other)


def test_the_largest_run_is_predicted_by_both_steps_of_all_others() -> None:
    points = grid_of(SLANTED, SLANTED_BUDGETS)
    scores = scores_of(points, SLANTED_SIGMOID)
    exact = scores[-1].accuracy
    scores[-1] = replace(scores[-1], accuracy=0.125)
    fitted = fit_law(points, COUNT, "grid", "bits-per-byte", resamples=8)
    task = fit_two_steps(fitted, scores, "arc")
    prediction = predict_largest_accuracy(selection_of(points, "bits-per-byte"), task)
    assert prediction is not None
    assert prediction.name == points[-1].name
    assert prediction.measured == 0.125
    assert prediction.predicted.value == pytest.approx(exact, abs=1e-5)


def test_runs_whose_noise_is_known_of_none_but_the_largest_predict_another() -> None:
    task = task_of(SLOW)
    scores = [replace(score, last_accuracies=()) for score in task.points[:-1]]
    known = replace(task, points=(*scores, task.points[-1]))
    prediction = predict_largest_accuracy(selection_of(task.fitted.points), known)
    assert prediction is not None
    assert prediction.name != task.fitted.points[-1].name
    # Without any noise that is known, nothing is predicted.
    task = replace(task, points=(*scores, replace(task.points[-1], last_accuracies=())))
    assert predict_largest_accuracy(selection_of(task.fitted.points), task) is None


def test_others_that_allow_no_law_predict_nothing() -> None:
    """Without the largest run, 2 budgets are left."""
    task = task_of(SLOW)
    *others, largest = task.fitted.points
    few = [*(point for point in others if point.flops < 2e19), largest]
    task = replace(task, fitted=replace(task.fitted, points=tuple(few)))
    assert predict_largest_accuracy(selection_of(few), task) is None
