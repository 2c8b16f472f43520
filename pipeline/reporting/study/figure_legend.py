"""The legend of a study's figure: an entry for each curve of runs, then for each kind of mark."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.reporting.figures import GREY
from pipeline.store.studies.figure_table import FigureTable, Role

INK = "#111111"
"""Becomes the colour of the page's text."""
DASHES = ("-", "--", ":", "-.")
"""Published curves, one after the other."""
THRESHOLD_DASHES = (":", "-.", "--")
"""Lines at thresholds, one after the other."""
FONT_POINTS = 8.5
LETTERS_OF_A_ROW = 56
"""Letters that a row of a legend below narrow axes has room for."""
LETTERS_OF_A_MARK = 7
"""Room that the mark of an entry and the gap after it take, in letters."""
MOST_COLUMNS = 4
ROWS_OF_A_NARROW_FIGURE = 4
"""Rows of a legend below narrow axes that a figure has room for."""
HEIGHT_OF_A_ROW = 0.18
"""Inches of a further row."""
MOST_ROWS = 18
"""Rows of a legend on the right."""


@dataclass(frozen=True)
class SingleMark:
    """The mark of points that stand alone."""

    label: str
    look: Mapping[str, Any] = field(default_factory=dict)
    """Settings of a matplotlib line."""


MARKS: dict[Role, SingleMark] = {
    "vertex": SingleMark(
        "minimum of the parabola",
        {
            "marker": "D",
            "markerfacecolor": "none",
            "markersize": 8,
            "markeredgewidth": 1.3,
            "linestyle": "none",
        },
    ),
    "optimum": SingleMark(
        "optimum by the fit",
        {"marker": "*", "markersize": 13, "markeredgewidth": 0, "linestyle": "none"},
    ),
}


def draw_legend(
    figure: Figure,
    axes: Axes,
    table: FigureTable,
    colours: Mapping[str, str],
    are_runs_joined: bool,
    *,
    is_beside: bool,
) -> None:
    """Draw the legend on the right of the axes, or below them, where the figure grows with it.

    `colours`: curve of runs -> colour.
    """
    handles = [
        *_runs(table, colours, are_runs_joined),
        *_laws(table),
        *_published(table),
    ]
    if is_beside:
        axes.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(1.01, 1.02),
            borderaxespad=0,
            fontsize=FONT_POINTS,
            ncols=-(-len(handles) // MOST_ROWS),
        )
        return
    columns = _columns_that_fit(handles)
    figure.legend(handles=handles, loc="outside lower left", fontsize=FONT_POINTS, ncols=columns)
    # A long legend makes the figure higher, and not its axes lower.
    more_rows = math.ceil(len(handles) / columns) - ROWS_OF_A_NARROW_FIGURE
    height = figure.get_figheight()
    figure.set_figheight(height + max(0, more_rows) * HEIGHT_OF_A_ROW)


def _runs(table: FigureTable, colours: Mapping[str, str], are_runs_joined: bool) -> list[Line2D]:
    """Return the entries of the runs, and of those that no fit uses."""
    line = "none"
    if are_runs_joined:
        line = "-"
    handles = [
        Line2D([], [], color=colour, marker="o", markersize=4.5, linestyle=line, label=series)
        for series, colour in colours.items()
    ]
    handles += [
        Line2D([], [], color=GREY, marker="x", markersize=6, linestyle="none", label=series)
        for series in table.series_of("left out")
    ]
    return handles


def _laws(table: FigureTable) -> list[Line2D]:
    """Return the entries of fitted laws, parabolas and single marks."""
    handles = [
        Line2D([], [], color=INK, label=f"{series}, 95 % band") for series in table.series_of("fit")
    ]
    if table.points_of("beyond"):
        handles.append(Line2D([], [], color=INK, linestyle="--", label="beyond the runs"))
    if table.points_of("parabola"):
        handles.append(Line2D([], [], color=GREY, linewidth=1.0, label="parabola"))
    handles += [
        Line2D([], [], color=GREY, label=mark.label, **mark.look)
        for role, mark in MARKS.items()
        if table.points_of(role)
    ]
    return handles


def _published(table: FigureTable) -> list[Line2D]:
    """Return the entries of what others have published, of chance, the ideal and thresholds."""
    handles: list[Line2D] = []
    series_of_points = [point.series for point in table.points_of("published")]
    for number, series in enumerate(table.series_of("published")):
        handle = Line2D([], [], color=GREY, linewidth=1.2, label=series)
        handle.set_linestyle(DASHES[number % len(DASHES)])
        if series_of_points.count(series) == 1:
            handle.set(linestyle="none", marker="s", markersize=4)
        handles.append(handle)
    handles += [
        Line2D([], [], color=INK, linestyle="--", linewidth=1.0, label=series)
        for series in table.series_of("chance")
    ]
    handles += [
        Line2D([], [], color=INK, linestyle=":", label=series)
        for series in table.series_of("ideal")
    ]
    handles += [
        Line2D([], [], color=INK, linestyle="-.", linewidth=0.9, label=series)
        for series in table.series_of("target")
    ]
    for number, series in enumerate(table.series_of("threshold")):
        dashes = THRESHOLD_DASHES[number % len(THRESHOLD_DASHES)]
        handles.append(Line2D([], [], color=INK, linestyle=dashes, linewidth=1.0, label=series))
    return handles


def _columns_that_fit(handles: Sequence[Line2D]) -> int:
    """Return how many columns a legend below narrow axes has room for."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    return max(1, min(MOST_COLUMNS, LETTERS_OF_A_ROW // (longest + LETTERS_OF_A_MARK)))
