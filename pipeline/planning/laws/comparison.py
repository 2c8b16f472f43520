"""Which of two procedures is better, from which compute on, by their curves over compute.

A law's curve is the loss at the best division of each compute: L*(C) = min L(N, C / (6 N)).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pipeline.errors import ConfigError, first_of
from pipeline.planning.laws.crossing import crossings_of
from pipeline.planning.laws.fit import FittedLaw, fit_law
from pipeline.planning.laws.intervals import (
    BEYOND,
    PLACES_A_DECADE,
    Interval,
    interval_of,
    percentiles,
)
from pipeline.planning.laws.points import LawPoint, groups_of

RESAMPLES_DIVISOR = 4
"""A prediction takes this part of the resamples of the law."""
LEAST_SHARE = 0.975
"""Share of the resamples that must cross for the crossing to have an interval."""

Which = Literal["first", "second"]
Direction = Literal["lower", "higher"]
"""Whether lower or higher values of a quantity are better."""


@dataclass(frozen=True)
class Curve:
    """A procedure's quantity, at the best division of each compute."""

    name: str
    """The procedure."""
    value: Callable[[float], float]
    """C, in FLOPs -> the quantity."""
    resampled: tuple[Callable[[float], float], ...]
    """The same by fits to resamples of the points."""
    computes: tuple[float, ...]
    """C of each point, in FLOPs."""

    def with_band(self, flops: float) -> Interval:
        """Return the quantity at a compute, with its band."""
        return Interval(self.value(flops), *percentiles([each(flops) for each in self.resampled]))


def loss_curve(fitted: FittedLaw) -> Curve:
    """Return the curve of a law, L*(C)."""
    return Curve(
        name=fitted.law.name,
        value=fitted.law.optimal_loss,
        resampled=tuple(law.optimal_loss for law in fitted.resampled),
        computes=tuple(point.flops for point in fitted.points),
    )


@dataclass(frozen=True)
class Stretch:
    """Computes at which one procedure is better."""

    low: float
    high: float
    better: Which


@dataclass(frozen=True)
class CurveComparison:
    """Two procedures on one axis of compute.

    One is better where 0 is outside the band of the difference and the difference exceeds
    `least_difference`.
    """

    first: str
    second: str
    axis: tuple[float, ...]
    """C, in FLOPs."""
    first_curve: tuple[Interval, ...]
    second_curve: tuple[Interval, ...]
    difference: tuple[Interval, ...]
    """Second minus first."""
    least_difference: float
    stretches: tuple[Stretch, ...]
    crossing: float | None
    """Last crossing of the two curves on the axis; None where they do not cross."""
    crossing_interval: tuple[float, float] | None
    """None where fewer than LEAST_SHARE of the resamples cross on the axis."""


def compare_laws(first: FittedLaw, second: FittedLaw) -> CurveComparison:
    """Return which of two procedures has the lower loss, and at which computes that can be said.

    Raises ConfigError for laws that are not of the same quantity.
    """
    refuse_different_quantities(first, second)
    return compare_curves(loss_curve(first), loss_curve(second))


def compare_curves(
    first: Curve, second: Curve, better: Direction = "lower", least_difference: float = 0.0
) -> CurveComparison:
    """Return which of two procedures is better, and at which computes that can be said.

    The k-th resample of one is compared with the k-th of the other: of two tables with the same
    grid in the same order and the same seed these are the same runs.
    `least_difference`: differences up to this one make neither better.
    """
    # The bands on one axis.
    axis = _common_axis(first, second)
    pairs = list(zip(first.resampled, second.resampled, strict=False))
    difference = [
        Interval(
            second.value(flops) - first.value(flops),
            *percentiles([b(flops) - a(flops) for a, b in pairs]),
        )
        for flops in axis
    ]
    # The crossing, and those of the pairs of resamples.
    crossings = crossings_of(first.value, second.value, axis[0], axis[-1])
    last = None
    if crossings:
        last = crossings[-1]
    resampled = [crossings_of(a, b, axis[0], axis[-1])[-1:] for a, b in pairs]
    crossing_interval = None
    places = [places[0] for places in resampled if places]
    if last is not None and len(places) >= LEAST_SHARE * len(pairs):
        crossing_interval = percentiles(places)
    verdicts: list[Which | None] = [
        _better(interval, better, least_difference) for interval in difference
    ]
    return CurveComparison(
        first=first.name,
        second=second.name,
        axis=tuple(axis),
        first_curve=tuple(first.with_band(flops) for flops in axis),
        second_curve=tuple(second.with_band(flops) for flops in axis),
        difference=tuple(difference),
        least_difference=least_difference,
        stretches=tuple(_stretches(axis, verdicts)),
        crossing=last,
        crossing_interval=crossing_interval,
    )


def refuse_different_quantities(first: FittedLaw, second: FittedLaw) -> None:
    """Raise ConfigError where losses or parameters of two laws count different things."""
    problems: list[str] = []
    where = f"{first.law.name} and {second.law.name}"
    if first.law.unit != second.law.unit:
        problems.append(
            f"the losses are in {first.law.unit} and in {second.law.unit}: fit both with one --unit"
        )
    if first.count != second.count:
        problems.append(
            f"N is {first.count} in one and {second.count} in the other: count it in one way"
        )
    tokenizers = sorted(
        {point.tokenizer for point in (*first.points, *second.points) if point.tokenizer}
    )
    if first.law.unit != "bits-per-byte" and len(tokenizers) > 1:
        problems.append(
            f"the tokens are those of {len(tokenizers)} tokenizers ({first_of(tokenizers, 5)}): "
            "compare bits per byte, with --unit bits-per-byte"
        )
    if problems:
        raise ConfigError(problems, where)


