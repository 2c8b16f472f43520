"""Figures of scores: over tokens, examples and parameters; and differences of two models.

Each function returns an SVG element as text, narrow enough for a phone.
"""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogFormatter

from pipeline.evaluation.comparing.compared_scores import ComparedTask
from pipeline.logs import short
from pipeline.reporting.figures import COLOURS, GREY, STYLE, canvas, svg_of
from pipeline.reporting.published_scores import (
    GPT2_PARAMETERS,
    GPT2_SCORES,
    PARAMETERS,
    PublishedPoint,
    published_points,
)
from pipeline.reporting.score_curves import ScorePoint, TaskCurves

WIDTH = 4.7
"""Inches of 72 points."""
MOST_OTHERS = 6
"""Maximum number of models from elsewhere in a figure."""
WIDE_RANGE = 8
"""Tokens that differ by a larger factor are drawn on a logarithmic axis."""


def scores_over_tokens(curves: TaskCurves) -> str:
    """Draw a task's score over tokens, a line for each number of examples; merges as diamonds.

    Pythia's curves are those without examples.
    """
    with mpl.rc_context(STYLE):
        # Published curves first, below the run's own.
        figure, axes = canvas(2.9, WIDTH)
        shots = sorted({point.shots for point in curves.checkpoints})
        published = published_points(curves.task, curves.metric)
        for size in PARAMETERS:
            line = [point for point in published if point.size == size and point.shots == 0]
            if line:
                _draw_published(axes, [point.tokens for point in line], line)

        # The run's checkpoints, and their means.
        for number, k in enumerate(shots):
            line = [point for point in curves.checkpoints if point.shots == k]
            label = line[0].label
            _draw_points(axes, [point.tokens or 0 for point in line], line, number, label)
            merged = [point for point in curves.points if point.is_merge and point.shots == k]
            axes.plot(
                [point.tokens or 0 for point in merged],
                [point.score for point in merged],
                "D",
                color=COLOURS[number % len(COLOURS)],
                markerfacecolor="none",
                markersize=7,
            )

        # What the scores are read against.
        _draw_floors(axes, curves)
        _title_and_legend(axes, curves)
        _logarithmic_where_wide(
            axes, [point.tokens or 0 for point in [*curves.checkpoints, *published]]
        )
        axes.set_xlabel("tokens")
        return svg_of(figure)


def scores_over_examples(curves: TaskCurves) -> str:
    """Draw a task's score over the number of examples k, a line for each model."""
    with mpl.rc_context(STYLE):
        figure, axes = canvas(2.9, WIDTH)
        published = _at_their_end(published_points(curves.task, curves.metric))
        names = {point.shots: point.label.removeprefix("k = ") for point in curves.last}
        places = {k: place for place, k in enumerate(sorted(names))}
        for size in PARAMETERS:
            line = [point for point in published if point.size == size and point.shots in places]
            if line:
                _draw_published(axes, [places[point.shots] for point in line], line)

        if 0 in places:
            _draw_gpt2(axes, places[0], curves)

        # The run's last checkpoint, and models from elsewhere.
        titles = dict.fromkeys(point.title for point in [*curves.last, *curves.others])
        for number, title in enumerate(list(titles)[: MOST_OTHERS + 1]):
            line = [
                point
                for point in [*curves.last, *curves.others]
                if point.title == title and point.shots in places
            ]
            _draw_points(axes, [places[point.shots] for point in line], line, number, title)
        _draw_floors(axes, curves)
        _title_and_legend(axes, curves)
        axes.set_xticks(list(places.values()), [names[k] for k in places])
        axes.set_xlabel("solved examples k")
        return svg_of(figure)


