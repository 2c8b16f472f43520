"""The curves of `pipeline benchmark recipe`, as a small SVG document for a README."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

COLOURS = ("#6b7d8f", "#d9762b", "#2f6fb3", "#3a9a62", "#b8458b", "#8a6fc2")
STYLE: dict[Any, str | float] = {
    # Without a salt the ids of elements would be random.
    "svg.hashsalt": "pipeline",
    # Text stays text, which makes a small file.
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}
HIGHEST_LOSS_ABOVE_GOAL = 1.2
"""Top of the figure above the goal, in nats: higher up all trainings fall alike."""


@dataclass(frozen=True)
class Curve:
    """The validation loss of one training."""

    label: str
    """Name in the legend; all seeds of one setting share it, and their colour."""
    tokens: Sequence[int]
    """Tokens trained on at each validation."""
    losses: Sequence[float]
    """Validation loss in nats per token, at each validation."""


def draw_curves(curves: Sequence[Curve], goal: float) -> str:
    """Return an SVG document with one line for each training and the goal in nats per token.

    The same numbers give the same bytes.
    """
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot
    from matplotlib.ticker import EngFormatter

    # One colour for each label.
    labels = list(dict.fromkeys(curve.label for curve in curves))
    with mpl.rc_context(STYLE):
        figure, axes = pyplot.subplots(figsize=(8, 4.2), layout="constrained")
        # The curves, each with a dot at its end; the legend names each label once.
        for curve in curves:
            number = labels.index(curve.label)
            is_first = next(other for other in curves if other.label == curve.label) is curve
            colour = COLOURS[number % len(COLOURS)]
            (line,) = axes.plot(curve.tokens, curve.losses, color=colour, linewidth=1.3, alpha=0.85)
            if is_first:
                line.set_label(curve.label)
            axes.plot(
                curve.tokens[-1:],
                curve.losses[-1:],
                "o",
                markersize=4,
                color=colour,
                linewidth=1.3,
                alpha=0.85,
            )

        # The goal, and the part of the plane that matters.
        axes.axhline(
            goal, color=COLOURS[0], linestyle="--", linewidth=1, label="baseline's mean at its end"
        )
        lowest = min(min(curve.losses) for curve in curves)
        axes.set_ylim(min(lowest, goal) - 0.05, goal + HIGHEST_LOSS_ABOVE_GOAL)
        axes.set_xlim(left=0)
        axes.set_xlabel("tokens")
        axes.set_ylabel("validation loss, nats per token")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.legend()

        # Without the date, so that the bytes depend on the numbers alone.
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    return "".join(line.rstrip() + "\n" for line in buffer.getvalue().splitlines())
