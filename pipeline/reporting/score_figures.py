"""Figures of scores: differences of two models. Each function returns an SVG element as text."""

from collections.abc import Sequence

import matplotlib as mpl

from pipeline.evaluation.comparing.compared_scores import ComparedTask
from pipeline.reporting.figures import COLOURS, GREY, STYLE, canvas, svg_of


def differences(rows: Sequence[ComparedTask]) -> str:
    """Draw the difference of each task with its standard error.

    A grey bar reaches as far as a difference that these questions would not show. Scores of which
    lower is better are drawn with the opposite sign, so that a gain is always on the right.
    """
    with mpl.rc_context(STYLE):
        # The names stand above the bars, so that the figure is readable on a phone.
        figure, axes = canvas(0.7 + 0.46 * len(rows), 4.7)
        for place, row in enumerate(rows):
            sign = 1
            if row.is_lower_better:
                sign = -1
            visible = row.difference.smallest_visible
            if visible is not None:
                axes.barh(place, 2 * visible, 0.4, left=-visible, color=GREY, alpha=0.22)
            axes.errorbar(
                sign * row.difference.difference,
                place,
                xerr=row.difference.standard_error or 0,
                fmt="o",
                markersize=5,
                capsize=3,
                color=COLOURS[0],
            )
            name = f"{row.task}, k = {row.shots}"
            whole_width = axes.get_yaxis_transform()
            axes.text(0, place - 0.28, name, fontsize=9, transform=whole_width)
        axes.axvline(0, color="#111111", linewidth=1.0)
        axes.set_yticks([])
        axes.set_ylim(len(rows) - 0.6, -0.75)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("gain")
        return svg_of(figure)
