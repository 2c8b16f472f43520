"""Points of a known law, for tests."""

from collections.abc import Sequence

from pipeline.planning.laws.loss_law import LossLaw, Unit
from pipeline.planning.laws.points import LawPoint, PointTable, Selection, complete_point

BUDGETS = (1e18, 1e19, 1e20, 1e21)
RATIOS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Sizes, as multiples of the best one."""
COUNT = "parameters"
SLANTED = LossLaw("slanted", 1.0, 64.0, 0.5, 16.0, 0.25)
"""A law whose exponents differ."""
CHINCHILLA = LossLaw("Chinchilla", 1.81722, 477.83, 0.34731, 2143.4, 0.36717)


def point_of(law: LossLaw, parameters: float, tokens: float, name: str = "") -> LawPoint:
    """Return a point without noise."""
    return complete_point(
        name or f"{parameters:.3g} on {tokens:.3g}",
        {COUNT: parameters},
        law.loss(parameters, tokens),
        tokens=tokens,
    )


def grid_of(
    law: LossLaw, budgets: Sequence[float] = BUDGETS, ratios: Sequence[float] = RATIOS
) -> list[LawPoint]:
    """Return an isoFLOP grid around the law's optimum, without noise."""
    points: list[LawPoint] = []
    for flops in budgets:
        for ratio in ratios:
            parameters = ratio * law.optimal_parameters(flops)
            points.append(point_of(law, parameters, flops / 6 / parameters))
    return points


def selection_of(points: Sequence[LawPoint], unit: Unit = "nats") -> Selection:
    """Return points that are all kept."""
    table = PointTable("points.csv", unit, tuple(points))
    return Selection(table, tuple(points), ())
