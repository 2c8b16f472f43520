"""Parabolas through the losses of one compute: the picture of an optimum, not the answer.

A parabola in log N is symmetric, the law is not: the vertex is beside the law's optimum without any
noise. README.md of this folder has an example.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.planning.laws.points import LawPoint, groups_of

SIZES_OF_A_PARABOLA = 3
"""Sizes that a parabola needs."""
GRID_SHARE = 0.9
"""Share of points in budgets of SIZES_OF_A_PARABOLA sizes from which a table counts as an isoFLOP grid."""


@dataclass(frozen=True)
class Budget:
    """The points of one compute."""

    flops: float
    """Geometric mean."""
    sizes: tuple[tuple[float, float], ...]
    """(N, mean loss over seeds), in rising order."""
    points: tuple[LawPoint, ...]

    @property
    def is_lowest_at_edge(self) -> bool:
        """Whether the lowest loss is that of the smallest or the largest size."""
        losses = [loss for _, loss in self.sizes]
        return losses.index(min(losses)) in (0, len(losses) - 1)


@dataclass(frozen=True)
class Parabola:
    """L = lowest + curvature (log N - log minimum)^2 through the losses of one budget."""

    flops: float
    minimum: float
    """N at the vertex; NaN where the parabola has no minimum."""
    lowest: float
    """Loss at the vertex."""
    curvature: float
    is_inside: bool
    """Whether the vertex is a minimum between the smallest and the largest size."""


def budgets_of(points: Sequence[LawPoint], count: str) -> list[Budget]:
    """Return the points by compute, in rising order."""
    return [_budget(group, count) for group in groups_of(points, lambda point: point.flops)]


def _budget(points: Sequence[LawPoint], count: str) -> Budget:
    """Return the points of one compute with the mean loss of each size."""
    sizes: list[tuple[float, float]] = []
    for group in groups_of(points, lambda point: point.counts[count]):
        parameters = float(np.mean([point.counts[count] for point in group]))
        sizes.append((parameters, float(np.mean([point.loss for point in group]))))
    logs = [math.log(point.flops) for point in points]
    return Budget(math.exp(sum(logs) / len(logs)), tuple(sizes), tuple(points))


def isoflop_budgets(points: Sequence[LawPoint], count: str) -> list[Budget]:
    """Return the budgets of an isoFLOP grid; none for a table that is not one.

    It is one where at least GRID_SHARE of the points are in budgets of SIZES_OF_A_PARABOLA sizes or more.
    """
    budgets = [
        budget for budget in budgets_of(points, count) if len(budget.sizes) >= SIZES_OF_A_PARABOLA
    ]
    in_budgets = sum(len(budget.points) for budget in budgets)
    if in_budgets < GRID_SHARE * len(points):
        return []
    return budgets


def parabola_of(budget: Budget) -> Parabola:
    """Return the least-squares parabola of a budget's mean losses over log N."""
    logs = np.log([parameters for parameters, _ in budget.sizes])
    losses = np.array([loss for _, loss in budget.sizes])
    # Around the mean, so that the sums of powers are small numbers.
    centre = float(logs.mean())
    curvature, slope, level = (float(term) for term in np.polyfit(logs - centre, losses, 2))
    if curvature <= 0:
        return Parabola(budget.flops, math.nan, math.nan, curvature, is_inside=False)
    vertex = -slope / (2 * curvature)
    return Parabola(
        flops=budget.flops,
        minimum=math.exp(centre + vertex),
        lowest=level - slope**2 / (4 * curvature),
        curvature=curvature,
        is_inside=bool(logs[0] <= centre + vertex <= logs[-1]),
    )


def optimum_exponent(parabolas: Sequence[Parabola]) -> float:
    """Return the slope of log N over log C through the parabolas' minima.

    Only minima inside their grids count; NaN for fewer than two of those.
    """
    inside = [parabola for parabola in parabolas if parabola.is_inside]
    if len(inside) < 2:
        return math.nan
    computes = np.log([parabola.flops for parabola in inside])
    minima = np.log([parabola.minimum for parabola in inside])
    return float(np.polyfit(computes, minima, 1)[0])
