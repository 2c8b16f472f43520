"""Which of two procedures has the lower loss, from which compute on, by their fitted laws.

A procedure's curve is the loss at the best division of each compute: L*(C) = min L(N, C / (6 N)).
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


@dataclass(frozen=True)
class Stretch:
    """Computes at which one procedure is better: 0 is outside the band of the difference."""

    low: float
    high: float
    better: Which


@dataclass(frozen=True)
class LawComparison:
    """Two procedures on one axis of compute."""

    first: str
    second: str
    axis: tuple[float, ...]
    """C, in FLOPs."""
    first_curve: tuple[Interval, ...]
    """L*(C)."""
    second_curve: tuple[Interval, ...]
    difference: tuple[Interval, ...]
    """Second minus first."""
    stretches: tuple[Stretch, ...]
    crossing: float | None
    """Last crossing of the two curves on the axis; None where they do not cross."""
    crossing_interval: tuple[float, float] | None
    """None where fewer than LEAST_SHARE of the resamples cross on the axis."""


def compare_laws(first: FittedLaw, second: FittedLaw) -> LawComparison:
    """Return which of two procedures is better, and at which computes that can be said.

    The k-th resample of one is compared with the k-th of the other: of two tables with the same
    grid in the same order and the same seed these are the same runs.
    Raises ConfigError for laws that are not of the same quantity.
    """
    _refuse_different_quantities(first, second)
    # The bands on one axis.
    axis = _common_axis(first, second)
    pairs = list(zip(first.resampled, second.resampled, strict=False))
    difference = [
        Interval(
            second.law.optimal_loss(flops) - first.law.optimal_loss(flops),
            *percentiles([b.optimal_loss(flops) - a.optimal_loss(flops) for a, b in pairs]),
        )
        for flops in axis
    ]
    # The crossing, and those of the pairs of resamples.
    found = crossings_of(first.law.optimal_loss, second.law.optimal_loss, axis[0], axis[-1])
    last = None
    if found:
        last = found[-1]
    resampled = [
        crossings_of(a.optimal_loss, b.optimal_loss, axis[0], axis[-1])[-1:] for a, b in pairs
    ]
    crossing_interval = None
    places = [places[0] for places in resampled if places]
    if last is not None and len(places) >= LEAST_SHARE * len(pairs):
        crossing_interval = percentiles(places)
    return LawComparison(
        first=first.law.name,
        second=second.law.name,
        axis=tuple(axis),
        first_curve=_curve(first, axis),
        second_curve=_curve(second, axis),
        difference=tuple(difference),
        stretches=tuple(_stretches(axis, difference)),
        crossing=last,
        crossing_interval=crossing_interval,
    )


def _refuse_different_quantities(first: FittedLaw, second: FittedLaw) -> None:
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


def _common_axis(first: FittedLaw, second: FittedLaw) -> list[float]:
    """Return computes, evenly in their logarithm, from the larger of the smallest ones to BEYOND the
    smaller of the largest."""
    computes = [[point.flops for point in fitted.points] for fitted in (first, second)]
    low = max(min(flops) for flops in computes)
    high = BEYOND * min(max(flops) for flops in computes)
    number = max(2, int(np.ceil(PLACES_A_DECADE * np.log10(high / low))) + 1)
    return [float(flops) for flops in np.geomspace(low, high, number)]


def _curve(fitted: FittedLaw, axis: Sequence[float]) -> tuple[Interval, ...]:
    """Return L*(C) with its band."""
    return tuple(interval_of(fitted, lambda law, at=flops: law.optimal_loss(at)) for flops in axis)


def _stretches(axis: Sequence[float], difference: Sequence[Interval]) -> list[Stretch]:
    """Return the stretches of the axis whose bands leave out 0, in rising order."""
    stretches: list[Stretch] = []
    last_verdict = None
    for flops, interval in zip(axis, difference, strict=True):
        verdict = _better(interval)
        if verdict is not None and verdict == last_verdict:
            stretches[-1] = replace(stretches[-1], high=flops)
        elif verdict is not None:
            stretches.append(Stretch(flops, flops, verdict))
        last_verdict = verdict
    return stretches


def _better(difference: Interval) -> Which | None:
    """Return which procedure has the lower loss; None where the band holds 0."""
    if difference.low > 0:
        return "first"
    if difference.high < 0:
        return "second"
    return None


def comparison_words(comparison: LawComparison) -> list[str]:
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
        end = f"to C = {stretch.high:.3g}"
        if stretch.high == axis[-1]:
            end = f"on, as far as the axis goes (C = {axis[-1]:.3g})"
        lines.append(f"{names[stretch.better]} is better from C = {stretch.low:.3g} {end}")
    lines.append(_crossing_sentence(comparison))
    return lines


def _crossing_sentence(comparison: LawComparison) -> str:
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


def predict_largest(fitted: FittedLaw, report: Callable[[], None] = lambda: None) -> Prediction:
    """Return the loss of the run with the most FLOPs, by a law of all others.

    Its repeats with other seeds are left out with it. The interval is that of the law; what seeds
    add to a single run is not in it. `report` is called after each resample.
    """
    repeats, others = largest_and_others(fitted.points, fitted.count)
    largest = repeats[0]
    law = fitted.law
    without = fit_law(
        others,
        fitted.count,
        law.name,
        law.unit,
        resamples=len(fitted.resampled) // RESAMPLES_DIVISOR,
        seed=fitted.seed,
        report=report,
    )
    parameters = largest.counts[fitted.count]
    return Prediction(
        name=largest.name,
        flops=largest.flops,
        predicted=interval_of(without, lambda other: other.loss(parameters, largest.tokens)),
        measured=float(np.mean([point.loss for point in repeats])),
    )


def largest_and_others(
    points: Sequence[LawPoint], count: str
) -> tuple[list[LawPoint], list[LawPoint]]:
    """Return the run with the most FLOPs, as often as seeds repeat it, and all other runs.

    Of several runs with the most FLOPs it is the one with the most parameters.
    """
    most_flops = groups_of(points, lambda point: point.flops)[-1]
    largest = max(most_flops, key=lambda point: point.counts[count])
    same_tokens = _group_with(points, largest, lambda point: point.tokens)
    repeats = _group_with(same_tokens, largest, lambda point: point.counts[count])
    return repeats, [point for point in points if point not in repeats]


def _group_with(
    points: Sequence[LawPoint], chosen: LawPoint, amount: Callable[[LawPoint], float]
) -> list[LawPoint]:
    """Return the points whose amount counts as that of the chosen point, itself among them."""
    return next(group for group in groups_of(points, amount) if chosen in group)