def scores_over_parameters(curves: TaskCurves) -> str:
    """Draw a task's score over parameters, a line for each number of examples."""
    with mpl.rc_context(STYLE):
        figure, axes = canvas(2.9, WIDTH)
        points = sorted([*curves.last, *curves.others], key=lambda point: point.parameters)
        published = _at_their_end(published_points(curves.task, curves.metric))
        line_of_pythia = [point for point in published if point.shots == 0]
        axes.plot(
            [PARAMETERS[point.size] for point in line_of_pythia],
            [point.score for point in line_of_pythia],
            "o-",
            color=GREY,
            alpha=0.6,
            markersize=3,
            linewidth=1.0,
        )
        _draw_gpt2(axes, GPT2_PARAMETERS, curves)
        for number, k in enumerate(sorted({point.shots for point in points})):
            line = [point for point in points if point.shots == k]
            label = line[0].label
            _draw_points(axes, [point.parameters for point in line], line, number, label)
        _draw_floors(axes, curves)
        _title_and_legend(axes, curves)
        _make_logarithmic(axes)
        axes.set_xlabel("parameters")
        return svg_of(figure)


def _at_their_end(points: Sequence[PublishedPoint]) -> list[PublishedPoint]:
    """Return each published model's scores after its last tokens."""
    last = max((point.tokens for point in points), default=0)
    return [point for point in points if point.tokens == last]


def _draw_points(
    axes: Axes, places: Sequence[float], points: Sequence[ScorePoint], number: int, label: str
) -> None:
    """Draw a line through scores, with their standard errors."""
    axes.errorbar(
        places,
        [point.score for point in points],
        yerr=[point.standard_error or 0 for point in points],
        fmt="o-",
        markersize=4,
        capsize=2,
        elinewidth=1.0,
        color=COLOURS[number % len(COLOURS)],
        label=label,
    )


def _draw_published(axes: Axes, places: Sequence[float], points: Sequence[PublishedPoint]) -> None:
    """Draw one of Pythia's models in grey, with its size at the end of the line."""
    axes.plot(places, [point.score for point in points], color=GREY, alpha=0.55, linewidth=1.0)
    _name_published(axes, points[-1].size, places[-1], points[-1].score)


def _draw_gpt2(axes: Axes, place: float, curves: TaskCurves) -> None:
    """Draw GPT-2's score without examples in grey, where it is published."""
    score = GPT2_SCORES.get((curves.task, curves.metric))
    if score is not None:
        axes.plot([place], [score], "s", color=GREY, alpha=0.6, markersize=4)
        _name_published(axes, "GPT-2", place, score)


def _name_published(axes: Axes, name: str, place: float, score: float) -> None:
    """Write the name of a model beside its last point."""
    axes.annotate(
        name,
        (place, score),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        fontsize=7,
        color=GREY,
    )


def _draw_floors(axes: Axes, curves: TaskCurves) -> None:
    """Draw where guessing stands, and a model of uniform token probabilities."""
    if curves.chance is not None:
        axes.axhline(curves.chance, color="#111111", linestyle="--", linewidth=1.1)
    if curves.uniform is not None:
        axes.axhline(curves.uniform, color="#111111", linestyle=":", linewidth=1.3)


def _title_and_legend(axes: Axes, curves: TaskCurves) -> None:
    axes.set_title(f"{curves.task}, {curves.metric}", fontsize=10, loc="left")
    axes.legend(fontsize=8, loc="best")


def _logarithmic_where_wide(axes: Axes, tokens: Sequence[float]) -> None:
    """Draw tokens on a logarithmic axis where they differ by a large factor."""
    positive = [value for value in tokens if value > 0]
    if positive and max(positive) > WIDE_RANGE * min(positive):
        _make_logarithmic(axes)
    else:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


class _ShortNumbers(LogFormatter):
    """Writes the ticks that matplotlib would label, such as 200,000 as 200k.

    Where an axis spans about one power of ten, it labels ticks between the powers, too.
    """

    def __call__(self, x: float, pos: int | None = None) -> str:
        if not super().__call__(x, pos):
            return ""
        return short(x)


def _make_logarithmic(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(_ShortNumbers())
    axes.xaxis.set_minor_formatter(_ShortNumbers())


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
