"""What a batch study's runs have reached: the loss of each batch under each recipe. Pure arithmetic.

A recipe is one value of each axis but the batch: learning-rate scaling, warm-up, variants.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import gammaincinv

from pipeline.planning.study.axes import AxisValue
from pipeline.planning.study.points import StudyPoint

BATCH = "batch_tokens"
SCALING = "learning_rate_scaling"
RATE_WORDS = {
    "": "rate by rules.learning_rate",
    "none": "rate unscaled",
    "square-root": "rate x sqrt(K)",
    "linear": "rate x K",
}
"""Rule of scaling, empty where it is no axis -> how the peak learning rate follows K."""
STANDARD_ERRORS = 2.0
"""Differences of means below this many standard errors are within the spread of the seeds."""


@dataclass(frozen=True)
class BatchResult:
    """One batch under one recipe, over its seeds."""

    batch: int
    """Tokens of a batch."""
    recipe: Mapping[str, AxisValue]
    losses: tuple[float, ...]
    """Validation losses in nats a token, one a seed."""
    steps: int
    peak_learning_rate: float

    @property
    def mean(self) -> float:
        return statistics.fmean(self.losses)

    @property
    def low(self) -> float:
        return min(self.losses)

    @property
    def high(self) -> float:
        return max(self.losses)

    @property
    def scaling(self) -> str:
        """Rule by which its learning rate follows the batch; empty where it is no axis."""
        return str(self.recipe.get(SCALING, ""))


def batch_results(points: Sequence[StudyPoint], reference: int) -> list[BatchResult]:
    """Return each batch under each recipe, in rising order of batches.

    Of points that count. All rules of scaling are one at the reference batch, so the study trains one
    of them there: its result is that of the others too.
    """
    counted = [point for point in points if not point.left_out and point.loss is not None]
    groups: dict[tuple[int, tuple[tuple[str, AxisValue], ...]], list[StudyPoint]] = {}
    for point in counted:
        place: dict[str, AxisValue] = {**point.place, **_other_differences(point, counted)}
        recipe = tuple((axis, value) for axis, value in place.items() if axis != BATCH)
        groups.setdefault((point.batch_tokens, recipe), []).append(point)
    results = [_result(batch, dict(recipe), own) for (batch, recipe), own in groups.items()]

    # The reference batch under the rules that it was not trained with.
    rules = list(dict.fromkeys(result.scaling for result in results if result.scaling))
    trained = {(result.batch, *result.recipe.values()) for result in results}
    for result in list(results):
        if result.batch != reference:
            continue
        for rule in rules:
            recipe = {**result.recipe, SCALING: rule}
            if (reference, *recipe.values()) not in trained:
                results.append(
                    BatchResult(
                        reference, recipe, result.losses, result.steps, result.peak_learning_rate
                    )
                )
    return sorted(results, key=lambda result: result.batch)


def _other_differences(point: StudyPoint, points: Sequence[StudyPoint]) -> dict[str, AxisValue]:
    """Return size and budget of a point, where points differ in them: no two are seeds of one result."""
    differences: dict[str, AxisValue] = {}
    if len({each.size for each in points}) > 1:
        differences["size"] = point.size
    if len({each.budget for each in points}) > 1:
        differences["budget"] = point.budget
    return differences


def _result(
    batch: int, recipe: Mapping[str, AxisValue], points: Sequence[StudyPoint]
) -> BatchResult:
    losses = tuple(point.loss for point in points if point.loss is not None)
    return BatchResult(batch, recipe, losses, points[0].steps, points[0].peak_learning_rate)


def best_of_batches(results: Sequence[BatchResult]) -> list[BatchResult]:
    """Return the result with the lowest mean loss of each batch, in rising order of batches."""
    batches = sorted({result.batch for result in results})
    return [
        min((each for each in results if each.batch == batch), key=lambda each: each.mean)
        for batch in batches
    ]


def variant_words(result: BatchResult) -> str:
    """Return the values of the axes beside batch, scaling and warm-up; empty without any."""
    others = [
        f"x {value:g}" if axis == "learning_rate_factor" else str(value)
        for axis, value in result.recipe.items()
        if axis not in (SCALING, "warmup")
    ]
    return ", ".join(others)


def schedule_words(result: BatchResult) -> str:
    """Return how the learning rate follows the batch, and the warm-up where it is an axis."""
    words = [RATE_WORDS[result.scaling]]
    warmup = result.recipe.get("warmup")
    if warmup is not None:
        words.append(f"warm-up {float(warmup):.0%}" if warmup else "no warm-up")
    return ", ".join(words)


def deviation_of_seeds(results: Sequence[BatchResult]) -> float | None:
    """Return the standard deviation of a loss over seeds; None where no result has two.

    It is taken from the median of the results' variances, so that a few recipes that diverge, whose
    seeds are far apart, do not hide the differences between all others. The median of a variance of
    k degrees of freedom is that of chi-squared / k.
    """
    repeated = [result for result in results if len(result.losses) > 1]
    if not repeated:
        return None
    variances = [
        statistics.variance(result.losses) / _median_of_variance(len(result.losses) - 1)
        for result in repeated
    ]
    return math.sqrt(statistics.median(variances))


def _median_of_variance(degrees: int) -> float:
    """Return the median of a variance of some degrees of freedom, over the true variance."""
    return 2 * float(gammaincinv(degrees / 2, 0.5)) / degrees


def largest_harmless(best: Sequence[BatchResult], reference: int, deviation: float) -> int | None:
    """Return the largest batch up to which no best loss is above that of the reference.

    Above: by more than STANDARD_ERRORS of the difference of two means. `best`: in rising order of
    batches; `deviation`: of one loss. None where the reference has no result.
    """
    at_reference = next((each for each in best if each.batch == reference), None)
    if at_reference is None:
        return None
    largest = reference
    for each in best:
        if each.batch <= reference:
            continue
        seeds = 1 / len(each.losses) + 1 / len(at_reference.losses)
        if each.mean - at_reference.mean > STANDARD_ERRORS * deviation * math.sqrt(seeds):
            break
        largest = each.batch
    return largest
