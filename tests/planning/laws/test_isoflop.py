"""Parabolas through budgets: by hand, and how far they are from a known law's optimum."""

import math

import pytest
from law_points import COUNT, SLANTED, grid_of, point_of

from pipeline.planning.laws.fit import fit_law
from pipeline.planning.laws.isoflop import (
    Budget,
    budgets_of,
    isoflop_budgets,
    optimum_exponent,
    parabola_of,
)
from pipeline.planning.laws.points import LawPoint, complete_point

WIDE = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


def budget(*sizes: tuple[float, float]) -> Budget:
    return Budget(1e18, sizes, ())


def test_a_parabola_by_hand() -> None:
    """L = 2 + (log N - log 100)^2 at N = 10, 100, 1000."""
    square = math.log(10) ** 2
    parabola = parabola_of(budget((10.0, 2 + square), (100.0, 2.0), (1000.0, 2 + square)))
    assert parabola.minimum == pytest.approx(100)
    assert parabola.lowest == pytest.approx(2)
    assert parabola.curvature == pytest.approx(1)
    assert parabola.is_inside


def test_a_vertex_beyond_the_largest_size_is_outside() -> None:
    losses = [(math.log(size) - math.log(1e4)) ** 2 for size in (10, 100, 1000)]
    parabola = parabola_of(
        budget(*zip((10.0, 100.0, 1000.0), (2 + loss for loss in losses), strict=True))
    )
    assert parabola.minimum == pytest.approx(1e4)
    assert not parabola.is_inside


def test_bent_downwards_there_is_no_minimum() -> None:
    parabola = parabola_of(budget((10.0, 2.0), (100.0, 3.0), (1000.0, 2.0)))
    assert math.isnan(parabola.minimum)
    assert not parabola.is_inside


def test_budgets_average_seeds_and_allow_rounded_steps() -> None:
    points = [
        complete_point("a", {COUNT: 1e6}, 3.0, flops=1.00e15),
        complete_point("b", {COUNT: 1e6}, 3.2, flops=1.01e15),
        complete_point("c", {COUNT: 2e6}, 3.0, flops=1.02e15),
        complete_point("d", {COUNT: 2e6}, 2.5, flops=1e16),
    ]
    first, second = budgets_of(points, COUNT)
    assert [loss for _, loss in first.sizes] == pytest.approx([3.1, 3.0])
    assert [parameters for parameters, _ in first.sizes] == pytest.approx([1e6, 2e6])
    assert [point.name for point in second.points] == ["d"]


def test_the_lowest_loss_at_an_end_is_at_the_edge() -> None:
    assert budget((1.0, 3.0), (2.0, 3.1), (4.0, 3.2)).is_lowest_at_edge
    assert budget((1.0, 3.2), (2.0, 3.1), (4.0, 3.0)).is_lowest_at_edge
    assert not budget((1.0, 3.1), (2.0, 3.0), (4.0, 3.1)).is_lowest_at_edge


def test_a_grid_has_nearly_all_points_in_budgets_of_three_sizes() -> None:
    grid = grid_of(SLANTED)
    others = [point_of(SLANTED, 10.0**power, 3e9) for power in (6, 7, 8)]
    assert len(isoflop_budgets(grid, COUNT)) == 4
    assert len(isoflop_budgets([*grid, *others[:2]], COUNT)) == 4
    assert isoflop_budgets([*grid, *others], COUNT) == []


def test_vertices_are_biased_without_noise_and_the_fit_is_not() -> None:
    points = grid_of(SLANTED, ratios=WIDE)
    parabolas = [parabola_of(each) for each in isoflop_budgets(points, COUNT)]
    law = fit_law(points, COUNT, "grid", "nats", resamples=0).law
    assert len(parabolas) == 4
    for parabola in parabolas:
        optimum = SLANTED.optimal_parameters(parabola.flops)
        assert parabola.minimum / optimum == pytest.approx(1.1486, abs=1e-4)
        assert law.optimal_parameters(parabola.flops) == pytest.approx(optimum, rel=1e-5)


def test_where_the_sizes_drift_the_exponent_is_biased_too() -> None:
    points: list[LawPoint] = []
    for number, flops in enumerate((1e18, 1e19, 1e20, 1e21)):
        centre = 2 ** (number - 1.5)
        points += grid_of(SLANTED, budgets=(flops,), ratios=[centre * ratio for ratio in WIDE])
    parabolas = [parabola_of(each) for each in isoflop_budgets(points, COUNT)]
    law = fit_law(points, COUNT, "grid", "nats", resamples=0).law
    assert SLANTED.optimal_exponent == pytest.approx(1 / 3)
    assert optimum_exponent(parabolas) == pytest.approx(0.3425, abs=1e-4)
    assert law.optimal_exponent == pytest.approx(1 / 3, rel=1e-5)


def test_one_minimum_has_no_exponent() -> None:
    parabolas = [parabola_of(each) for each in budgets_of(grid_of(SLANTED, (1e18,)), COUNT)]
    assert math.isnan(optimum_exponent(parabolas))
