"""The page of `pipeline plan --published`: compute of milestone runs over years, and their table.

Reads and writes nothing; asks no network and runs no script.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pipeline.reporting.figures import COLOURS, GREY, STYLE, canvas, svg_of
from pipeline.reporting.label_places import Box, LabelledPoint, place_labels
from pipeline.reporting.page import Cell, figure_with_caption, html_table, section, whole_html

LABEL_POINTS = 7.0
"""Font size of the labels."""
PLANNED_LABEL_POINTS = 10.0
MARKER_POINTS = 4.5
"""Width of a published point."""
STAR_POINTS = 17.0
LINE_HEIGHT = 1.25
"""Height of a line in a browser over that which matplotlib measures."""
CAPTION = (
    "Training compute of published runs over the time of publication, on a logarithmic axis. A "
    "circle is counted as 6 N D or from multiply-adds, a ring is printed by the authors or "
    "estimated by others. Points without room for a name are in the table. On a narrow screen, "
    "scroll the figure to the right for the newest runs."
)
PLANNED_CAPTION = (
    " The star, at the right end, is the planned run, counted as 6 N D like the published ones."
)


PageTable: TypeAlias = tuple[Sequence[str], Sequence[Sequence[Cell]]]
"""Headings and rows."""


@dataclass(frozen=True)
class Milestone:
    """A run in the figure."""

    name: str
    time: float
    """Year, with fractions."""
    flops: float
    is_counted: bool
    """Whether its FLOPs are counted from its size, and not printed or estimated."""
    is_landmark: bool = False
    """Whether its name is written before those of larger runs."""


def milestones_page(
    points: Sequence[Milestone],
    planned: Milestone | None,
    figures: PageTable,
    sources: PageTable,
) -> str:
    """Return the page as HTML.

    `figures`: its first column is text. `sources`: all columns are.
    """
    caption = CAPTION
    if planned is not None:
        caption += PLANNED_CAPTION
    title = "Published training runs"
    parts = [
        f"<header><h1>{title}</h1><p>compute, hours and where the figures are from</p></header>",
        section(
            "Compute over years",
            figure_with_caption(compute_over_years(points, planned), caption),
        ),
        section("Runs", html_table(*figures)),
        section("Where the figures are from", html_table(*sources, text_columns=len(sources[0]))),
    ]
    return whole_html(title, "\n".join(parts))


def compute_over_years(points: Sequence[Milestone], planned: Milestone | None) -> str:
    """Draw FLOPs over time: published runs in grey, the planned one as a star."""
    with mpl.rc_context(STYLE):
        figure, axes = canvas(9.0)
        _draw_points(axes, points)
        if planned is not None:
            axes.plot(planned.time, planned.flops, "*", color=COLOURS[1], markersize=STAR_POINTS)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(_power_of_ten))
        axes.set_ylabel("training FLOPs")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.07, y=0.06)
        _draw_labels(figure, axes, points, planned)
        return svg_of(figure)


def _power_of_ten(value: float, _position: int) -> str:
    return f"{value:.0e}".replace("e+", "e")


def _draw_points(axes: Axes, points: Sequence[Milestone]) -> None:
    """Draw published runs: filled where FLOPs are counted, else as rings."""
    for is_counted, fill in ((True, GREY), (False, "none")):
        drawn = [point for point in points if point.is_counted == is_counted]
        axes.plot(
            [point.time for point in drawn],
            [point.flops for point in drawn],
            "o",
            color=GREY,
            markerfacecolor=fill,
            markersize=MARKER_POINTS,
        )


def _draw_labels(
    figure: Figure, axes: Axes, points: Sequence[Milestone], planned: Milestone | None
) -> None:
    """Write names where there is room: the planned run's, landmarks', then from the largest down."""
    # Places and sizes are known in pixels once the layout is.
    figure.draw_without_rendering()
    in_order = sorted(points, key=lambda point: (not point.is_landmark, -point.flops))
    if planned is not None:
        in_order.insert(0, planned)
    pixels_per_point = figure.dpi / 72
    measured: list[LabelledPoint] = []
    for point in in_order:
        x, y = axes.transData.transform((point.time, point.flops))
        width, height = _text_size(axes, point.name, _label_points(point, planned))
        radius = MARKER_POINTS / 2 + 1
        if point is planned:
            radius = STAR_POINTS / 2
        measured.append(LabelledPoint(float(x), float(y), radius * pixels_per_point, width, height))

    # Write the names that have room.
    box = axes.get_window_extent()
    bounds = Box(box.x0, box.y0, box.x1, box.y1)
    for point, place in zip(in_order, place_labels(measured, bounds), strict=True):
        if place is None:
            continue
        x, y = axes.transData.inverted().transform((place.left, (place.bottom + place.top) / 2))
        axes.text(
            float(x),
            float(y),
            point.name,
            va="center",
            ha="left",
            fontsize=_label_points(point, planned),
            color="#111111" if point is planned else GREY,
        )


def _label_points(point: Milestone, planned: Milestone | None) -> float:
    """Return the font size of a point's label."""
    if point is planned:
        return PLANNED_LABEL_POINTS
    return LABEL_POINTS


def _text_size(axes: Axes, text: str, points: float) -> tuple[float, float]:
    """Return width and height of a text in pixels."""
    drawn = axes.text(0.5, 0.5, text, fontsize=points, transform=axes.transAxes)
    box = drawn.get_window_extent()
    drawn.remove()
    return box.width, box.height * LINE_HEIGHT
