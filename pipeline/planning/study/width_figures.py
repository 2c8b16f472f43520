"""The numbers of the figures of a study of widths. Pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from pipeline.planning.double_descent.curve_shape import (
    SeedValues,
    interpolation_threshold,
    seed_bands,
)
from pipeline.planning.double_descent.random_features import FeatureFit, FeatureSetting
from pipeline.planning.double_descent.width_curves import (
    Measure,
    WidthRun,
    over_epochs,
    over_width,
    series_of,
)
from pipeline.store.studies.figure_table import FigurePoint, FigureTable

TRAINING = "training rows"
HELD_OUT = "held-out text"
THRESHOLD = "training rows fitted"
LEARNED_CONTEXTS = "learned contexts"
OTHER_CONTEXTS = "other contexts"
"""Contexts of the training text, too: random features are not tested on held-out text."""
AS_MANY = "as many features as samples"


@dataclass(frozen=True)
class MeasuredFigure:
    """What a figure of trained runs shows."""

    name: str
    y: str
    measures: Mapping[str, Measure]
    """Name of a curve -> what it is of."""


OVER_WIDTH = (
    MeasuredFigure(
        "loss_over_width",
        "loss_nats",
        {TRAINING: attrgetter("sample_loss"), HELD_OUT: attrgetter("held_out_loss")},
    ),
    MeasuredFigure(
        "error_over_width",
        "error",
        {TRAINING: attrgetter("sample_error"), HELD_OUT: attrgetter("held_out_error")},
    ),
    MeasuredFigure("held_out_error_over_width", "error", {HELD_OUT: attrgetter("held_out_error")}),
    MeasuredFigure(
        "gap_over_width", "gap_nats", {"held-out minus training loss": attrgetter("loss_gap")}
    ),
)
"""At the end of the runs, with the threshold."""
OVER_EPOCHS = (
    MeasuredFigure("loss_over_epochs", "loss_nats", {HELD_OUT: attrgetter("held_out_loss")}),
    MeasuredFigure("error_over_epochs", "error", {HELD_OUT: attrgetter("held_out_error")}),
    MeasuredFigure("training_loss_over_epochs", "loss_nats", {TRAINING: attrgetter("sample_loss")}),
    MeasuredFigure("training_error_over_epochs", "error", {TRAINING: attrgetter("sample_error")}),
)
"""At every validation, a curve for each width."""


def width_tables(runs: Sequence[WidthRun], fitted_error: float) -> list[FigureTable]:
    """Return loss, error and gap over width, and loss and errors over epochs; nothing without runs.

    `fitted_error`: training error from which on rows count as fitted.
    """
    if not runs:
        return []
    return [
        *(_over_width(figure, runs, fitted_error) for figure in OVER_WIDTH),
        *(_over_epochs(figure, runs) for figure in OVER_EPOCHS),
    ]


def feature_tables(fits: Sequence[FeatureFit], setting: FeatureSetting) -> list[FigureTable]:
    """Return error and squared error of random features over their number; nothing without fits."""
    if not fits:
        return []
    errors = {
        LEARNED_CONTEXTS: feature_curve(fits, "train_error"),
        OTHER_CONTEXTS: feature_curve(fits, "test_error"),
    }
    squares = {OTHER_CONTEXTS: feature_curve(fits, "test_square")}
    return [
        _of_features("random_features_error", "error", errors, setting),
        _of_features("random_features_square", "squared_error", squares, setting),
    ]


def feature_curve(fits: Sequence[FeatureFit], measure: str) -> dict[float, SeedValues]:
    """Return features -> seed -> a measure, the name of a field of FeatureFit."""
    values: dict[float, dict[int, float]] = {}
    for fit in fits:
        values.setdefault(fit.features, {})[fit.seed] = getattr(fit, measure)
    return dict(values)


def _over_width(
    figure: MeasuredFigure, runs: Sequence[WidthRun], fitted_error: float
) -> FigureTable:
    points: list[FigurePoint] = []
    for series in series_of(runs):
        for words, measure in figure.measures.items():
            points += _curve(_label(words, series), over_width(runs, series, measure))
        errors = over_width(runs, series, attrgetter("sample_error"))
        threshold = interpolation_threshold(errors, fitted_error)
        if threshold is not None:
            label = _label(THRESHOLD, series)
            points.append(FigurePoint("threshold", label, threshold, points[-1].y))
    return FigureTable(figure.name, "width", figure.y, points)


def _over_epochs(figure: MeasuredFigure, runs: Sequence[WidthRun]) -> FigureTable:
    points: list[FigurePoint] = []
    for series in series_of(runs):
        for measure in figure.measures.values():
            for width in sorted({run.width for run in runs if run.series == series}):
                curve = over_epochs(runs, series, width, measure)
                points += _curve(_label(f"width {width}", series), curve)
    return FigureTable(figure.name, "epochs", figure.y, points)


def _of_features(
    name: str, y: str, curves: Mapping[str, Mapping[float, SeedValues]], setting: FeatureSetting
) -> FigureTable:
    points: list[FigurePoint] = []
    for words, curve in curves.items():
        points += _curve(words, curve)
    points.append(FigurePoint("threshold", AS_MANY, setting.samples, points[-1].y))
    return FigureTable(name, "features", y, points)


def _curve(label: str, curve: Mapping[float, SeedValues]) -> list[FigurePoint]:
    """Return the mean over seeds at each x, with the lowest and the highest seed."""
    return [
        FigurePoint("run", label, band.x, band.mean, band.low, band.high)
        for band in seed_bands(curve)
    ]


def _label(words: str, series: str) -> str:
    if not series:
        return words
    return f"{words}, {series}"
