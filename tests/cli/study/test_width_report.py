"""The report of a study of widths, from made-up runs: what is seen, in how many seeds, and what is not."""

from dataclasses import replace
from pathlib import Path

import pytest
from made_up_study import study_point

from pipeline.cli.study.study_totals import StudyTotals
from pipeline.cli.study.width_report import TrainedWidths, width_report
from pipeline.planning.double_descent.random_features import FeatureFit
from pipeline.planning.double_descent.width_curves import FitAt, WidthRun
from pipeline.reporting.study.study_page import StudyReport, write_study_report
from pipeline.store.studies.study_folder import StudyFolder

TOTALS = StudyTotals(
    done=10,
    planned=10,
    flops=1e12,
    device_hours=0.1,
    device_hours_name="device-hours",
    not_begun=[],
)
WIDTHS = (4, 8, 16, 32, 64)
TRAIN_ERRORS = (0.9, 0.6, 0.2, 0.01, 0.0)
HELD_OUT_LOSSES = (5.5, 5.0, 7.0, 9.0, 8.0)
HELD_OUT_ERRORS = (0.95, 0.93, 0.9, 0.89, 0.88)


def width_run(width: int, seed: int, fit: FitAt, series: str = "") -> WidthRun:
    """Return a run whose held-out loss was lowest after 10 of 100 epochs."""
    begin = replace(fit, epochs=10.0, held_out_loss=4.9, sample_error=0.95)
    return WidthRun(
        name=f"w{width}-s{seed}{series}",
        series=series,
        width=width,
        seed=seed,
        parameters=100 * width,
        targets=1600,
        label_noise=0.2,
        fits=[begin, fit],
    )


def made_up_runs(seeds: tuple[int, ...] = (1, 2), series: str = "") -> list[WidthRun]:
    """Return runs whose held-out loss peaks at width 32, in which the rows are fitted."""
    runs: list[WidthRun] = []
    for place, width in enumerate(WIDTHS):
        for seed in seeds:
            fit = FitAt(
                epochs=100.0,
                sample_loss=4.0 * TRAIN_ERRORS[place],
                sample_error=TRAIN_ERRORS[place],
                held_out_loss=HELD_OUT_LOSSES[place] + 0.1 * seed,
                held_out_error=HELD_OUT_ERRORS[place],
            )
            runs.append(width_run(width, seed, fit, series))
    return runs


FEATURES = [
    FeatureFit(features, seed, train_error, test_error, 0.1, 10 * test_error)
    for seed in (1, 2)
    for features, train_error, test_error in (
        (50, 0.5, 0.6),
        (200, 0.0, 0.9),
        (2000, 0.0, 0.5),
    )
]


def report_of(runs: list[WidthRun], features: list[FeatureFit] = FEATURES) -> StudyReport:
    points = [study_point(run.name, run.parameters, 160_000, 5.0) for run in runs]
    trained = TrainedWidths(runs=runs, points=points, fitted_error=0.02)
    return width_report("made up", trained, features, TOTALS)


def test_what_is_seen_is_said_with_bands_and_seeds() -> None:
    report = report_of(made_up_runs())
    assert report.refusals == []
    assert report.statements == [
        "From width 32 on the training rows are fitted, wrong targets included: 3.2k parameters for "
        "1.6k targets, 20% of them wrong.",
        "Held-out loss: 5.15 [5.1, 5.2] at width 8, up to 9.15 [9.1, 9.2] at width 32, down to 8.15 "
        "[8.1, 8.2] at width 64. Where the other seeds have their peak and minima, 2 of 2 seeds rise and "
        "fall, and 0 end below the first minimum; chance alone, the values of each seed in random order, "
        "shows as clear a peak in about 1 of 5 cases. That is too often: the peak is not told from noise; "
        "add seeds. It still falls at the largest one.",
        "Held-out error has no peak inside: 0.95 [0.95, 0.95] at width 4, 0.88 [0.88, 0.88] at width "
        "64. No double descent is seen.",
        "Test error of random features: 0.6 [0.6, 0.6] at features 50, up to 0.9 [0.9, 0.9] at features "
        "200, down to 0.5 [0.5, 0.5] at features 2000. Where the other seeds have their peak and minima, "
        "2 of 2 seeds rise and fall, and 2 end below the first minimum; chance alone, the values of each "
        "seed in random order, shows as clear a peak in about 1 of 9 cases. That is too often: the peak is not "
        "told from noise; add seeds. The first minimum is at the smallest one: no first descent is seen. "
        "It still falls at the largest one.",
    ]


@pytest.mark.parametrize(
    ("seeds", "last", "verdict"),
    [
        (3, 0.0, "A peak and a second descent. That every seed ends below the first minimum happens in 1 "
         "of 8 cases where both minima are equal, so a double descent to below it is not told from "
         "noise; at least 5 seeds can tell."),
        (5, 0.0, "A double descent, the second one below the first."),
        (3, 2.0, "A peak and a second descent, which does not get below the first."),
    ],
)  # fmt: skip
def test_a_peak_that_chance_seldom_shows_is_told(seeds: int, last: float, verdict: str) -> None:
    """Held-out losses of 5, 4, 3, 9 and `last` more than 2."""
    losses = dict(zip(WIDTHS, (5.0, 4.0, 3.0, 9.0, 2.0 + last), strict=True))
    runs = [
        replace(run, fits=[replace(run.end, held_out_loss=losses[run.width] + 0.1 * run.seed)])
        for run in made_up_runs(seeds=tuple(range(1, seeds + 1)))
    ]
    assert verdict in report_of(runs).statements[1]


