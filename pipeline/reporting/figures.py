"""Figures of the report: each function returns an SVG element as text.

The same numbers give the same bytes.
"""

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pipeline.logs import short
from pipeline.reporting.page import escape
from pipeline.reporting.run_data import RunData
from pipeline.store.counts import TaskScore

COLOURS = (
    "#2f6fb3",
    "#d9762b",
    "#3a9a62",
    "#b8458b",
    "#8a6fc2",
    "#8f8a2a",
    "#3aa3b5",
    "#c4524a",
    "#6b7d8f",
    "#a07850",
)
"""Colours that differ from each other on white and on near-black."""
GREY = "#808790"
STYLE: Any = {
    # Without a salt the ids of elements would be random.
    "svg.hashsalt": "pipeline",
    # Text stays text: it can be selected, and has the font of the page.
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    # A dollar sign in a name begins no formula.
    "text.parse_math": False,
    "text.color": "#111111",
    "axes.labelcolor": GREY,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "savefig.transparent": True,
}
MOST_LEGEND_ROWS = 8
"""Maximum number of rows of a legend; more entries need more columns."""
SMALLEST_LABELLED_SHARE = 0.06
"""A smaller share of a bar has no room for its percentage."""


def loss_curve(run: RunData) -> str:
    """Draw the training and validation loss, and the unigram entropy as a line."""
    with mpl.rc_context(STYLE):
        # The training loss is known at every step.
        figure, axes = canvas(3.6)
        training = run.steps.line("loss", with_gaps=True)
        axes.plot(
            training.tokens,
            training.values,
            color=COLOURS[0],
            label="training",
            alpha=0.85,
            marker=_marker(training.tokens),
        )
        # The validation loss is known only at some steps, which get markers.
        measured = [row for row in run.steps.validated if row.get("validation_loss") is not None]
        losses = _values(row.get("validation_loss") for row in measured)
        axes.plot(
            [row["tokens"] for row in measured],
            losses,
            "o-",
            color=COLOURS[1],
            markersize=5,
            label="validation",
        )
        entropy = run.counts["train"]["unigram_entropy"]
        if entropy is not None:
            axes.axhline(
                entropy, color=GREY, linestyle="--", linewidth=1.2, label="unigram entropy"
            )
        axes.set_ylabel("loss, nats per token")
        _token_axis(axes)
        axes.legend()
        return svg_of(figure)


def over_tokens(run: RunData, field: str, label: str) -> str:
    """Draw one field of the metrics over the tokens trained on."""
    with mpl.rc_context(STYLE):
        figure, axes = canvas(2.6, 4.7)
        line = run.steps.line(field, with_gaps=False)
        axes.plot(line.tokens, line.values, color=COLOURS[0], marker=_marker(line.tokens))
        axes.set_ylim(bottom=0)
        axes.set_ylabel(label)
        axes.yaxis.set_major_formatter(FuncFormatter(_short_tick))
        _token_axis(axes)
        return svg_of(figure)


def validation_by_source(run: RunData) -> str:
    """Draw the validation loss of each source over the tokens trained on."""
    with mpl.rc_context(STYLE):
        sources = list(run.counts["train"]["validation_loss_by_source"])
        figure, axes = canvas(3.6)
        measured = [row for row in run.steps.validated if row.get("validation_loss_by_source")]
        for number, source in enumerate(sources):
            points: list[tuple[int, float]] = []
            for row in measured:
                loss = row.get("validation_loss_by_source", {}).get(source)
                if loss is not None:
                    points.append((row["tokens"], loss))
            dashes = ("-", "--", ":")[number // len(COLOURS) % 3]
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(
                *_columns(points), dashes, marker="o", markersize=4, color=colour, label=source
            )
        axes.set_ylabel("validation loss, nats per token")
        _token_axis(axes)
        _legend_of_sources(axes, len(sources))
        return svg_of(figure)


def few_shot_bars(run: RunData, metric: str) -> str:
    """Draw the scores of each task as a group of bars, one for each number of shots.

    Bars have their standard errors; a dashed line in each group shows chance.
    """
    with mpl.rc_context(STYLE):
        tasks = [task for task, name in run.score_names if name == metric]
        figure, axes = canvas(0.9 + 0.62 * len(tasks))
        for number in range(len(run.shots)):
            _draw_shots(axes, run, tasks, metric, number)
        for place, task in enumerate(tasks):
            _draw_chance(axes, run.scores_of(task, metric), place)
        axes.set_yticks(range(len(tasks)), tasks)
        axes.set_xlim(left=0)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(metric)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0)
        return svg_of(figure)


