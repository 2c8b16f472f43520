"""The page of a study: its files, its parts, and text that is escaped."""

import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest
from html_outline import Outline

from pipeline.reporting.page import WIDEST_ON_PHONES, svg_width
from pipeline.reporting.study.study_page import (
    StudyFigure,
    StudyReport,
    Tile,
    TitledTable,
    write_study_report,
)
from pipeline.reporting.study.table_drawing import FigureLook
from pipeline.store.studies.figure_table import FigurePoint, FigureTable
from pipeline.store.studies.study_folder import StudyFolder


def figure(name: str, *, is_wide: bool) -> StudyFigure:
    points = [FigurePoint("run", "N = 1k", 1e11, 3.5), FigurePoint("run", "N = 1k", 1e12, 3.0)]
    return StudyFigure(
        FigureTable(name, "flops", "nats", points),
        FigureLook("compute", "loss", is_wide=is_wide),
        f"Caption of <i>{name}.",
    )


REPORT = StudyReport(
    title="a <b>study",
    line="Loss over <i>compute.",
    tiles=[Tile("3 of 4", "runs <i>done", "2 used")],
    refusals=["3 sizes <i>are left"],
    statements=["N_opt grows <i>somehow"],
    figures=[figure("one", is_wide=True), *(figure(n, is_wide=False) for n in ("two", "three"))],
    numbers={"scores": "name,score\n"},
    results=[TitledTable("Law", (["number", "fit"], [["E <i>", "1.8"]]), 1, "A <i>note.")],
    runs=TitledTable("Runs", (["run", "left out"], [["<i>a", "rolled <i>back"]]), 2, "All runs."),
)


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path)


def test_every_figure_stands_with_its_numbers_and_none_of_an_earlier_report_is_left(
    folder: StudyFolder,
) -> None:
    folder.figures.mkdir()
    folder.figure("older").write_text("<svg/>")
    written = write_study_report(folder, REPORT)
    names = ["one.csv", "one.svg", "scores.csv", "three.csv", "three.svg", "two.csv", "two.svg"]
    assert sorted(path.name for path in folder.figures.iterdir()) == names
    assert sorted(path.name for path in written) == [*names[:3], "study.html", *names[3:]]
    assert folder.figure_numbers("one").read_text() == REPORT.figures[0].table.csv_text()
    assert folder.figure_numbers("scores").read_text() == "name,score\n"
    assert folder.figure("one").read_text().startswith("<svg xmlns=")


def test_the_page_is_whole_and_escapes_all_text(folder: StudyFolder) -> None:
    write_study_report(folder, REPORT)
    page = folder.page.read_text()
    outline = Outline(page)
    assert outline.open == []
    assert outline.headings == [
        "Not possible with these runs",
        "Figures",
        "What the runs say",
        "Law",
        "Further numbers",
        "Runs",
    ]
    assert outline.pictures == 3
    assert "<i>" not in page
    assert "<b>study" not in page
    for text in ("3 sizes &lt;i&gt;are left", "rolled &lt;i&gt;back", "Caption of &lt;i&gt;one."):
        assert text in page


def test_the_page_links_to_all_numbers(folder: StudyFolder) -> None:
    """The links are relative: they hold wherever the study's folder is moved."""
    folder.points.write_text("")
    odd = {'scores of <a> & "b"?': "name,score\n"}
    written = write_study_report(folder, replace(REPORT, numbers={**REPORT.numbers, **odd}))
    links = re.findall(r'<a href="([^"]*)">', folder.page.read_text())
    linked = [folder.page.parent / unquote(unescape(link)) for link in links]
    numbers = {path for path in written if path.suffix == ".csv"}
    assert {*linked} == {*numbers, folder.points}
    assert all(path.is_file() for path in linked)
    assert links[0] == "figures/one.csv"


def test_the_page_asks_no_network_and_runs_no_script(folder: StudyFolder) -> None:
    write_study_report(folder, REPORT)
    page = folder.page.read_text()
    assert "http" not in page
    assert "<script" not in page
    assert "@import" not in page
    assert "url(" not in page.replace("url(#", "")


def test_wide_figures_are_narrow_on_a_phone_and_narrow_ones_stand_in_pairs(
    folder: StudyFolder,
) -> None:
    """On a phone nothing is scrolled: the legend of a wide figure would be out of sight."""
    write_study_report(folder, REPORT)
    page = folder.page.read_text()
    assert "<div class=wide>" not in page
    wide = page[page.index("<div class=on-screens>") + 22 :]
    narrow = page[page.index("<div class=on-phones>") + 21 :]
    assert svg_width(wide) > WIDEST_ON_PHONES >= svg_width(narrow)
    assert page.count("<div class=small>") == 2
    assert page.count("<div class=pair>") == 1


def test_the_same_report_gives_the_same_bytes(folder: StudyFolder) -> None:
    written = write_study_report(folder, REPORT)
    before = [path.read_bytes() for path in written]
    assert [path.read_bytes() for path in write_study_report(folder, REPORT)] == before


def test_what_is_empty_has_no_section(folder: StudyFolder) -> None:
    empty = replace(REPORT, refusals=[], statements=[], figures=[], numbers={}, results=[])
    write_study_report(folder, empty)
    assert Outline(folder.page.read_text()).headings == ["Runs"]
    assert list(folder.figures.iterdir()) == []
