"""The page of `pipeline inspect --signals`: how each signal is distributed, and where rules cut.

Reads and writes nothing; asks no network and runs no script.
"""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from pipeline.corpus.distributions.signal_values import Cut, SourceValues, quantiles
from pipeline.corpus.selecting.rule_values import COMPARE
from pipeline.logs import short
from pipeline.reporting.figures import COLOURS, GREY, STYLE, canvas, svg_of
from pipeline.reporting.page import (
    Cell,
    escape,
    figure_with_caption,
    html_table,
    section,
    whole_html,
)

SHARES = (0.01, 0.1, 0.5, 0.9, 0.99)
"""Quantiles in the tables."""
EDGES = (0.005, 0.995)
"""Quantiles between which a histogram lies; what is beyond counts in its first and last bar."""
BINS = 40
EDGE_ROOM = 0.03
"""Room beyond the largest value, as a share of the axis, where there are cuts."""
WIDE_RATIO = 200.0
"""Ratio of the largest to the smallest value above which the axis is logarithmic."""
CAPTION = (
    "Share of the documents of each source by value, in bars of equal width (of equal ratio where the "
    "axis is logarithmic). Values beyond the quantiles of 0.5 % and 99.5 % count in the first and last "
    "bar. Dashed lines are rules of select; shaded is what they remove."
)


def signals_page(found: Sequence[SourceValues], cuts: Sequence[Cut]) -> str:
    """Return the page as HTML: a figure and a table for each signal."""
    names = dict.fromkeys(name for each in found for name in each.values)
    read = ", ".join(
        f"{each.source}: {len(each.ids):,} of {each.documents:,} documents" for each in found
    )
    parts = [
        f"<header><h1>Signals of documents</h1><p>{escape(read)}</p></header>",
        f"<p class=note>{escape(CAPTION)}</p>",
        *(_signal(name, found, cuts) for name in names),
    ]
    return whole_html("Signals of documents", "\n".join(parts))


def _signal(name: str, found: Sequence[SourceValues], cuts: Sequence[Cut]) -> str:
    """Return the section of one signal."""
    own = [cut for cut in cuts if cut.comparison.left == name]
    rules = "; ".join(f"{cut.rule}: {cut.comparison.text}" for cut in own) or "no rule"
    drawn = [each for each in found if np.isfinite(each.values[name]).any()]
    parts: list[str] = []
    if drawn:
        parts.append(
            f"<div class=narrow>{figure_with_caption(histogram(name, drawn, own), rules)}</div>"
        )
    head = ["source", "undefined", *(f"{share:.0%}" for share in SHARES)]
    head += [f"removed by {cut.rule}" for cut in own]
    rows = [_row(name, each, own) for each in found]
    return section(name, *parts, html_table(head, rows))


def _row(name: str, found: SourceValues, cuts: Sequence[Cut]) -> list[Cell]:
    values = found.values[name]
    at = ["" if each is None else f"{each:.4g}" for each in quantiles(values, SHARES)]
    removed = [f"{removed_share(values, cut):.1%}" for cut in cuts]
    return [found.source, f"{np.isnan(values).mean():.1%}", *at, *removed]


def removed_share(values: np.ndarray, cut: Cut) -> float:
    """Return the share of documents that a rule removes; an undefined value passes no rule."""
    value = cut.comparison.value
    assert not isinstance(value, str), "cuts are of numbers"
    passes = COMPARE[cut.comparison.operator](values, value) & ~np.isnan(values)
    return float((~passes).mean())


def histogram(name: str, found: Sequence[SourceValues], cuts: Sequence[Cut]) -> str:
    """Draw the distribution of a signal in each source, with the cuts; returns SVG."""
    every = np.concatenate([each.values[name] for each in found])
    every = every[np.isfinite(every)]
    low, high = np.quantile(every, EDGES)
    limits = [float(cut.comparison.value) for cut in cuts if _is_near(cut, low, high)]
    low = min([low, *limits])
    high = max([high, *limits])
    if limits and low < high:
        # A cut at the edge is seen with what lies behind it.
        high += EDGE_ROOM * (high - low)
    if low == high:
        low -= 0.5
        high += 0.5
    is_wide = low > 0 and high / low > WIDE_RATIO
    edges = np.geomspace(low, high, BINS + 1) if is_wide else np.linspace(low, high, BINS + 1)
    with mpl.rc_context(STYLE):
        figure, axes = canvas(2.6, width=7.0)
        for place, each in enumerate(found):
            values = each.values[name]
            defined = np.clip(values[np.isfinite(values)], low, high)
            counts, _ = np.histogram(defined, edges)
            colour = COLOURS[place % len(COLOURS)]
            axes.stairs(counts / len(values), edges, color=colour, label=each.source, linewidth=1.4)
        if is_wide:
            axes.set_xscale("log")
        for cut in cuts:
            _draw_cut(axes, cut, edges)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(bottom=0)
        axes.set_xlabel(name)
        axes.set_ylabel("share of documents")
        axes.xaxis.set_major_formatter(
            lambda value, _: short(value) if value >= 1000 else f"{value:g}"
        )
        figure.legend(loc="outside right center", frameon=False, fontsize=8)
        return svg_of(figure)


def _is_near(cut: Cut, low: float, high: float) -> bool:
    """Tell whether a cut is near enough to the values to be drawn into their figure."""
    reach = max(high - low, abs(high), abs(low))
    return low - reach <= float(cut.comparison.value) <= high + reach


def _draw_cut(axes: Axes, cut: Cut, edges: np.ndarray) -> None:
    """Draw the value of a rule, and shade what it removes."""
    value = float(cut.comparison.value)
    if not edges[0] <= value <= edges[-1]:
        return
    axes.axvline(value, color=GREY, linewidth=1.2, linestyle="--")
    if cut.comparison.operator in ("<", "<="):
        axes.axvspan(value, edges[-1], color=GREY, alpha=0.15, linewidth=0)
    elif cut.comparison.operator in (">", ">="):
        axes.axvspan(edges[0], value, color=GREY, alpha=0.15, linewidth=0)
