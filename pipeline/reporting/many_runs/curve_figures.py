"""Figures of several runs: losses over tokens, over time and over FLOPs, as SVG."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogFormatter, LogLocator, MaxNLocator

from pipeline.logs import scientific, short
from pipeline.reporting.figures import COLOURS, STYLE, canvas, svg_of
from pipeline.reporting.many_runs.comparable import Basis
from pipeline.reporting.many_runs.compared_run import ComparedRun, StepPoint
from pipeline.reporting.many_runs.verdict import end_losses
from pipeline.reporting.tick_labels import thin_x_labels

MOST_DRAWN = len(COLOURS)
"""Runs that are drawn, each in a colour of its own."""
MOST_TRAINING_POINTS = 60
"""Means of the training loss that are drawn of each run: a step alone is too noisy."""
BEGINNING = 0.02
"""Share of a run's tokens before which its losses do not decide the frame: they fall steeply there."""
MARGIN = 0.06
"""Room above and below the curves, as a share of their range."""
LETTERS_OF_A_ROW = 60
"""Letters that a row of the legend has room for."""
LETTERS_OF_A_MARK = 8
HEIGHT_OF_AXES = 3.3
"""Inches of a narrow figure without its legend."""
HEIGHT_OF_A_ROW = 0.19
"""Inches of a row of a legend."""


@dataclass(frozen=True)
class Amount:
    """What stands on the x axis of a figure."""

    label: str
    of: Callable[[StepPoint], float | None]
    tick: Callable[[float], str]


