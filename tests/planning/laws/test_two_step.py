"""Accuracy from bits per byte of the right answer: sigmoids of known numbers, and noise."""

import math
from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import RequirementError
from pipeline.planning.laws.loss_law import LossLaw
from pipeline.planning.laws.two_step import (
    AccuracySigmoid,
    TaskPoint,
    TwoStepLaw,
    accuracy_range,
    fit_sigmoid,
    noise_of_last_checkpoints,
    refit_sigmoid,
)

SIGMOID = AccuracySigmoid(floor=0.25, height=0.5, steepness=4.0, middle=1.0)
QUIET = ((1.0, 0.5), (2.0, 0.5), (3.0, 0.5))


def points_of(sigmoid: AccuracySigmoid, *bits: float) -> list[TaskPoint]:
    return [TaskPoint(str(each), each, sigmoid.accuracy(each), QUIET) for each in bits]


def test_a_sigmoid_by_hand() -> None:
    assert SIGMOID.accuracy(1.0) == 0.5
    assert SIGMOID.accuracy(1.0 + math.log(3) / 4) == pytest.approx(0.25 + 0.5 / 4)
    assert SIGMOID.accuracy(1e6) == 0.25
    assert SIGMOID.accuracy(-1e6) == 0.75


def test_a_sigmoid_is_recovered() -> None:
    points = points_of(SIGMOID, 0.2, 0.5, 0.8, 0.9, 1.0, 1.1, 1.4, 1.8, 2.2)
    fitted = fit_sigmoid(points, "arc")
    assert fitted.floor == pytest.approx(0.25, abs=1e-5)
    assert fitted.height == pytest.approx(0.5, abs=1e-5)
    assert fitted.steepness == pytest.approx(4.0, abs=1e-3)
    assert fitted.middle == pytest.approx(1.0, abs=1e-4)


def test_a_resample_leaves_out_what_it_did_not_draw() -> None:
    """The last model misses the sigmoid, and is not drawn."""
    points = points_of(SIGMOID, 0.2, 0.5, 0.8, 0.9, 1.0, 1.1, 1.4, 1.8, 2.2)
    points[-1] = replace(points[-1], accuracy=0.4)
    start = fit_sigmoid(points, "arc")
    assert abs(start.floor - SIGMOID.floor) > 0.01
    fitted = refit_sigmoid(points, np.array([1.0] * 7 + [2.0, 0.0]), start)
    assert fitted.floor == pytest.approx(0.25, abs=1e-5)
    assert fitted.steepness == pytest.approx(4.0, abs=1e-3)


def test_no_accuracy_exceeds_one() -> None:
    points = points_of(AccuracySigmoid(0.25, 0.9, 4.0, 0.6), 0.8, 0.9, 1.0, 1.1, 1.4, 1.8)
    fitted = fit_sigmoid(points, "arc")
    assert fitted.floor + fitted.height <= 1 + 1e-12


def test_both_steps_by_hand() -> None:
    law = LossLaw("bits", 0.5, 2.0, 0.5, 4.0, 0.5, unit="bits-per-byte")
    both = TwoStepLaw(law, SIGMOID)
    assert law.loss(64, 256) == 1.0
    assert both.accuracy(64, 256) == 0.5
    # Of 6 N D = 6 x 128 x 128 the best division is N = 128 / 2, D = 128 x 2.
    assert law.optimal_parameters(6 * 128 * 128) == pytest.approx(64)
    assert both.optimal_accuracy(6 * 128 * 128) == pytest.approx(0.5)


def test_noise_is_around_the_trend_and_pooled_over_runs() -> None:
    """The middle of three equally spaced checkpoints is compared with the mean of the others: noise
    of variance v gives that difference a variance of 1.5 v."""
    points = [
        # A trend alone.
        TaskPoint("a", 1.0, 0.5, ((1, 0.3), (2, 0.4), (3, 0.5))),
        TaskPoint("b", 1.1, 0.4, ((1, 0.40), (2, 0.43), (3, 0.40))),
        # Two are too few.
        TaskPoint("c", 1.2, 0.3, ((1, 0.0), (2, 1.0))),
    ]
    assert noise_of_last_checkpoints(points) == pytest.approx(math.sqrt((0 + 0.03**2 / 1.5) / 2))
    assert noise_of_last_checkpoints(points[2:]) is None
    assert accuracy_range(points) == pytest.approx(0.2)


def test_noise_above_the_difference_is_refused() -> None:
    points = [
        replace(point, last_accuracies=((1, 0.2), (2, 0.5), (3, 0.2)))
        for point in points_of(SIGMOID, 0.9, 0.95, 1.0, 1.05, 1.1)
    ]
    with pytest.raises(RequirementError) as raised:
        fit_sigmoid(points, "arc")
    assert raised.value.exit_code == 3
    assert str(raised.value) == (
        "arc: accuracy is not predicted:\n"
        f"  - the models' accuracies differ by {accuracy_range(points):.4f}, the noise over the last "
        "checkpoints of a run is 0.2449: score more questions, or larger models"
    )


def test_too_few_models_without_checkpoints_are_refused_for_both() -> None:
    points = [replace(point, last_accuracies=()) for point in points_of(SIGMOID, 0.9, 1.0)]
    with pytest.raises(RequirementError) as raised:
        fit_sigmoid(points, "arc")
    assert str(raised.value).splitlines()[1:] == [
        "  - 2 models are scored, at least 5 are needed: score more of them",
        "  - no run has 3 scored checkpoints at its end, so the noise is not known: score the last "
        "checkpoints of the runs",
    ]
