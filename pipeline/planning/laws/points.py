"""One trained model as a point of a loss law, and which points a fit uses. Pure functions.

A table's points may count N in several ways; a law is fitted for each of them.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.planning.laws.loss_law import FLOPS_PER_PARAMETER_AND_TOKEN, Unit

COUNTS = {
    "parameters": "parameters",
    "parameters_total": "all parameters",
    "parameters_non_embedding": "parameters without embeddings",
    "parameters_multiplying": "parameters that multiply",
}
"""Column of a table -> what its N counts."""
LEAST_STEPS = 200
"""Fewer optimizer steps than these are mostly warm-up."""
SAME = 1.05
"""Sizes, numbers of tokens and computes within this factor count as one. A run's FLOPs miss its
budget by what its steps are rounded to, and figures that were read off a plot differ by less."""
PRODUCT_SHARE = 0.02
"""Difference of 6 N D from a run's FLOPs, as a share of them, that needs no remark."""


@dataclass(frozen=True)
class LawPoint:
    """One trained model; NaN for a number that a left-out point lacks."""

    name: str
    """The run's name, or its line in the table."""
    counts: Mapping[str, float]
    """N, for each way of counting it: some of COUNTS."""
    tokens: float
    """D, repeated ones counted each time."""
    flops: float
    """C."""
    loss: float
    """In the table's unit."""
    seed: str = ""
    steps: float | None = None
    epochs: float | None = None
    """Passes over the training text."""
    tokenizer: str = ""
    held_out: str = ""
    """What identifies the held-out text that the loss is of; empty where nothing is known of it."""
    left_out: str = ""
    """Why no fit may use the point; empty for a point that counts."""


@dataclass(frozen=True)
class PointTable:
    """The points of one table, in its order."""

    name: str
    """The file, or the study."""
    unit: Unit
    points: tuple[LawPoint, ...]

    @property
    def counts(self) -> list[str]:
        """The ways of counting N that every point has which is not left out."""
        counted = [point for point in self.points if not point.left_out]
        return [count for count in COUNTS if all(count in point.counts for point in counted)]


@dataclass(frozen=True)
class DroppedPoint:
    """A point that a fit does not use."""

    name: str
    reason: str


@dataclass(frozen=True)
class Selection:
    """The points of a table that a fit uses, and the others with their reasons."""

    table: PointTable
    kept: tuple[LawPoint, ...]
    dropped: tuple[DroppedPoint, ...]

    @property
    def equal_counts(self) -> list[tuple[str, ...]]:
        """The table's ways of counting N, those together that give every kept point the same N.

        Tied embeddings multiply, so that all parameters of such models are parameters that multiply.
        """
        groups: dict[tuple[float, ...], list[str]] = {}
        for count in self.table.counts:
            numbers = tuple(point.counts[count] for point in self.kept)
            groups.setdefault(numbers, []).append(count)
        return [tuple(group) for group in groups.values()]


def count_words(counts: Sequence[str]) -> str:
    """Return what N counts, in words; of several counts, which are then equal."""
    return " = ".join(COUNTS[count] for count in counts)


def product_remarks(points: Sequence[LawPoint], count: str) -> list[str]:
    """Return a sentence where the points' FLOPs are not 6 N D; empty where they are."""
    shares = [
        FLOPS_PER_PARAMETER_AND_TOKEN * point.counts[count] * point.tokens / point.flops
        for point in points
    ]
    low = min(shares, default=1.0)
    high = max(shares, default=1.0)
    if low >= 1 - PRODUCT_SHARE and high <= 1 + PRODUCT_SHARE:
        return []
    return [
        f"The law counts a compute as 6 N D, which is {low:.0%} to {high:.0%} of the runs' own FLOPs; "
        "those also count attention and what N leaves out."
    ]


def complete_point(
    name: str, counts: Mapping[str, float], loss: float, *, tokens: float = 0, flops: float = 0
) -> LawPoint:
    """Return a point whose D or C, where it is 0, follows from C = 6 N D with the first count."""
    product = FLOPS_PER_PARAMETER_AND_TOKEN * next(iter(counts.values()))
    if not tokens:
        tokens = flops / product
    if not flops:
        flops = product * tokens
    return LawPoint(name, counts, tokens, flops, loss)


def select_points(
    table: PointTable, *, leave_out: Sequence[str] = (), drop_highest: int = 0
) -> Selection:
    """Return the points to fit: not left out, trained for LEAST_STEPS steps, with a loss.

    `leave_out`: names of further points. `drop_highest`: how many of the highest losses among the
    remaining points are dropped, too.
    """
    reasons: dict[int, str] = {}
    for place, point in enumerate(table.points):
        reason = _reason_to_drop(point, leave_out)
        if reason:
            reasons[place] = reason
    # By place, not by value: two points may be equal.
    remaining = [place for place in range(len(table.points)) if place not in reasons]
    remaining.sort(key=lambda place: table.points[place].loss, reverse=True)
    for place in remaining[:drop_highest]:
        reasons[place] = f"one of the {drop_highest} highest losses"
    return Selection(
        table=table,
        kept=tuple(point for place, point in enumerate(table.points) if place not in reasons),
        dropped=tuple(
            DroppedPoint(table.points[place].name, reasons[place]) for place in sorted(reasons)
        ),
    )


def _reason_to_drop(point: LawPoint, leave_out: Sequence[str]) -> str:
    """Return why a point is dropped whatever the others are; "" for one that is kept."""
    if point.left_out:
        return point.left_out
    if point.name in leave_out:
        return "asked for"
    if not math.isfinite(point.loss):
        return f"its loss is {point.loss}"
    if point.steps is not None and point.steps < LEAST_STEPS:
        return f"{point.steps:,.0f} steps, fewer than {LEAST_STEPS}"
    return ""


def groups_of(
    points: Iterable[LawPoint], amount: Callable[[LawPoint], float]
) -> list[list[LawPoint]]:
    """Return the points in groups of one amount, such as of one compute, in rising order.

    A group holds the amounts up to SAME times its smallest.
    """
    groups: list[list[LawPoint]] = []
    for point in sorted(points, key=amount):
        if groups and amount(point) <= SAME * amount(groups[-1][0]):
            groups[-1].append(point)
        else:
            groups.append([point])
    return groups