TOKENS = Amount("tokens", lambda point: float(point.tokens), short)
FLOPS = Amount("model FLOPs", lambda point: point.flops, scientific)
UNITS_OF_TIME = (("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0))
"""The first one of which the longest run has two or more is that of the axis; else seconds."""


def time_of_runs(runs: Sequence[ComparedRun]) -> Amount:
    """Return time as an amount, in a unit that fits the longest run."""
    longest = max((run.last.seconds or 0.0 for run in runs), default=0.0)
    fitting = [(unit, size) for unit, size in UNITS_OF_TIME if longest >= 2 * size]
    unit, size = fitting[0] if fitting else ("seconds", 1.0)

    def amount(point: StepPoint) -> float | None:
        if point.seconds is None:
            return None
        return point.seconds / size

    return Amount(f"{unit} from the first launch", amount, lambda value: f"{value:.3g}")


def losses_over(
    runs: Sequence[ComparedRun],
    names: Sequence[str],
    basis: Basis,
    amount: Amount,
    *,
    is_wide: bool,
) -> str:
    """Draw the losses of runs over an amount, each run in its colour: at most MOST_DRAWN runs.

    Held-out losses have markers. Training losses are thin lines beside them, where a loss a token can
    be compared.
    """
    with mpl.rc_context(STYLE):
        # The runs.
        if is_wide:
            figure, axes = canvas(3.9)
        else:
            figure, axes = canvas(HEIGHT_OF_AXES + HEIGHT_OF_A_ROW * _rows(names), 4.7)
        for number, (run, name) in enumerate(zip(runs, names, strict=True)):
            _draw_run(axes, run, name, basis, amount, number)
        scale_axes(axes, runs, basis, amount)
        _draw_off_scale(axes, runs, basis, amount)

        # Their names, and the labels that have room beside them.
        if is_wide:
            axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0, fontsize=9)
        else:
            figure.legend(loc="outside lower left", fontsize=9, ncols=_columns_that_fit(names))
        thin_x_labels(figure, axes)
        return svg_of(figure)


def _columns_that_fit(names: Sequence[str]) -> int:
    """Return how many columns a legend below narrow axes has room for."""
    return max(1, LETTERS_OF_A_ROW // (max(map(len, names)) + LETTERS_OF_A_MARK))


def _rows(names: Sequence[str]) -> int:
    return math.ceil(len(names) / _columns_that_fit(names))


def drawn_runs(
    runs: Sequence[ComparedRun], names: Sequence[str], basis: Basis
) -> list[tuple[ComparedRun, str]]:
    """Return the runs that are drawn with their names: of many, those that end lowest."""
    pairs = list(zip(runs, names, strict=True))
    if len(pairs) <= MOST_DRAWN:
        return pairs
    lowest = {end.name for end in end_losses(runs, names, basis)[:MOST_DRAWN]}
    return [(run, name) for run, name in pairs if name in lowest]


def _draw_run(
    axes: Axes, run: ComparedRun, name: str, basis: Basis, amount: Amount, number: int
) -> None:
    """Draw the held-out losses of a run, and its training losses where they can be compared."""
    colour = COLOURS[number]
    if basis.unit == "nats a token":
        faint = 0.35 if basis.is_held_out else 1.0
        label = None if basis.is_held_out else name
        points = training_means(run.points, amount)
        axes.plot(*_columns(points), color=colour, alpha=faint, linewidth=1, label=label)
    if basis.is_held_out:
        points = _held_out(run.points, basis, amount)
        axes.plot(*_columns(points), "-", marker="o", markersize=3.5, color=colour, label=name)


def training_means(points: Sequence[StepPoint], amount: Amount) -> list[tuple[float, float]]:
    """Return (amount at its end, mean loss) of equal parts of the steps, at most so many as drawn.

    Steps whose loss or amount is not known are left out.
    """
    known: list[tuple[float, float]] = []
    for point in points:
        x = amount.of(point)
        if x is not None and x > 0 and point.loss is not None:
            known.append((x, point.loss))
    size = max(1, math.ceil(len(known) / MOST_TRAINING_POINTS))
    parts = [known[first : first + size] for first in range(0, len(known), size)]
    return [(part[-1][0], sum(loss for _, loss in part) / len(part)) for part in parts]


def _held_out(
    points: Sequence[StepPoint], basis: Basis, amount: Amount
) -> list[tuple[float, float]]:
    """Return (amount, held-out loss) of the steps that have both."""
    pairs: list[tuple[float, float]] = []
    for point in points:
        x = amount.of(point)
        loss = basis.loss(point)
        if x is not None and x > 0 and loss is not None:
            pairs.append((x, loss))
    return pairs


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def scale_axes(axes: Axes, runs: Sequence[ComparedRun], basis: Basis, amount: Amount) -> None:
    """Set names, scales, ranges and ticks of both axes."""
    # The loss falls with the logarithm of what was spent.
    axes.set_xscale("log")
    axes.set_xlabel(amount.label)
    axes.xaxis.set_major_locator(LogLocator(numticks=9))
    axes.xaxis.set_major_formatter(_Ticks(amount.tick))
    axes.xaxis.set_minor_formatter(_Ticks(amount.tick))

    # The frame holds all but the first steps, and what has diverged.
    which = "validation loss" if basis.is_held_out else "training loss"
    label = f"{which}, nats per token"
    if basis.unit == "bits per byte":
        label = "bits per byte, held-out text"
    axes.set_ylabel(label)
    axes.yaxis.set_major_locator(MaxNLocator(7))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    points = [point for run in runs for point in _framed(run, basis, amount)]
    if not points:
        return
    places, heights = _columns(points)
    low = min(heights)
    high = min(max(heights), highest_in_frame(runs, basis))
    margin = MARGIN * (high - low) or 0.5
    axes.set_ylim(low - margin, high + margin)
    axes.set_xlim(min(places) * 0.9, max(places) * 1.1)


def _framed(run: ComparedRun, basis: Basis, amount: Amount) -> list[tuple[float, float]]:
    """Return the points of a run, held-out and training, that decide the frame: not its first steps."""
    later = [point for point in run.points if point.tokens >= BEGINNING * run.last.tokens]
    points = _held_out(later, basis, amount)
    if basis.unit == "nats a token":
        points += training_means(later, amount)
    return points


def highest_in_frame(runs: Sequence[ComparedRun], basis: Basis) -> float:
    """Return the loss with which the trainings began, about that of guessing; infinity if unknown.

    Above it a run has diverged, and would flatten the curves of the others.
    """
    begun: list[float] = []
    for run in runs:
        loss = run.points[0].loss
        rates = [_rate(point, basis) for point in run.points]
        known = [rate for rate in rates if rate is not None]
        if not run.branches_off and loss is not None and known:
            begun.append(loss * known[0])
    if not begun:
        return math.inf
    highest = statistics.median_low(begun)
    # All runs may be above it, as after a bad start.
    lowest = min(
        (loss for run in runs for _, loss in _framed(run, basis, TOKENS)), default=math.inf
    )
    return highest if lowest < highest else math.inf


def _rate(point: StepPoint, basis: Basis) -> float | None:
    """Return how many units of the basis a nat a token is, by one validation; None without it."""
    if basis.unit == "nats a token":
        return 1.0
    if point.bits_per_byte is None or not point.validation_loss:
        return None
    return point.bits_per_byte / point.validation_loss


def names_off_scale(runs: Sequence[ComparedRun], names: Sequence[str], basis: Basis) -> list[str]:
    """Return the runs that have losses above the frame after their first steps."""
    highest = highest_in_frame(runs, basis)
    return [
        name
        for run, name in zip(runs, names, strict=True)
        if any(loss > highest for _, loss in _framed(run, basis, TOKENS))
    ]


def _draw_off_scale(axes: Axes, runs: Sequence[ComparedRun], basis: Basis, amount: Amount) -> None:
    """Mark held-out losses above the frame by triangles at its upper edge."""
    _, top = axes.get_ylim()
    highest = highest_in_frame(runs, basis)
    for number, run in enumerate(runs):
        above = [x for x, loss in _held_out(run.points, basis, amount) if loss > highest]
        heights = [top] * len(above)
        for line in axes.plot(above, heights, "^", color=COLOURS[number], markersize=6):
            # Triangles stand on the edge, and the layout does not make room for them.
            line.set_clip_on(False)
            line.set_in_layout(False)


class _Ticks(LogFormatter):
    """Writes the ticks that matplotlib would label."""

    def __init__(self, tick: Callable[[float], str]) -> None:
        super().__init__(minor_thresholds=(1.0, 0.5))
        self.tick = tick

    def __call__(self, x: float, pos: int | None = None) -> str:
        if not super().__call__(x, pos):
            return ""
        return self.tick(x)
