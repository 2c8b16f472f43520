"""Labels of ticks: none runs into another, and those of major ticks stay."""

import matplotlib as mpl
from matplotlib.ticker import FixedLocator, FuncFormatter

from pipeline.reporting.figures import STYLE, canvas
from pipeline.reporting.tick_labels import thin_x_labels


def test_labels_that_would_meet_are_left_out_and_major_ones_stay() -> None:
    with mpl.rc_context(STYLE):
        figure, axes = canvas(2.0, 4.0)
        axes.set_xlim(0, 100)
        axes.xaxis.set_major_locator(FixedLocator([0, 50, 200]))
        axes.xaxis.set_minor_locator(FixedLocator([1, 25, 51]))
        formatter = FuncFormatter(lambda place, _: f"{place:.0f} tokens")
        axes.xaxis.set_major_formatter(formatter)
        axes.xaxis.set_minor_formatter(formatter)
        thin_x_labels(figure, axes)
        figure.draw_without_rendering()
    ticks = [*axes.xaxis.get_major_ticks(), *axes.xaxis.get_minor_ticks()]
    labels = [tick.label1.get_text() for tick in ticks]
    assert [label for label in labels if label] == ["0 tokens", "50 tokens", "25 tokens"]
