"""The numbers of a scaling study's figures, from its points and a fitted law. Pure arithmetic."""

from collections.abc import Sequence

import numpy as np

from pipeline.logs import scientific, short
from pipeline.planning.laws.fit_summary import FitSummary
from pipeline.planning.laws.intervals import Interval, Optimum, optimum_at
from pipeline.planning.laws.isoflop import Budget, Parabola, isoflop_budgets, parabola_of
from pipeline.planning.laws.loss_law import CHINCHILLA_REFIT, LossLaw, Unit
from pipeline.planning.laws.points import LawPoint, PointTable, Selection, groups_of
from pipeline.planning.laws.published_optima import PUBLISHED_OPTIMA
from pipeline.store.studies.figure_table import FigurePoint, FigureTable, Role

POINTS_PER_DECADE = 8
BEYOND = 10.0
"""A law is drawn up to this multiple of its runs' largest compute."""
POINTS_OF_A_PARABOLA = 25
CHINCHILLA_FLOPS = (1.4e18, 1.3e22)
"""Smallest and largest compute of the runs behind `CHINCHILLA_REFIT`. Source: their table, from
figure 4 of Hoffmann et al. 2022."""
DRAWN_COUNTS = (
    "parameters_multiplying",
    "parameters_non_embedding",
    "parameters_total",
    "parameters",
)
"""Ways of counting N; the first one that is there is drawn. FLOPs follow from the first."""
LOSS_COLUMNS: dict[Unit, str] = {
    "nats": "loss_nats_per_token",
    "bits": "loss_bits_per_token",
    "bits-per-byte": "bits_per_byte",
}
"""Unit of a table -> column of a figure's table."""
FRONTIER = "lowest loss by the fit"


def drawn_count(table: PointTable, summaries: Sequence[FitSummary]) -> str:
    """Return the way of counting N that is drawn: one with a law, where there is any."""
    counts = [count for summary in summaries for count in summary.counts] or table.counts
    return next(count for count in DRAWN_COUNTS if count in counts)


def scaling_figures(
    selection: Selection, count: str, summary: FitSummary | None
) -> list[FigureTable]:
    """Return the tables of all figures that the points, and the law if there is one, allow.

    `summary`: the fit for `count`, None where it was refused. Points without a finite loss are in no
    figure.
    """
    if not selection.kept:
        return []
    optima: list[tuple[Role, Optimum]] = []
    if summary is not None:
        optima = _optima(summary)
    tables = [
        _loss_over_compute(selection, count, optima),
        _isoflop(selection, count, summary),
    ]
    if summary is not None:
        tables += [
            _best_division("optimal_parameters", "parameters", optima, summary),
            _best_division("optimal_tokens", "tokens", optima, summary),
            _residuals(summary),
        ]
    if selection.table.unit == "nats":
        tables.append(_beside_published(selection, optima))
    return [table for table in tables if table.points]


def _optima(summary: FitSummary) -> list[tuple[Role, Optimum]]:
    """Return the best division over the computes of the runs, and over those beyond them."""
    fitted = summary.fitted
    computes = [point.flops for point in fitted.points]
    largest = max(computes)
    parts: list[tuple[Role, list[float]]] = [
        ("fit", _evenly(min(computes), largest)),
        ("beyond", _evenly(largest, BEYOND * largest)),
    ]
    return [(role, optimum_at(fitted, flops)) for role, axis in parts for flops in axis]


def _evenly(low: float, high: float) -> list[float]:
    """Return computes from low to high, evenly in their logarithm, both ends among them."""
    number = max(2, int(np.ceil(POINTS_PER_DECADE * np.log10(high / low))) + 1)
    axis = [float(flops) for flops in np.geomspace(low, high, number)]
    return [low, *axis[1:-1], high]


def _on_curve(role: Role, series: str, x: float, interval: Interval) -> FigurePoint:
    return FigurePoint(role, series, x, interval.value, interval.low, interval.high)


def _loss_over_compute(
    selection: Selection, count: str, optima: Sequence[tuple[Role, Optimum]]
) -> FigureTable:
    """Return (C, loss) of all runs, one curve a size, and the lowest loss by the fit."""
    points: list[FigurePoint] = []
    for size in groups_of(selection.kept, lambda point: point.counts[count]):
        series = f"N = {short(size[0].counts[count])}"
        runs = sorted(size, key=lambda point: (point.flops, point.seed))
        points += [FigurePoint("run", series, run.flops, run.loss, name=run.name) for run in runs]
    points += [
        FigurePoint("left out", "left out of the fit", run.flops, run.loss, name=run.name)
        for run in _left_out(selection)
    ]
    points += [_on_curve(role, FRONTIER, optimum.flops, optimum.loss) for role, optimum in optima]
    return FigureTable("loss_over_compute", "flops", LOSS_COLUMNS[selection.table.unit], points)


