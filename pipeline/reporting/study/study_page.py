"""Writes the page of a study, and each figure with its numbers beside it.

The page is one HTML file with inline SVG, without scripts or network requests. The same report
gives the same bytes. All text that comes from data is escaped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.reporting.milestones_page import PageTable
from pipeline.reporting.page import (
    escape,
    figure_in_two_layouts,
    figure_with_caption,
    html_table,
    link_to_file,
    note_below,
    section,
    whole_html,
)
from pipeline.reporting.study.table_drawing import FigureLook, draw_table, standalone_svg
from pipeline.store.files import write_atomic
from pipeline.store.studies.figure_table import FigureTable
from pipeline.store.studies.study_folder import StudyFolder


@dataclass(frozen=True)
class Tile:
    """One of the large figures at the top of the page."""

    value: str
    name: str
    detail: str


@dataclass(frozen=True)
class StudyFigure:
    """A figure with what is said below it."""

    table: FigureTable
    look: FigureLook
    caption: str


@dataclass(frozen=True)
class TitledTable:
    """A table with a heading and a line below it."""

    title: str
    table: PageTable
    text_columns: int
    """Columns that hold text, the first ones."""
    note: str


@dataclass(frozen=True)
class StudyReport:
    """All that the page of a study shows."""

    title: str
    line: str
    """One sentence on the study."""
    tiles: Sequence[Tile]
    refusals: Sequence[str]
    """Why there is no law, or not for each way of counting N, each reason with its remedy."""
    statements: Sequence[str]
    """What the laws say, a sentence each."""
    figures: Sequence[StudyFigure]
    numbers: Mapping[str, str]
    """Name -> CSV of numbers that belong to no single figure."""
    results: Sequence[TitledTable]
    """Tables of what was fitted or scored."""
    runs: TitledTable


def write_study_report(folder: StudyFolder, report: StudyReport) -> list[Path]:
    """Write figures, their numbers and the page; return their paths, the page last.

    Figures that an earlier report wrote and this one has not are deleted.
    """
    drawn = [(figure, _layouts(figure)) for figure in report.figures]
    folder.figures.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for figure, layouts in drawn:
        name = figure.table.name
        write_atomic(folder.figure(name), standalone_svg(layouts[0]))
        write_atomic(folder.figure_numbers(name), figure.table.csv_text())
        written += [folder.figure(name), folder.figure_numbers(name)]
    for name, text in report.numbers.items():
        write_atomic(folder.figure_numbers(name), text)
        written.append(folder.figure_numbers(name))
    for path in folder.figures.iterdir():
        if path not in written:
            path.unlink()
    write_atomic(folder.page, study_html(report, [layouts for _, layouts in drawn], folder))
    return [*written, folder.page]


def _layouts(figure: StudyFigure) -> list[str]:
    """Return a figure as SVG: a wide one also in a narrow layout, for phones."""
    drawn = [draw_table(figure.table, figure.look)]
    if figure.look.is_wide:
        drawn.append(draw_table(figure.table, replace(figure.look, is_wide=False)))
    return drawn


def study_html(report: StudyReport, drawn: Sequence[Sequence[str]], folder: StudyFolder) -> str:
    """Return the page; `drawn`: the layouts of each figure. Links go to files of the folder."""
    parts = [_header(report)]
    if report.refusals:
        lines = "".join(f"<li>{escape(reason)}</li>" for reason in report.refusals)
        parts.append(section("Not possible with these runs", f"<ul>{lines}</ul>"))
    if report.figures:
        parts.append(section("Figures", *_figures(report.figures, drawn, folder)))
    if report.statements:
        lines = "".join(f"<li>{escape(sentence)}</li>" for sentence in report.statements)
        parts.append(section("What the runs say", f"<ul>{lines}</ul>"))
    parts += [_table_section(table) for table in report.results]
    if report.numbers:
        parts.append(section("Further numbers", _further_numbers(report.numbers, folder)))
    points = _link(folder, folder.points, f"All of it: {folder.points.name}")
    parts.append(_table_section(report.runs, points))
    return whole_html(report.title, "\n".join(parts))


def _header(report: StudyReport) -> str:
    """Return title, line and tiles."""
    tiles = "".join(
        f"<div class=tile><b>{escape(tile.value)}</b><span>{escape(tile.name)}</span>"
        f"<small>{escape(tile.detail)}</small></div>"
        for tile in report.tiles
    )
    return (
        f"<header><h1>{escape(report.title)}</h1><p>{escape(report.line)}</p>"
        f"<div class=tiles>{tiles}</div></header>"
    )


def _link(folder: StudyFolder, path: Path, text: str) -> str:
    """Return a link from the page to a file of the study's folder."""
    return link_to_file(path.relative_to(folder.page.parent), text)


def _further_numbers(numbers: Mapping[str, str], folder: StudyFolder) -> str:
    """Return a list of links to the numbers that belong to no single figure."""
    paths = [folder.figure_numbers(name) for name in numbers]
    links = "".join(f"<li>{_link(folder, path, path.name)}</li>" for path in paths)
    return f"<ul>{links}</ul>"


def _figures(
    figures: Sequence[StudyFigure], drawn: Sequence[Sequence[str]], folder: StudyFolder
) -> list[str]:
    """Return wide figures each alone, and the narrow ones between them side by side."""
    parts: list[str] = []
    narrow: list[str] = []
    for figure, layouts in zip(figures, drawn, strict=True):
        numbers = folder.figure_numbers(figure.table.name)
        link = _link(folder, numbers, f"Numbers: {numbers.name}")
        if not figure.look.is_wide:
            narrow.append(figure_with_caption(layouts[0], figure.caption, link))
            continue
        parts += _pairs(narrow)
        on_screens, on_phones = layouts
        parts.append(figure_in_two_layouts(on_screens, on_phones, figure.caption, link))
        narrow = []
    return [*parts, *_pairs(narrow)]


def _pairs(figures: Sequence[str]) -> list[str]:
    """Return narrow figures side by side; nothing for none."""
    if not figures:
        return []
    return [f"<div class=pair>{''.join(figures)}</div>"]


def _table_section(titled: TitledTable, link: str = "") -> str:
    """Return a table with its note; `link`: HTML after the note."""
    table = html_table(*titled.table, text_columns=titled.text_columns)
    note = f"{escape(titled.note)} {link}".rstrip()
    return section(titled.title, table, note_below(note))
