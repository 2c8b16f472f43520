"""Leaves out labels of ticks that would run into each other."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import Bbox

GAP = 4.0
"""Room between two labels, in pixels of the figure."""


def thin_x_labels(figure: Figure, axes: Axes) -> None:
    """Keep the labels of the x axis that have room: those of major ticks first, from the left.

    Call it when the figure is complete: places are those of the final layout.
    """
    figure.draw_without_rendering()
    kept: list[Bbox] = []
    texts: dict[float, str] = {}
    for tick in [*axes.xaxis.get_major_ticks(), *axes.xaxis.get_minor_ticks()]:
        label = tick.label1
        place = tick.get_loc()
        low, high = sorted(axes.get_xlim())
        if not label.get_text() or not low <= place <= high:
            continue
        box = label.get_window_extent()
        box = Bbox.from_extents(box.x0 - GAP / 2, box.y0, box.x1 + GAP / 2, box.y1)
        if any(box.x0 < other.x1 and other.x0 < box.x1 for other in kept):
            continue
        kept.append(box)
        texts[place] = label.get_text()

    def text_at(place: float, _position: int | None = None) -> str:
        return texts.get(place, "")

    axes.xaxis.set_major_formatter(FuncFormatter(text_at))
    axes.xaxis.set_minor_formatter(FuncFormatter(text_at))
