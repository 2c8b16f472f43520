"""What the figures of a scaling study show, by numbers that can be checked by hand."""

import math
from dataclasses import replace

import pytest

from pipeline.planning.laws.fit import FittedLaw
from pipeline.planning.laws.fit_summary import FitSummary
from pipeline.planning.laws.isoflop import isoflop_budgets, parabola_of
from pipeline.planning.laws.loss_law import CHINCHILLA_REFIT, LossLaw
from pipeline.planning.laws.points import LawPoint, PointTable, Selection, select_points
from pipeline.planning.study.scaling_figures import drawn_count, scaling_figures
from pipeline.store.studies.figure_table import FigureTable

LAW = LossLaw("even", 1.0, 2.0, 0.5, 2.0, 0.5)
"""The best division of 6 N D = C is N = D: at C = 60,000 both are 100, and L = 1 + 0.2 + 0.2."""
HIGHER = replace(LAW, irreducible=1.2)
COUNT = "parameters"


def point(parameters: float, tokens: float, loss: float, **others: str) -> LawPoint:
    return LawPoint(
        name=f"{parameters:g} on {tokens:g}",
        counts={COUNT: parameters},
        tokens=tokens,
        flops=6 * parameters * tokens,
        loss=loss,
        **others,
    )


POINTS = (
    point(10, 1000, 2.0),
    point(100, 100, 1.0),
    point(1000, 10, 2.0),
    point(10, 10_000, 1.5),
    point(100, 1000, 1.25),
    point(1000, 100, 1.5),
)


def selection_of(*points: LawPoint, unit: str = "nats") -> Selection:
    return select_points(PointTable("points.csv", unit, points))  # pyright: ignore[reportArgumentType]


def summary_of(selection: Selection) -> FitSummary:
    """Return a summary of LAW, with two resamples: itself and one that is 0.2 higher."""
    fitted = FittedLaw(LAW, COUNT, 0.0, selection.kept, (LAW, HIGHER), 0)
    budgets = isoflop_budgets(selection.kept, COUNT)
    return FitSummary(
        fitted, (fitted.count,), (), (), None, tuple(parabola_of(budget) for budget in budgets)
    )


def tables_of(selection: Selection, summary: FitSummary | None) -> dict[str, FigureTable]:
    return {table.name: table for table in scaling_figures(selection, COUNT, summary)}


@pytest.fixture(scope="module")
def tables() -> dict[str, FigureTable]:
    selection = selection_of(*POINTS)
    return tables_of(selection, summary_of(selection))


def test_loss_over_compute_has_a_curve_a_size_and_the_lowest_loss_by_the_fit(
    tables: dict[str, FigureTable],
) -> None:
    table = tables["loss_over_compute"]
    runs = [(each.series, each.x, each.y) for each in table.points_of("run")]
    assert runs == [
        ("N = 10", 60_000, 2.0),
        ("N = 10", 600_000, 1.5),
        ("N = 100", 60_000, 1.0),
        ("N = 100", 600_000, 1.25),
        ("N = 1k", 60_000, 2.0),
        ("N = 1k", 600_000, 1.5),
    ]
    law = table.points_of("fit")
    # Percentiles 2.5 and 97.5 of 1.4 and 1.6.
    assert (law[0].x, law[-1].x) == (60_000, 600_000)
    assert law[0].y == pytest.approx(1.4)
    assert law[0].low == pytest.approx(1.405)
    assert law[0].high == pytest.approx(1.595)
    beyond = table.points_of("beyond")
    assert (beyond[0].x, beyond[-1].x) == (600_000, 6_000_000)
    # N = D = 1,000: 2 / sqrt(1,000) twice.
    assert beyond[-1].y == pytest.approx(1 + 4 / math.sqrt(1000))


def test_parabolas_go_through_three_sizes_and_the_optimum_is_that_of_the_law(
    tables: dict[str, FigureTable],
) -> None:
    # Losses of 2, 1, 2 and of 1.5, 1.25, 1.5 over log N: lowest at the middle size.
    table = tables["isoflop"]
    assert table.series_of("run") == ["C = 6e4", "C = 6e5"]
    parabola = table.points_of("parabola")[:25]
    assert [parabola[0].x, parabola[12].x, parabola[24].x] == pytest.approx([10, 100, 1000])
    assert [parabola[0].y, parabola[12].y, parabola[24].y] == pytest.approx([2, 1, 2])
    vertices = [(each.series, each.x, each.y) for each in table.points_of("vertex")]
    assert vertices == [
        ("C = 6e4", pytest.approx(100), pytest.approx(1)),
        ("C = 6e5", pytest.approx(100), pytest.approx(1.25)),
    ]
    optima = table.points_of("optimum")
    assert (optima[0].x, optima[0].y) == pytest.approx((100, 1.4))