def _common_axis(first: Curve, second: Curve) -> list[float]:
    """Return computes, evenly in their logarithm, from the larger of the smallest ones to BEYOND the
    smaller of the largest."""
    low = max(min(curve.computes) for curve in (first, second))
    high = BEYOND * min(max(curve.computes) for curve in (first, second))
    number = max(2, int(np.ceil(PLACES_A_DECADE * np.log10(high / low))) + 1)
    return [float(flops) for flops in np.geomspace(low, high, number)]


def _stretches(axis: Sequence[float], verdicts: Sequence[Which | None]) -> list[Stretch]:
    """Return the stretches of the axis at which one is better, in rising order."""
    stretches: list[Stretch] = []
    last_verdict = None
    for flops, verdict in zip(axis, verdicts, strict=True):
        if verdict is not None and verdict == last_verdict:
            stretches[-1] = replace(stretches[-1], high=flops)
        elif verdict is not None:
            stretches.append(Stretch(flops, flops, verdict))
        last_verdict = verdict
    return stretches


def _better(difference: Interval, better: Direction, least: float) -> Which | None:
    """Return which procedure is better; None where the band holds 0 or the difference is small."""
    if difference.low <= 0 <= difference.high or abs(difference.value) <= least:
        return None
    is_first_lower = difference.low > 0
    if is_first_lower == (better == "lower"):
        return "first"
    return "second"


def comparison_words(comparison: CurveComparison) -> list[str]:
    """Return what a comparison shows, as sentences."""
    names = {"first": comparison.first, "second": comparison.second}
    axis = comparison.axis
    if not comparison.stretches:
        return [
            f"{comparison.first} and {comparison.second} are not separable below C = {axis[-1]:.3g}"
        ]
    lines: list[str] = []
    if comparison.stretches[0].low > axis[0]:
        lines.append(
            f"{comparison.first} and {comparison.second} are not separable below "
            f"C = {comparison.stretches[0].low:.3g}"
        )
    for stretch in comparison.stretches:
        where = f"from C = {stretch.low:.3g} to C = {stretch.high:.3g}"
        if stretch.high == axis[-1]:
            where = f"from C = {stretch.low:.3g} on, as far as the axis goes (C = {axis[-1]:.3g})"
        elif stretch.high == stretch.low:
            where = f"at C = {stretch.low:.3g} only"
        lines.append(f"{names[stretch.better]} is better {where}")
    lines.append(_crossing_sentence(comparison))
    return lines


def _crossing_sentence(comparison: CurveComparison) -> str:
    """Return where the curves cross, with the interval or the reason why there is none."""
    if comparison.crossing is None:
        return "the two curves do not cross on this axis"
    if comparison.crossing_interval is None:
        return (
            f"the two curves cross at C = {comparison.crossing:.3g}, without an interval: more than "
            f"{1 - LEAST_SHARE:.1%} of the resamples do not cross"
        )
    low, high = comparison.crossing_interval
    return f"the two curves cross at C = {comparison.crossing:.3g} [{low:.3g}, {high:.3g}]"


@dataclass(frozen=True)
class Prediction:
    """The largest run of a study, as the law of all others predicts it."""

    name: str
    flops: float
    predicted: Interval
    measured: float

    @property
    def error(self) -> float:
        """Predicted minus measured, as a share of measured."""
        return (self.predicted.value - self.measured) / self.measured


@dataclass(frozen=True)
class LargestRun:
    """The run with the most FLOPs, apart from all others."""

    repeats: Sequence[LawPoint]
    """The run, as often as seeds repeat it."""
    others: Sequence[LawPoint]


def largest_run(
    points: Sequence[LawPoint],
    count: str,
    are_enough: Callable[[Sequence[LawPoint]], bool] = lambda others: True,
) -> LargestRun | None:
    """Return the run with the most FLOPs; None where the others are never enough for a law.

    Of several runs with the most FLOPs it is the one with the most parameters. Where the others are
    not enough without that one, as where it alone lies beyond a minimum, the next smaller one is taken.
    """
    most_flops = groups_of(points, lambda point: point.flops)[-1]
    for largest in sorted(most_flops, key=lambda point: -point.counts[count]):
        same_tokens = _group_with(points, largest, lambda point: point.tokens)
        repeats = _group_with(same_tokens, largest, lambda point: point.counts[count])
        others = [point for point in points if point not in repeats]
        if are_enough(others):
            return LargestRun(repeats, others)
    return None


def predict_largest(
    fitted: FittedLaw, run: LargestRun, report: Callable[[], None] = lambda: None
) -> Prediction:
    """Return the loss of the largest run, by a law of all others.

    The interval is that of the law; what seeds add to a single run is not in it. `report` is called
    after each resample.
    """
    without = law_of_others(fitted, run, report)
    largest = run.repeats[0]
    parameters = largest.counts[fitted.count]
    return Prediction(
        name=largest.name,
        flops=largest.flops,
        predicted=interval_of(without, lambda other: other.loss(parameters, largest.tokens)),
        measured=float(np.mean([point.loss for point in run.repeats])),
    )


def law_of_others(
    fitted: FittedLaw, run: LargestRun, report: Callable[[], None] = lambda: None
) -> FittedLaw:
    """Return the law of all points but the largest run. `report` is called after each resample."""
    return fit_law(
        run.others,
        fitted.count,
        fitted.law.name,
        fitted.law.unit,
        resamples=len(fitted.resampled) // RESAMPLES_DIVISOR,
        seed=fitted.seed,
        report=report,
    )


def _group_with(
    points: Sequence[LawPoint], chosen: LawPoint, amount: Callable[[LawPoint], float]
) -> list[LawPoint]:
    """Return the points whose amount counts as that of the chosen point, itself among them."""
    return next(group for group in groups_of(points, amount) if chosen in group)