def _left_out(selection: Selection) -> list[LawPoint]:
    """Return the runs that have a loss and that no fit uses."""
    return [
        point
        for point in selection.table.points
        if point not in selection.kept and np.isfinite([point.loss, point.flops]).all()
    ]


def _isoflop(selection: Selection, count: str, summary: FitSummary | None) -> FigureTable:
    """Return loss over N at each compute, with parabolas and the law's own optimum."""
    points: list[FigurePoint] = []
    for budget in isoflop_budgets(selection.kept, count):
        series = f"C = {scientific(budget.flops)}"
        runs = sorted(budget.points, key=lambda point: (point.counts[count], point.seed))
        points += [
            FigurePoint("run", series, run.counts[count], run.loss, name=run.name) for run in runs
        ]
        points += _parabola_points(budget, series)
        if summary is not None:
            points.append(_optimum_point(summary.fitted.law, budget, series))
    return FigureTable("isoflop", count, LOSS_COLUMNS[selection.table.unit], points)


def _parabola_points(budget: Budget, series: str) -> list[FigurePoint]:
    """Return a budget's parabola between its smallest and largest size, and its minimum there."""
    parabola = parabola_of(budget)
    if np.isnan(parabola.minimum):
        return []
    sizes = [size for size, _ in budget.sizes]
    axis = np.geomspace(sizes[0], sizes[-1], POINTS_OF_A_PARABOLA)
    points = [
        FigurePoint("parabola", series, float(size), _height(parabola, float(size)))
        for size in axis
    ]
    if parabola.is_inside:
        points.append(FigurePoint("vertex", series, parabola.minimum, parabola.lowest))
    return points


def _height(parabola: Parabola, size: float) -> float:
    """Return the loss of a parabola at a size."""
    distance = float(np.log(size / parabola.minimum))
    return parabola.lowest + parabola.curvature * distance**2


def _optimum_point(law: LossLaw, budget: Budget, series: str) -> FigurePoint:
    """Return the best N and its loss by the law, for 6 N D FLOPs."""
    best = law.optimal_parameters(budget.flops)
    return FigurePoint("optimum", series, best, law.optimal_loss(budget.flops))


def _best_division(
    name: str, quantity: str, optima: Sequence[tuple[Role, Optimum]], summary: FitSummary
) -> FigureTable:
    """Return N_opt or D_opt over C with band, and what others have published.

    `quantity`: parameters or tokens.
    """
    points = [
        _on_curve(role, "fit", optimum.flops, getattr(optimum, quantity))
        for role, optimum in optima
    ]
    computes = list(dict.fromkeys(optimum.flops for _, optimum in optima))
    for rule in PUBLISHED_OPTIMA:
        amount = getattr(rule, quantity)
        points += [FigurePoint("published", rule.name, flops, amount(flops)) for flops in computes]
    if quantity == "parameters":
        points += [
            FigurePoint("vertex", "minima of the parabolas", parabola.flops, parabola.minimum)
            for parabola in summary.parabolas
            if parabola.is_inside
        ]
    return FigureTable(name, "flops", quantity, points)


def _residuals(summary: FitSummary) -> FigureTable:
    """Return by how much each run's loss differs from the fit, over the loss by the fit."""
    fitted = summary.fitted
    points: list[FigurePoint] = []
    for size in groups_of(fitted.points, lambda point: point.counts[fitted.count]):
        series = f"N = {short(size[0].counts[fitted.count])}"
        for run in sorted(size, key=lambda point: (point.flops, point.seed)):
            predicted = fitted.law.loss(run.counts[fitted.count], run.tokens)
            deviation = 100 * (run.loss / predicted - 1)
            points.append(FigurePoint("run", series, predicted, deviation, name=run.name))
    return FigureTable("residuals", "predicted_loss", "measured_minus_predicted_percent", points)


def _beside_published(selection: Selection, optima: Sequence[tuple[Role, Optimum]]) -> FigureTable:
    """Return the runs and the fit beside Chinchilla's law, over the computes of its own runs."""
    runs = sorted(selection.kept, key=lambda point: point.flops)
    points = [FigurePoint("run", "runs", run.flops, run.loss, name=run.name) for run in runs]
    points += [
        _on_curve(role, FRONTIER, optimum.flops, optimum.loss)
        for role, optimum in optima
        if role == "fit"
    ]
    points += [
        FigurePoint("published", "Chinchilla", flops, CHINCHILLA_REFIT.optimal_loss(flops))
        for flops in _evenly(*CHINCHILLA_FLOPS)
    ]
    return FigureTable("loss_beside_published", "flops", LOSS_COLUMNS["nats"], points)
