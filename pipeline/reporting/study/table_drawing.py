"""Draws the table of a figure as SVG: each role of a point has its own mark.

The same numbers give the same bytes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogFormatter, LogLocator, MaxNLocator

from pipeline.logs import scientific, short
from pipeline.reporting.figures import COLOURS, GREY, STYLE, canvas, svg_of
from pipeline.reporting.study.figure_legend import (
    DASHES,
    INK,
    MARKS,
    THRESHOLD_DASHES,
    draw_legend,
)
from pipeline.reporting.tick_labels import thin_x_labels
from pipeline.store.studies.figure_table import FigurePoint, FigureTable, Role

SVG_NAME_SPACE = "http://www.w3.org/2000/svg"
MARGIN = 0.06
"""Room beside the outermost values, as a share of their range. A band may leave the frame."""
FRAMED: tuple[Role, ...] = ("run", "left out", "fit", "beyond", "published", "chance", "ideal")
"""Roles whose values the frame holds; a single optimum far outside does not widen it."""


@dataclass(frozen=True)
class FigureLook:
    """How the table of one figure is drawn."""

    x_label: str
    y_label: str
    x_scale: Literal["linear", "log", "devices", "examples"] = "log"
    """devices: logarithmic, with ticks at powers of two. examples: numbers of examples, 0 among them,
    each with a tick."""
    is_y_logarithmic: bool = False
    is_x_compute: bool = False
    """Whether ticks are powers of ten, and not 1k, 1M, 1B."""
    least_y_range: float = 0.0
    """Range of the y axis where the values have a smaller one."""
    has_zero_line: bool = False
    are_runs_joined: bool = True
    """Whether a line joins the runs of a curve."""
    is_cut_at_chance: bool = False
    """Whether runs above what guessing gives are outside the frame, and marked at its upper edge."""
    is_wide: bool = False
    """Whether the figure takes the page's width, its legend on the right. Others are narrow enough for a
    phone, with the legend below."""


def draw_table(table: FigureTable, look: FigureLook) -> str:
    """Return a figure as an SVG element."""
    with mpl.rc_context(STYLE):
        if look.is_wide:
            figure, axes = canvas(4.2)
        else:
            figure, axes = canvas(3.9, 4.7)
        _scale_axes(axes, table, look)

        # What others have published lies below the study's own.
        colours = _colours(table)
        _draw_published(axes, table)
        _draw_laws(axes, table, colours)
        _draw_runs(axes, table, colours, look)
        _draw_above_the_frame(axes, table, colours, look)

        if look.has_zero_line:
            axes.axhline(0, color=INK, linewidth=1.0)
        draw_legend(figure, axes, table, colours, look.are_runs_joined, is_beside=look.is_wide)
        thin_x_labels(figure, axes)
        return svg_of(figure)


def standalone_svg(svg: str) -> str:
    """Return an SVG element of a page as a file of its own: with the name space that files need."""
    return svg.replace("<svg ", f'<svg xmlns="{SVG_NAME_SPACE}" ', 1)


def _colours(table: FigureTable) -> dict[str, str]:
    """Return series of runs -> colour; parabolas and optima take those of their runs."""
    names = table.series_of("run")
    return {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}


def _draw_published(axes: Axes, table: FigureTable) -> None:
    """Draw published curves in grey and single published points as squares; chance, the ideal."""
    for number, series in enumerate(table.series_of("published")):
        points = _of_series(table, series, "published")
        axes.plot(
            [point.x for point in points],
            [point.y for point in points],
            DASHES[number % len(DASHES)],
            marker="s" if len(points) == 1 else None,
            markersize=4,
            color=GREY,
            linewidth=1.2,
        )
    ideal = table.points_of("ideal")
    axes.plot([point.x for point in ideal], [point.y for point in ideal], ":", color=INK)
    for point in table.points_of("chance"):
        axes.axhline(point.y, color=INK, linestyle="--", linewidth=1.0)
    for point in table.points_of("target"):
        axes.axhline(point.y, color=INK, linestyle="-.", linewidth=0.9)
    for number, point in enumerate(table.points_of("threshold")):
        dashes = THRESHOLD_DASHES[number % len(THRESHOLD_DASHES)]
        axes.axvline(point.x, color=INK, linestyle=dashes, linewidth=1.0)


def _draw_laws(axes: Axes, table: FigureTable, colours: dict[str, str]) -> None:
    """Draw the fit with its band, dashed beyond its runs, and parabolas with their minima."""
    dashes_of_parts: tuple[tuple[Role, str], ...] = (("fit", "-"), ("beyond", "--"))
    for role, dashes in dashes_of_parts:
        points = table.points_of(role)
        x = [point.x for point in points]
        lows = [_low(point) for point in points]
        highs = [_high(point) for point in points]
        axes.fill_between(x, lows, highs, color=GREY, alpha=0.28, linewidth=0)
        axes.plot(x, [point.y for point in points], dashes, color=INK, linewidth=1.5)
    for series in table.series_of("parabola"):
        points = _of_series(table, series, "parabola")
        x = [point.x for point in points]
        axes.plot(x, [point.y for point in points], color=colours[series], linewidth=1.0)
    for role, mark in MARKS.items():
        for point in table.points_of(role):
            axes.plot(point.x, point.y, color=colours.get(point.series, INK), **mark.look)


def _draw_runs(axes: Axes, table: FigureTable, colours: dict[str, str], look: FigureLook) -> None:
    """Draw the runs, a colour a curve, and those that no fit uses as grey crosses."""
    line = "none"
    if look.are_runs_joined:
        line = "-"
    for series, colour in colours.items():
        points = _of_series(table, series, "run")
        below = [point.y - _low(point) for point in points]
        above = [_high(point) - point.y for point in points]
        axes.errorbar(
            [point.x for point in points],
            [point.y for point in points],
            yerr=[below, above],
            fmt="o",
            linestyle=line,
            color=colour,
            linewidth=1.2,
            markersize=4.5,
            capsize=2,
            elinewidth=1.0,
        )
    left_out = table.points_of("left out")
    x = [point.x for point in left_out]
    axes.plot(x, [point.y for point in left_out], "x", color=GREY, markersize=6)


def _draw_above_the_frame(
    axes: Axes, table: FigureTable, colours: dict[str, str], look: FigureLook
) -> None:
    """Mark runs above the frame by triangles at its upper edge."""
    ceiling = _ceiling(table, look)
    _, top = axes.get_ylim()
    for point in table.points_of("run"):
        if point.y > ceiling:
            for line in axes.plot(point.x, top, "^", color=colours[point.series], markersize=7):
                # The layout makes no room for what stands on the edge.
                line.set_clip_on(False)
                line.set_in_layout(False)


def _ceiling(table: FigureTable, look: FigureLook) -> float:
    """Return the y above which runs are outside the frame; infinity where all are inside."""
    lines = [point.y for point in table.points_of("chance")]
    if not look.is_cut_at_chance or not lines:
        return math.inf
    return max(lines)


def _of_series(table: FigureTable, series: str, role: Role) -> list[FigurePoint]:
    return [point for point in table.points_of(role) if point.series == series]


def _low(point: FigurePoint) -> float:
    if point.low is None:
        return point.y
    return point.low


def _high(point: FigurePoint) -> float:
    if point.high is None:
        return point.y
    return point.high


class _ShortTicks(LogFormatter):
    """Writes the ticks that matplotlib would label: 200,000 as 200k, a compute as 2e11."""

    def __init__(self, *, is_compute: bool) -> None:
        super().__init__(minor_thresholds=(1.0, 0.5))
        self.is_compute = is_compute

    def __call__(self, x: float, pos: int | None = None) -> str:
        if not super().__call__(x, pos):
            return ""
        if self.is_compute:
            return scientific(x)
        return short(x)


def _scale_axes(axes: Axes, table: FigureTable, look: FigureLook) -> None:
    """Set the scales, ranges, names and ticks of both axes."""
    axes.set_xlabel(look.x_label)
    axes.set_ylabel(look.y_label)
    framed = table.points_of(*FRAMED)

    # The x axis.
    if look.x_scale in ("log", "devices"):
        axes.set_xscale("log")
        axes.set_xlim(_range([point.x for point in framed], is_logarithmic=True))
    if look.x_scale == "devices":
        axes.xaxis.set_major_locator(LogLocator(base=2, numticks=9))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.minorticks_off()
    elif look.x_scale == "log":
        axes.xaxis.set_major_locator(LogLocator(numticks=9))
        axes.xaxis.set_major_formatter(_ShortTicks(is_compute=look.is_x_compute))
        axes.xaxis.set_minor_formatter(_ShortTicks(is_compute=look.is_x_compute))
    elif look.x_scale == "examples":
        axes.set_xscale("symlog", linthresh=1)
        places = sorted({point.x for point in table.points_of("run", "published")})
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.minorticks_off()

    # The y axis.
    ceiling = _ceiling(table, look)
    heights = [point.y for point in framed if point.role != "run"]
    # The error bars of runs are whole; the band of a law may be wider than anything else.
    for point in table.points_of("run"):
        heights += [min(height, ceiling) for height in (_low(point), point.y, _high(point))]
    low, high = _range(heights, look.is_y_logarithmic)
    widening = max(0.0, look.least_y_range - (high - low)) / 2
    if look.is_y_logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(_ShortTicks(is_compute=False))
        axes.yaxis.set_minor_formatter(_ShortTicks(is_compute=False))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(7))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    axes.set_ylim(low - widening, high + widening)


def _range(values: Sequence[float], is_logarithmic: bool) -> tuple[float, float]:
    """Return the range of an axis that holds values with a margin on both sides."""
    if is_logarithmic:
        low, high = _range([math.log(value) for value in values], is_logarithmic=False)
        return math.exp(low), math.exp(high)
    margin = MARGIN * (max(values) - min(values))
    if margin == 0:
        margin = 0.5
    return min(values) - margin, max(values) + margin