def test_the_figures_mark_the_threshold() -> None:
    figures = {figure.table.name: figure.table for figure in report_of(made_up_runs()).figures}
    assert list(figures) == [
        "loss_over_width",
        "error_over_width",
        "held_out_error_over_width",
        "gap_over_width",
        "loss_over_epochs",
        "error_over_epochs",
        "training_loss_over_epochs",
        "training_error_over_epochs",
        "random_features_error",
        "random_features_square",
    ]
    losses = figures["loss_over_width"]
    assert [point.x for point in losses.points_of("threshold")] == [32]
    assert losses.series_of("run") == ["training rows", "held-out text"]
    held_out = [point for point in losses.points if point.series == "held-out text"]
    assert [(point.x, point.low, point.high) for point in held_out][3] == (32, 9.1, 9.2)
    gaps = figures["gap_over_width"].points_of("run")
    assert gaps[0].y == pytest.approx(5.65 - 3.6)
    assert figures["loss_over_epochs"].series_of("run") == [f"width {width}" for width in WIDTHS]
    features = figures["random_features_error"]
    assert [point.x for point in features.points_of("threshold")] == [200]
    # Their contexts are all of the training text.
    assert features.series_of("run") == ["learned contexts", "other contexts"]
    assert figures["random_features_square"].series_of("run") == ["other contexts"]


def test_the_table_of_fits() -> None:
    (table,) = report_of(made_up_runs()).results
    head, rows = table.table
    first = dict(zip(head, rows[0], strict=True))
    assert (first["width"], first["N"], first["N / target"]) == ("4", "400", "0.25")
    assert (first["held-out loss"], first["gap"]) == ("5.650", "2.050")
    assert (first["lowest held-out loss"], first["after epochs"]) == ("4.900", "10")


def test_a_single_seed_has_no_band() -> None:
    report = report_of(made_up_runs(seeds=(1,)))
    assert report.refusals == [
        "a width has a single seed: there is no band, and whether a rise is more than chance cannot be "
        "told; add seeds"
    ]
    assert report.statements[1].endswith(
        "Fewer than two seeds were measured at all of them, so this may be chance. It still falls at the largest one."
    )
    (losses,) = (
        figure.table for figure in report.figures if figure.table.name == "loss_over_width"
    )
    assert all(point.low is None for point in losses.points)


def test_where_no_width_fits_its_rows_no_threshold_is_marked() -> None:
    runs = [run for run in made_up_runs() if run.width < 32]
    report = report_of(runs)
    assert report.refusals[0] == (
        "3 widths are done, and a curve that may fall, rise and fall again needs at least 5: train "
        "more widths"
    )
    assert report.refusals[1].startswith(
        "no width fits its training rows: the smallest training error is 20.0%, at width 16, and at "
        "most 2% counts"
    )
    assert not any(figure.table.points_of("threshold") for figure in report.figures[:8])
    assert not any(tile.name == "width that fits its rows" for tile in report.tiles)


def test_a_width_that_fits_alone_is_no_threshold() -> None:
    """The largest width, 64, has a training error of 41 %; 32 fits at 1 %."""
    runs = [
        replace(run, fits=[replace(run.end, sample_error=0.41)]) if run.width == 64 else run
        for run in made_up_runs()
    ]
    report = report_of(runs)
    assert report.refusals == [
        "width 32 fits its training rows, with an error of 1.0%, but the largest width, 64, does not, "
        "with 41.0%, and at most 2% counts (question.fitted_error), so no interpolation threshold is "
        "marked; make budgets.tokens larger, or settings.optimizer.peak_learning_rate smaller"
    ]
    assert not any(figure.table.points_of("threshold") for figure in report.figures[:8])
    assert not any("the training rows are fitted" in each for each in report.statements)


def test_a_peak_that_a_seed_lacks_is_not_told_from_noise() -> None:
    runs = [
        replace(run, fits=[replace(run.end, held_out_loss=9.3)])
        if (run.width, run.seed) == (64, 2)
        else run
        for run in made_up_runs()
    ]
    assert (
        "Not every seed shows the peak, so it is not told from noise."
        in (report_of(runs).statements[1])
    )


def test_label_noises_are_curves_of_their_own(tmp_path: Path) -> None:
    runs = [*made_up_runs(series="clean"), *made_up_runs(series="noisy")]
    report = report_of(runs)
    names = {figure.table.name: figure.table.series_of("run") for figure in report.figures}
    assert names["error_over_width"] == [
        "training rows, clean",
        "held-out text, clean",
        "training rows, noisy",
        "held-out text, noisy",
    ]
    assert report.statements[1].startswith("Held-out loss with clean: ")
    folder = StudyFolder(tmp_path)
    write_study_report(folder, report)
    assert folder.page.read_text().count("<figure>") == 10


def test_a_study_without_a_finished_run() -> None:
    point = replace(study_point("w4", 400, 160_000, None), left_out="at step 3 of 10")
    trained = TrainedWidths(runs=[], points=[point], fitted_error=0.02)
    report = width_report("made up", trained, [], TOTALS, ["random features: no tokens"])
    assert report.refusals == [
        "no finished run has measured its fit: set settings.data.small_sample, and let runs end",
        "random features: no tokens",
    ]
    assert report.figures == []
    assert report.runs.table[1][0][1] == "at step 3 of 10"