def _draw_shots(axes: Axes, run: RunData, tasks: Sequence[str], metric: str, number: int) -> None:
    """Draw the bars of all tasks for one number of shots, `run.shots[number]`."""
    # The bars of a group share 0.8 of the distance between groups, centred on the task's place.
    shots = run.shots[number]
    height = 0.8 / len(run.shots)
    offset = (number - (len(run.shots) - 1) / 2) * height
    places: list[float] = []
    values: list[float] = []
    errors: list[float] = []
    for place, task in enumerate(tasks):
        row = run.score(task, metric, shots)
        if row is not None:
            places.append(place + offset)
            values.append(row["value"])
            errors.append(row["standard_error"] or 0)
    axes.barh(
        places,
        values,
        height * 0.9,
        xerr=errors,
        color=COLOURS[number % len(COLOURS)],
        error_kw={"ecolor": GREY, "elinewidth": 1.2, "capsize": 2},
        label=f"k = {shots}",
    )


def _draw_chance(axes: Axes, scores: Sequence[TaskScore], place: int) -> None:
    """Draw a dashed line through the group of bars at a place, if chance is known."""
    chance = scores[0]["chance"]
    if chance is None:
        return
    heights = [place - 0.46, place + 0.46]
    axes.plot([chance, chance], heights, "--", color="#111111", linewidth=1.3)


def composition(run: RunData) -> str:
    """Draw the share of each source in documents, bytes of text and tokens."""
    with mpl.rc_context(STYLE):
        amounts = _amounts(run)
        sources = list(run.counts["prepare"]["sources"])
        figure, axes = canvas(max(1.9, 0.26 * min(len(sources), MOST_LEGEND_ROWS)))
        left = [0.0] * len(amounts)
        for number, source in enumerate(sources):
            # The bars of a source begin where those of the sources before it end.
            shares = [_share(values, source) for values in amounts.values()]
            axes.barh(
                list(amounts),
                shares,
                0.66,
                left=left,
                color=COLOURS[number % len(COLOURS)],
                hatch=("", "//", "..")[number // len(COLOURS) % 3],
                edgecolor="white",
                label=source,
            )
            label_shares(axes, shares, left)
            left = [start + share for start, share in zip(left, shares, strict=True)]
        axes.set_xlim(0, 1)
        axes.invert_yaxis()
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        axes.grid(visible=False)
        _legend_of_sources(axes, len(sources))
        return svg_of(figure)


def _amounts(run: RunData) -> dict[str, Mapping[str, float]]:
    """Return documents, bytes of text and tokens of each source, held-out ones included."""
    prepared = run.counts["prepare"]["sources"]
    tokens = run.counts["tokenize"]["sources"]
    return {
        "documents": {
            name: run.documents(name, "train") + run.documents(name, "validation")
            for name in prepared
        },
        "bytes": {name: run.text_bytes(name) for name in prepared},
        "tokens": {
            name: counts["train"]["tokens"] + counts["validation"]["tokens"]
            for name, counts in tokens.items()
        },
    }


def label_shares(axes: Axes, shares: Sequence[float], left: Sequence[float]) -> None:
    """Write the percentage into each bar that has room for it."""
    for place, (share, start) in enumerate(zip(shares, left, strict=True)):
        if share >= SMALLEST_LABELLED_SHARE:
            axes.text(
                start + share / 2,
                place,
                f"{share:.0%}",
                ha="center",
                va="center",
                color="white",
                fontsize=9,
            )


def _legend_of_sources(axes: Axes, sources: int) -> None:
    """Draw the legend on the right of the axes, in as many columns as it needs."""
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.01, 1.02),
        borderaxespad=0,
        ncols=-(-sources // MOST_LEGEND_ROWS),
        fontsize=9,
    )


def _share(values: Mapping[str, float], name: str) -> float:
    total = sum(values.values())
    if not total:
        return 0.0
    return values.get(name, 0) / total


def _values(values: Iterable[float | None]) -> list[float]:
    """Return values to draw; None becomes NaN, which leaves a gap in the line."""
    return [math.nan if value is None else value for value in values]


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def canvas(height: float, width: float = 9.6) -> tuple[Figure, Axes]:
    """Return a figure and its axes; the size is in inches of 72 points."""
    # Not by pyplot, which would read all style sheets and keep the figure.
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _marker(points: Sized) -> str | None:
    """Return the marker of a line: a line through one point is invisible without one."""
    if len(points) == 1:
        return "o"
    return None


def _token_axis(axes: Axes) -> None:
    axes.set_xlabel("tokens")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(_short_tick))


def _short_tick(value: float, _position: int) -> str:
    return short(value)


def svg_of(figure: Figure) -> str:
    """Return a figure as an SVG element for an HTML page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})

    # Matplotlib escapes markup; control characters and direction marks are escaped here.
    text = re.sub(r"[^\n\t -~]", lambda match: escape(match[0]), buffer.getvalue())

    # The XML head names a document type on the network; HTML needs neither head nor name spaces.
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = text.replace("xlink:href", "href")

    # Text takes the font and the colour of the page.
    text = re.sub(r'(?<=[^-]font: )([\d.]+px) [^"\';]*', r"\1 system-ui, sans-serif", text)
    return text.replace("#111111", "currentColor")
