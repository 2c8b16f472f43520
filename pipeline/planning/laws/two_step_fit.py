"""Both steps to a task's accuracy, fitted to one study's runs: its curve over compute, and what follows.

Reads and writes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.planning.laws.comparison import (
    Curve,
    CurveComparison,
    Prediction,
    compare_curves,
    largest_run,
    law_of_others,
    refuse_different_quantities,
)
from pipeline.planning.laws.fit import FittedLaw, resamples_of
from pipeline.planning.laws.intervals import Interval, percentiles
from pipeline.planning.laws.points import LawPoint, Selection
from pipeline.planning.laws.refusals import refusals
from pipeline.planning.laws.two_step import (
    TaskPoint,
    TwoStepLaw,
    fit_sigmoid,
    noise_of_last_checkpoints,
    noise_refusals,
    refit_sigmoid,
)


@dataclass(frozen=True)
class FittedTask:
    """A task's two steps with what they were fitted to."""

    fitted: FittedLaw
    """The first step: bits per byte of the right answer."""
    points: tuple[TaskPoint, ...]
    """In the order of the law's points."""
    both: TwoStepLaw
    resampled: tuple[TwoStepLaw, ...]
    """Both steps fitted to the same resample, for each resample of the law."""


def fit_two_steps(fitted: FittedLaw, scores: Sequence[TaskPoint], task: str) -> FittedTask:
    """Return both steps, the second fitted to the points of the first.

    `scores`: those of the law's points, by name, and perhaps others. `task` is named in a refusal.
    Raises RequirementError as `fit_sigmoid` does.
    """
    points = scores_of_points(scores, fitted.points)
    sigmoid = fit_sigmoid(points, task)
    resamples = resamples_of(len(points), len(fitted.resampled), fitted.seed)
    return FittedTask(
        fitted=fitted,
        points=tuple(points),
        both=TwoStepLaw(fitted.law, sigmoid),
        resampled=tuple(
            TwoStepLaw(law, refit_sigmoid(points, times, sigmoid))
            for law, times in zip(fitted.resampled, resamples, strict=True)
        ),
    )


def scores_of_points(scores: Sequence[TaskPoint], points: Sequence[LawPoint]) -> list[TaskPoint]:
    """Return the scores of points, in their order."""
    by_name = {score.name: score for score in scores}
    return [by_name[point.name] for point in points]


def accuracy_curve(task: FittedTask) -> Curve:
    """Return the accuracy at the best division of each compute."""
    return Curve(
        name=task.fitted.law.name,
        value=task.both.optimal_accuracy,
        resampled=tuple(both.optimal_accuracy for both in task.resampled),
        computes=tuple(point.flops for point in task.fitted.points),
    )


def compare_accuracies(first: FittedTask, second: FittedTask) -> CurveComparison:
    """Return which of two procedures has the higher accuracy, and at which computes that can be said.

    Differences up to the noise over the last checkpoints of both procedures' runs make neither
    better. Raises ConfigError for laws that count N differently.
    """
    refuse_different_quantities(first.fitted, second.fitted)
    noise = noise_of_last_checkpoints([*first.points, *second.points])
    assert noise is not None  # Without noise no task is fitted.
    return compare_curves(accuracy_curve(first), accuracy_curve(second), "higher", noise)


def noise_above_difference(comparison: CurveComparison) -> str:
    """Return why two procedures are not compared; "" where their difference exceeds the noise."""
    largest = max(abs(interval.value) for interval in comparison.difference)
    if largest > comparison.least_difference:
        return ""
    return (
        f"{comparison.first} and {comparison.second}: the accuracies differ by at most {largest:.4f} "
        f"on this axis, the noise over the last checkpoints of a run is "
        f"{comparison.least_difference:.4f}: score more questions, or larger models"
    )


def predict_largest_accuracy(
    selection: Selection, task: FittedTask, report: Callable[[], None] = lambda: None
) -> Prediction | None:
    """Return the accuracy of the run with the most FLOPs, by both steps of all others.

    None where the others alone allow no fit. `selection`: of the law's points. `report` is called
    after each resample.
    """
    fitted = task.fitted

    def are_enough(others: Sequence[LawPoint]) -> bool:
        scores = scores_of_points(task.points, others)
        kept = replace(selection, kept=tuple(others))
        return not refusals(kept, fitted.count) and not noise_refusals(scores)

    run = largest_run(fitted.points, fitted.count, are_enough)
    if run is None:
        return None
    scores = scores_of_points(task.points, run.others)
    steps = fit_two_steps(law_of_others(fitted, run, report), scores, fitted.law.name)
    largest = run.repeats[0]
    parameters = largest.counts[fitted.count]
    band = percentiles([both.accuracy(parameters, largest.tokens) for both in steps.resampled])
    measured = [score.accuracy for score in scores_of_points(task.points, run.repeats)]
    return Prediction(
        name=largest.name,
        flops=largest.flops,
        predicted=Interval(steps.both.accuracy(parameters, largest.tokens), *band),
        measured=float(np.mean(measured)),
    )
