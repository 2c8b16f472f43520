"""The report of a study of widths: fit over width and epochs, beside that of random features."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from pipeline.cli.study.opened_study import OpenedStudy
from pipeline.cli.study.study_totals import StudyTotals, runs_table, total_tiles
from pipeline.errors import UserError
from pipeline.logs import counted_noun, short
from pipeline.planning.double_descent.curve_shape import (
    MOST_CHANCE,
    DescentShape,
    SeedBand,
    SeedValues,
    descent_shape,
    interpolation_threshold,
    seed_bands,
)
from pipeline.planning.double_descent.own_tokens import own_context_task
from pipeline.planning.double_descent.random_features import (
    FeatureFit,
    FeatureSetting,
    fit_random_features,
)
from pipeline.planning.double_descent.width_curves import (
    Measure,
    WidthRun,
    over_width,
    series_of,
    width_runs,
)
from pipeline.planning.study.points import StudyPoint
from pipeline.planning.study.width import LEAST_SEEDS, LEAST_WIDTHS, WidthQuestion
from pipeline.planning.study.width_figures import feature_curve, feature_tables, width_tables
from pipeline.reporting.page import Cell
from pipeline.reporting.study.study_page import StudyFigure, StudyReport, Tile, TitledTable
from pipeline.reporting.study.width_looks import width_caption, width_look

MEASURES: Mapping[str, Measure] = {
    "held-out loss": lambda fit: fit.held_out_loss,
    "held-out error": lambda fit: fit.held_out_error,
}
FEWEST_FOR_LOWER = math.ceil(-math.log2(MOST_CHANCE))
"""Seeds that agree by chance in at most MOST_CHANCE of cases: 5."""
LEAST_OF_A_SHAPE = 3
"""Widths of which one can be a peak inside."""
FITS_NOTE = (
    "At the end of training, means over seeds. N: all parameters. Lowest held-out loss: of all "
    "validations of a run, as early stopping would find it, and the epochs before it."
)


def report_widths(
    opened: OpenedStudy, points: Sequence[StudyPoint], totals: StudyTotals
) -> StudyReport:
    """Return the report of a study; fits random features to its tokens."""
    setting = FeatureSetting()
    features: list[FeatureFit] = []
    lacking: list[str] = []
    try:
        task = own_context_task(opened.runs[0].config, setting.samples)
        features = fit_random_features(task, setting)
    except UserError as error:
        lacking.append(str(error))
    question: WidthQuestion = opened.study.question
    trained = TrainedWidths(
        runs=width_runs(opened.runs, points), points=points, fitted_error=question.fitted_error
    )
    return width_report(opened.file.stem, trained, features, totals, lacking)


@dataclass(frozen=True)
class TrainedWidths:
    """What a study of widths has trained."""

    runs: Sequence[WidthRun]
    """Those that count and have measured their fit."""
    points: Sequence[StudyPoint]
    """All that have begun."""
    fitted_error: float
    """Training error from which on a width counts as fitting its rows."""


def width_report(
    title: str,
    trained: TrainedWidths,
    features: Sequence[FeatureFit],
    totals: StudyTotals,
    lacking: Sequence[str] = (),
) -> StudyReport:
    """Return the report. `features`: fits of random features, `lacking`: why there are none."""
    # What is drawn and said.
    runs = trained.runs
    tables = [
        *width_tables(runs, trained.fitted_error),
        *feature_tables(features, FeatureSetting()),
    ]
    statements = [
        sentence for series in series_of(runs) for sentence in _series_sentences(trained, series)
    ]

    # The runs that are not among it.
    used = {run.name for run in runs}
    reasons = {
        point.name: point.left_out or "no fit to a small sample measured"
        for point in trained.points
        if point.name not in used
    }
    return StudyReport(
        title=title,
        line=(
            f"Loss and error of {counted_noun(len(runs), 'run')} on the few rows that they were "
            "trained on and on held-out text, over width and epochs, beside random features."
        ),
        tiles=[*total_tiles(totals, f"{len(runs)} with a measured fit"), *_tiles(trained)],
        refusals=[*_refusals(trained), *lacking],
        statements=[*statements, *_feature_sentences(features)],
        figures=[StudyFigure(table, width_look(table), width_caption(table)) for table in tables],
        numbers={},
        results=[_fits_table(runs)],
        runs=runs_table(trained.points, reasons, totals.not_begun),
    )


def _tiles(trained: TrainedWidths) -> list[Tile]:
    """Return the width from which on the rows are fitted, for each curve that has one."""
    tiles: list[Tile] = []
    for series in series_of(trained.runs):
        width = _threshold(trained, series)
        if width is not None:
            detail = f"training error at most {trained.fitted_error:.0%}"
            if series:
                detail += f", {series}"
            tiles.append(Tile(f"{width:g}", "width that fits its rows", detail))
    return tiles


def _threshold(trained: TrainedWidths, series: str) -> float | None:
    errors = over_width(trained.runs, series, lambda fit: fit.sample_error)
    return interpolation_threshold(errors, trained.fitted_error)


def _refusals(trained: TrainedWidths) -> list[str]:
    """Return what the runs leave open, each with its remedy."""
    if not trained.runs:
        return [
            "no finished run has measured its fit: set settings.data.small_sample, and let runs end"
        ]
    return [
        reason for series in series_of(trained.runs) for reason in _series_refusals(trained, series)
    ]


def _series_refusals(trained: TrainedWidths, series: str) -> list[str]:
    """Return what the runs of one curve leave open."""
    own = [run for run in trained.runs if run.series == series]
    place = _in_series(series)
    refusals: list[str] = []

    # Too few points for a shape, or seeds for a band.
    widths = {run.width for run in own}
    if len(widths) < LEAST_WIDTHS:
        refusals.append(
            f"{len(widths)} widths are done{place}, and a curve that may fall, rise and fall "
            f"again needs at least {LEAST_WIDTHS}: train more widths"
        )
    fewest = min(len({run.seed for run in own if run.width == width}) for width in widths)
    if fewest < LEAST_SEEDS:
        refusals.append(
            f"a width has a single seed{place}: there is no band, and whether a rise is more than "
            "chance cannot be told; add seeds"
        )

    # No width from which on rows are fitted.
    if _threshold(trained, series) is None:
        errors = seed_bands(over_width(own, series, lambda fit: fit.sample_error))
        refusals.append(_no_threshold(errors, trained.fitted_error, place))
    return refusals


def _no_threshold(errors: Sequence[SeedBand], fitted_error: float, place: str) -> str:
    """Return why no width is the interpolation threshold. `errors`: training error over width."""
    best = min(errors, key=lambda band: band.mean)
    if best.mean <= fitted_error:
        largest = errors[-1]
        return (
            f"width {best.x:g} fits its training rows{place}, with an error of {best.mean:.1%}, but the "
            f"largest width, {largest.x:g}, does not, with {largest.mean:.1%}, and at most "
            f"{fitted_error:.0%} counts (question.fitted_error), so no interpolation threshold is "
            "marked; make budgets.tokens larger, or settings.optimizer.peak_learning_rate smaller"
        )
    return (
        f"no width fits its training rows{place}: the smallest training error is "
        f"{best.mean:.1%}, at width {best.x:g}, and at most {fitted_error:.0%} counts "
        "(question.fitted_error), so no interpolation threshold is marked and a second "
        "descent may lie beyond; add wider models, make budgets.tokens larger, or "
        "data.small_sample.train_sequences smaller"
    )


def _in_series(series: str) -> str:
    if not series:
        return ""
    return f" with {series}"


def _series_sentences(trained: TrainedWidths, series: str) -> list[str]:
    """Return what the runs of one curve show."""
    sentences: list[str] = []
    width = _threshold(trained, series)
    if width is not None:
        run = next(run for run in trained.runs if run.series == series and run.width == width)
        sentences.append(
            f"From width {width:g} on{_in_series(series)} the training rows are fitted, wrong targets "
            f"included: {short(run.parameters)} parameters for {short(run.targets)} targets, "
            f"{run.label_noise:.0%} of them wrong."
        )
    for words, measure in MEASURES.items():
        curve = over_width(trained.runs, series, measure)
        if len(curve) < LEAST_OF_A_SHAPE:
            continue
        subject = words.capitalize() + _in_series(series)
        sentences.append(_shape_sentence(subject, "width", curve))
    return sentences


def _shape_sentence(subject: str, x: str, curve: Mapping[float, SeedValues]) -> str:
    """Say where a curve falls, rises and falls again, and whether the seeds agree on it."""
    shape = descent_shape(curve)
    if shape is None:
        bands = seed_bands(curve)
        return (
            f"{subject} has no peak inside: {_at(bands[0], x)}, {_at(bands[-1], x)}. No double "
            "descent is seen."
        )
    sentence = (
        f"{subject}: {_at(shape.first_minimum, x)}, up to {_at(shape.peak, x)}, down to "
        f"{_at(shape.last_minimum, x)}."
    )
    return " ".join(
        [sentence, *_seeds_in_words(shape), _verdict(shape), *_at_the_ends(shape, curve)]
    )


def _seeds_in_words(shape: DescentShape) -> list[str]:
    """Say what the seeds show; nothing with a single one."""
    if shape.test is None:
        return []
    seeds = counted_noun(shape.seeds, "seed")
    sentence = (
        f"Where the other seeds have their peak and minima, {shape.test.peak_seeds} of {seeds} rise and "
        f"fall, and {shape.test.lower_seeds} end below the first minimum"
    )
    if shape.has_peak_in_every_seed:
        sentence += (
            f"; chance alone, the values of each seed in random order, shows as clear a peak in "
            f"about {_one_in(shape.test.chance)}"
        )
    return [f"{sentence}."]


def _one_in(chance: float) -> str:
    """Return a chance in words: `1 of 180 cases`."""
    return f"1 of {round(1 / chance):,} cases"


def _verdict(shape: DescentShape) -> str:
    if shape.test is None:
        return "Fewer than two seeds were measured at all of them, so this may be chance."
    if not shape.has_peak_in_every_seed:
        return "Not every seed shows the peak, so it is not told from noise."
    if not shape.has_peak:
        return "That is too often: the peak is not told from noise; add seeds."
    if shape.is_below_first:
        return "A double descent, the second one below the first."
    if shape.is_lower_in_every_seed:
        return (
            "A peak and a second descent. That every seed ends below the first minimum happens in "
            f"{_one_in(shape.lower_chance)} where both minima are equal, so a double descent to below it "
            f"is not told from noise; at least {FEWEST_FOR_LOWER} seeds can tell."
        )
    if shape.test.lower_seeds == 0:
        return "A peak and a second descent, which does not get below the first."
    return "A peak and a second descent; whether it gets below the first is left open."


def _at_the_ends(shape: DescentShape, curve: Mapping[float, SeedValues]) -> list[str]:
    """Say where a minimum is at an end of the curve, so that what lies beyond is not known."""
    remarks: list[str] = []
    if shape.first_minimum.x == min(curve):
        remarks.append("The first minimum is at the smallest one: no first descent is seen.")
    if shape.last_minimum.x == max(curve):
        remarks.append("It still falls at the largest one.")
    return remarks


def _at(band: SeedBand, x: str) -> str:
    """Return a mean with its range and place in words: `0.61 [0.60, 0.63] at width 32`."""
    words = f"{band.mean:.4g}"
    if band.low is not None and band.high is not None:
        words += f" [{band.low:.4g}, {band.high:.4g}]"
    return f"{words} at {x} {band.x:g}"


def _feature_sentences(features: Sequence[FeatureFit]) -> list[str]:
    """Return what random features show; nothing without fits."""
    if not features:
        return []
    curve = feature_curve(features, "test_error")
    return [_shape_sentence("Test error of random features", "features", curve)]


def _fits_table(runs: Sequence[WidthRun]) -> TitledTable:
    """Return a row for each width of each curve."""
    rows: list[list[Cell]] = []
    for series in series_of(runs):
        widths = sorted({run.width for run in runs if run.series == series})
        for width in widths:
            own = [run for run in runs if (run.series, run.width) == (series, width)]
            rows.append(_fits_row(series, own))
    head = [
        "curve", "width", "N", "N / target", "seeds", "training loss", "held-out loss", "gap",
        "training error", "held-out error", "lowest held-out loss", "after epochs",
    ]  # fmt: skip
    return TitledTable("Fit over width", (head, rows), 1, FITS_NOTE)


def _fits_row(series: str, runs: Sequence[WidthRun]) -> list[Cell]:
    """Return the row of the seeds of one width."""
    first = runs[0]
    ends = [run.end for run in runs]
    lowest = [min(run.fits, key=lambda fit: fit.held_out_loss) for run in runs]
    return [
        series or "all",
        str(first.width),
        short(first.parameters),
        f"{first.parameters / first.targets:.2g}",
        str(len(runs)),
        f"{fmean(end.sample_loss for end in ends):.3f}",
        f"{fmean(end.held_out_loss for end in ends):.3f}",
        f"{fmean(end.loss_gap for end in ends):.3f}",
        f"{fmean(end.sample_error for end in ends):.4f}",
        f"{fmean(end.held_out_error for end in ends):.4f}",
        f"{fmean(fit.held_out_loss for fit in lowest):.3f}",
        f"{fmean(fit.epochs for fit in lowest):.3g}",
    ]
