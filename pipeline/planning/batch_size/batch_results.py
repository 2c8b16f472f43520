"""What a batch study's runs have reached: the loss of each batch under each recipe. Pure arithmetic.

A recipe is one value of each axis but the batch: learning-rate scaling, warm-up, variants.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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
    """Validation losses in nats a token, one a seed that counts; at least one in a stable result."""
    steps: int
    peak_learning_rate: float
    diverged: int = 0
    """Further seeds that diverged."""

    @property
    def is_stable(self) -> bool:
        """Whether no seed diverged."""
        return not self.diverged

    @property
    def mean(self) -> float:
        """Mean of the seeds that count; exact, then rounded once, so never outside their range."""
        return statistics.mean(self.losses)

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

    Of points that count, and of those that diverged. All rules of scaling are one at the reference
    batch, so the study trains one of them there: its result is that of the others too.
    """
    ended = [
        point
        for point in points
        if point.has_diverged or (not point.left_out and point.loss is not None)
    ]
    groups: dict[tuple[int, tuple[tuple[str, AxisValue], ...]], list[StudyPoint]] = {}
    for point in ended:
        place: dict[str, AxisValue] = {**point.place, **_other_differences(point, ended)}
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
                results.append(replace(result, recipe=recipe))
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
    losses = tuple(
        point.loss for point in points if not point.has_diverged and point.loss is not None
    )
    diverged = sum(point.has_diverged for point in points)
    return BatchResult(
        batch, recipe, losses, points[0].steps, points[0].peak_learning_rate, diverged
    )


def best_of_batches(results: Sequence[BatchResult]) -> list[BatchResult]:
    """Return the result with the lowest mean loss of each batch, in rising order of batches.

    One of which a seed diverged is best nowhere; a batch that has no other is not among them.
    """
    best: dict[int, BatchResult] = {}
    for result in results:
        if not result.is_stable:
            continue
        known = best.get(result.batch)
        if known is None or result.mean < known.mean:
            best[result.batch] = result
    return [best[batch] for batch in sorted(best)]


def first_without_stable(results: Sequence[BatchResult]) -> int | None:
    """Return the smallest batch at which every recipe diverged with a seed; None where there is none."""
    stable = {result.batch for result in results if result.is_stable}
    return min((result.batch for result in results if result.batch not in stable), default=None)


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


def deviations_of_seeds(results: Sequence[BatchResult]) -> dict[str, float]:
    """Return the words of each variant -> standard deviation of a loss over seeds.

    It is taken from the median of the variances of a variant's results, so that a few recipes of
    which the losses run away do not hide the differences between all others. The median of a variance
    of k degrees of freedom is that of chi-squared / k. Variants of which nothing was repeated are not
    among them. A result that stands for several rules counts once.
    """
    variances: dict[str, list[float]] = {}
    seen: set[tuple[str, int, tuple[float, ...]]] = set()
    for result in results:
        key = (variant_words(result), result.batch, result.losses)
        if len(result.losses) < 2 or key in seen:
            continue
        seen.add(key)
        expected = _median_of_variance(len(result.losses) - 1)
        variance = statistics.variance(result.losses) / expected
        variances.setdefault(variant_words(result), []).append(variance)
    return {variant: math.sqrt(statistics.median(own)) for variant, own in variances.items()}


def _median_of_variance(degrees: int) -> float:
    """Return the median of a variance of some degrees of freedom, over the true variance."""
    # Not at the top: commands that only read results would wait for it.
    from scipy.special import gammaincinv

    return 2 * float(gammaincinv(degrees / 2, 0.5)) / degrees


def difference_seen(
    one: BatchResult, other: BatchResult, deviations: Mapping[str, float]
) -> float | None:
    """Return the smallest difference of two means that is not within the spread of the seeds, in nats.

    STANDARD_ERRORS of the difference. None where no seeds tell the spread of one of the variants.
    """
    variance = 0.0
    for each in (one, other):
        deviation = deviations.get(variant_words(each))
        if deviation is None:
            return None
        variance += deviation**2 / len(each.losses)
    return STANDARD_ERRORS * math.sqrt(variance)


def largest_harmless(
    results: Sequence[BatchResult], reference: int, deviations: Mapping[str, float]
) -> int | None:
    """Return the largest batch up to which no best loss is above that of the reference.

    Above: by more than `difference_seen`. It ends before a batch at which every recipe diverged. None
    where the reference has no stable result, or no seeds tell a difference.
    """
    best = best_of_batches(results)
    at_reference = next((each for each in best if each.batch == reference), None)
    if at_reference is None or difference_seen(at_reference, at_reference, deviations) is None:
        return None
    end = first_without_stable(results) or math.inf
    largest = reference
    for each in best:
        if each.batch <= reference:
            continue
        limit = difference_seen(each, at_reference, deviations)
        if each.batch > end or limit is None or each.mean - at_reference.mean > limit:
            break
        largest = each.batch
    return largest
