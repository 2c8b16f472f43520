"""The report of a scaling study over a grid of a known law, fitted and refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_up_study import LAW, SIZES, grid_points, left_out

from pipeline.cli.study.report_view import fits_of_points
from pipeline.cli.study.scaling_report import scaling_report
from pipeline.cli.study.study_totals import StudyTotals
from pipeline.planning.study.points import StudyPoint, write_points
from pipeline.reporting.study.study_page import StudyReport, write_study_report
from pipeline.store.studies.study_folder import StudyFolder

TOTALS = StudyTotals(
    done=20,
    planned=21,
    flops=2.2e13,
    device_hours=1.5,
    device_hours_name="device-hours",
    not_begun=["w64"],
)
RESAMPLES = 20
"""The grid has no noise, so that all resamples give one law."""


def report_of(folder: StudyFolder, points: list[StudyPoint]) -> StudyReport:
    """Write points and fits, and return the report."""
    write_points(folder, points)
    selection, summaries = fits_of_points(folder, RESAMPLES)
    return scaling_report("made up", points, selection, summaries, TOTALS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return StudyFolder(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def report(folder: StudyFolder) -> StudyReport:
    points = grid_points()
    points[16] = left_out(points[16], "rolled back 1 time")
    points[17] = replace(points[17], steps=150)
    return report_of(folder, points)


def test_the_law_of_the_grid_is_in_the_table_once_for_equal_ways_of_counting(
    report: StudyReport,
) -> None:
    titles = [table.title for table in report.results]
    count = "all parameters = parameters without embeddings = parameters that multiply"
    assert titles == [f"Law with N = {count}", f"Best division of a compute, N = {count}"]
    for law in report.results[::2]:
        rows = {row[0].partition(":")[0]: row[1:] for row in law.table[1]}
        assert rows["E"] == ["1.5", "[1.5, 1.5]", "yes"]
        assert rows["A"] == ["30", "[30, 30]", "yes"]
        assert rows["alpha"] == ["0.4", "[0.4, 0.4]", "yes"]
        assert rows["B"] == ["120", "[120, 120]", "yes"]
        assert rows["beta"] == ["0.3", "[0.3, 0.3]", "yes"]
        assert rows["a"] == ["0.42857", "[0.4286, 0.4286]", "yes"]


def test_the_best_division_of_a_compute_is_that_of_the_law(report: StudyReport) -> None:
    rows = {row[0]: row for row in report.results[1].table[1]}
    row = rows["1e12"]
    best = LAW.optimal_parameters(1e12)
    assert row[1] == f"{best:.3e}".replace("e+0", "e")
    assert row[5] == f"{LAW.optimal_tokens(1e12) / best:.3g}"
    assert row[6] == f"{LAW.optimal_loss(1e12):.5g}"
    assert "1e13 *" in rows


def test_all_runs_are_listed_with_the_reason_why_fits_leave_them_out(
    report: StudyReport,
) -> None:
    rows = report.runs.table[1]
    assert len(rows) == 21
    assert [row[1] for row in rows[16:19]] == [
        "rolled back 1 time",
        "150 steps, fewer than 200",
        "",
    ]
    assert rows[-1][:2] == ["w64", "not begun"]
    assert [(tile.value, tile.detail) for tile in report.tiles] == [
        ("20 of 21", "18 used by fits"),
        ("2.2e13", "6 N + 12 L d T a token; runs done, trunks once"),
        ("1.5", "all runs, begun ones too"),
        ("1.500", "[1.5, 1.5]"),
        ("0.429", "[0.4286, 0.4286]"),
    ]


def test_the_figures_have_captions_that_say_what_is_known(report: StudyReport) -> None:
    captions = {figure.table.name: figure.caption for figure in report.figures}
    assert list(captions) == [
        "loss_over_compute",
        "isoflop",
        "optimal_parameters",
        "optimal_tokens",
        "residuals",
        "loss_beside_published",
    ]
    assert "Its slope a is identified." in captions["optimal_parameters"]
    assert "ot identified" not in captions["loss_over_compute"]
    assert "attention" not in captions["loss_over_compute"]
    assert "arXiv:2203.15556" in captions["optimal_parameters"]
    (law,) = {row[1] for row in report.results[0].table[1] if row[0].startswith("a:")}
    assert all(f"N_opt grows as C^{float(law):.3f}" in line for line in report.statements)


def test_the_page_and_its_files_are_written(folder: StudyFolder, report: StudyReport) -> None:
    write_study_report(folder, report)
    assert folder.page.is_file()
    assert json.loads(folder.fits.read_text())["points_used"][0] == "n2000-c1e11-s1"
    assert len(list(folder.figures.iterdir())) == 12


def test_a_study_that_allows_no_fit_has_a_page_with_the_points_and_the_reasons(
    tmp_path: Path,
) -> None:
    folder = StudyFolder(tmp_path)
    folder.fits.write_text("{}")
    points = [point for point in grid_points() if point.parameters_total in SIZES[:3]]
    report = report_of(folder, points)
    assert report.refusals[0] == "3 sizes are left, at least 4 are needed: train more sizes"
    assert not folder.fits.exists(), "a fit of other points"
    assert report.results == []
    assert len(report.runs.table[1]) == 13
    captions = {figure.table.name: figure.caption for figure in report.figures}
    assert "No law is drawn, because none was fitted." in captions["loss_over_compute"]
    write_study_report(folder, report)
    assert report.refusals[0] in folder.page.read_text()


def test_a_reason_for_one_way_of_counting_names_it(tmp_path: Path) -> None:
    points = [replace(point, parameters_non_embedding=500) for point in grid_points()]
    report = report_of(StudyFolder(tmp_path), points)
    assert report.refusals[0] == (
        "with N = parameters without embeddings: 1 sizes are left, at least 4 are needed: train "
        "more sizes"
    )
    assert len(report.results) == 2, "the other two ways are equal"


def test_what_noise_leaves_open_is_said(tmp_path: Path) -> None:
    noise = (0.03, -0.02, 0.01, -0.04, 0.0, 0.02, -0.01)
    points = [replace(point, flops=1.25 * point.flops) for point in grid_points(noise)]
    report = report_of(StudyFolder(tmp_path), points)
    rows = {row[0]: row for row in report.results[0].table[1]}
    assert rows["E: irreducible loss"][3] == "not identified: wider than 10 %"
    captions = {figure.table.name: figure.caption for figure in report.figures}
    assert "Not identified by these runs: E" in captions["loss_over_compute"]
    assert "6 N D, which is 80% to 80% of the runs' own FLOPs" in captions["loss_over_compute"]
    irreducible = next(tile for tile in report.tiles if tile.name.startswith("E,"))
    assert irreducible.detail.startswith("not identified, [")