def test_the_best_division_stands_beside_published_ones(tables: dict[str, FigureTable]) -> None:
    for name, in_law, hoffmann in (
        ("optimal_parameters", 1000, math.sqrt(6e6 / 120)),
        ("optimal_tokens", 1000, 20 * math.sqrt(6e6 / 120)),
    ):
        table = tables[name]
        assert table.points_of("beyond")[-1].y == pytest.approx(in_law)
        assert table.points_of("beyond")[-1].low == pytest.approx(in_law)
        published = {each.series: each for each in table.points_of("published")}
        assert [each.x for each in published.values()] == [6e6, 6e6]
        assert published["20 tokens a parameter (Hoffmann 2022)"].y == pytest.approx(hoffmann)
        assert "N grows as C^0.73 (Kaplan 2020)" in published
    vertices = tables["optimal_parameters"].points_of("vertex")
    assert [each.x for each in vertices] == pytest.approx([60_000, 600_000])
    assert [each.y for each in vertices] == pytest.approx([100, 100])
    assert tables["optimal_tokens"].points_of("vertex") == []


def test_residuals_are_percent_of_the_loss_by_the_fit() -> None:
    selection = selection_of(*POINTS[:3], point(100, 100, 1.428))
    table = tables_of(selection, summary_of(selection))["residuals"]
    values = {each.name: (each.x, each.y) for each in table.points[-2:]}
    # 1.428 / 1.4 = 1.02; 1000 on 10: 1 + 2 / sqrt(1,000) + 2 / sqrt(10).
    predicted = 1 + 2 / math.sqrt(1000) + 2 / math.sqrt(10)
    assert table.points_of("run")[2].y == pytest.approx(2.0)
    assert values["1000 on 10"] == pytest.approx((predicted, 100 * (2 / predicted - 1)))


def test_chinchilla_is_drawn_over_its_own_computes_and_beside_nats_only(
    tables: dict[str, FigureTable],
) -> None:
    published = tables["loss_beside_published"].points_of("published")
    assert (published[0].x, published[-1].x) == (1.4e18, 1.3e22)
    assert published[0].y == CHINCHILLA_REFIT.optimal_loss(1.4e18)
    in_bits = selection_of(*POINTS, unit="bits-per-byte")
    assert "loss_beside_published" not in tables_of(in_bits, None)
    assert tables_of(in_bits, None)["loss_over_compute"].y == "bits_per_byte"


def test_a_run_that_no_fit_uses_is_marked_and_one_without_a_loss_is_not_drawn() -> None:
    selection = selection_of(
        *POINTS,
        point(100, 50, 3.0, left_out="rolled back 1 time"),
        point(100, 60, math.nan),
    )
    table = tables_of(selection, None)["loss_over_compute"]
    (left_out,) = table.points_of("left out")
    assert (left_out.x, left_out.y, left_out.name) == (30_000, 3.0, "100 on 50")
    assert len(table.points_of("run")) == 6


def test_without_a_law_there_are_only_points_and_without_points_nothing() -> None:
    drawn = tables_of(selection_of(*POINTS), None)
    assert list(drawn) == ["loss_over_compute", "isoflop", "loss_beside_published"]
    assert not any(table.points_of("fit", "beyond", "optimum") for table in drawn.values())
    assert tables_of(selection_of(), None) == {}


def test_parameters_that_multiply_are_drawn_where_they_have_a_law() -> None:
    counts = {"parameters_total": 10.0, "parameters_multiplying": 8.0}
    table = PointTable("points.csv", "nats", (replace(POINTS[0], counts=counts),))
    assert drawn_count(table, []) == "parameters_multiplying"
    summary = summary_of(selection_of(*POINTS))
    total = replace(summary, counts=("parameters_total",))
    assert drawn_count(table, [total]) == "parameters_total"
