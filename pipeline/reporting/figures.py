"""The report's pictures: each function returns one SVG element as text, the same bytes for the same
numbers."""

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pipeline.logs import short
from pipeline.reporting.page import escape
from pipeline.reporting.run_data import RunData

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
"""Told apart on white and on near-black."""
GREY = "#808790"
STYLE: Any = {
    "svg.hashsalt": "pipeline",  # element ids would be random
    "svg.fonttype": "none",  # text stays text: selectable, and drawn in the page's font
    "font.family": "sans-serif",
    "font.size": 10,
    "text.parse_math": False,  # names of tasks are no formulas
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


def loss_curve(run: RunData) -> str:
    """Training loss at every step, validation loss where it was measured, the unigram entropy as a
    line."""
    with mpl.rc_context(STYLE):
        figure, axes = _canvas(3.6)
        tokens = [row["tokens"] for row in run.metrics]
        axes.plot(
            tokens,
            _values(row["loss"] for row in run.metrics),
            color=COLOURS[0],
            label="training",
            alpha=0.85,
            marker=_marker(tokens),
        )
        measured = [row for row in run.metrics if row.get("validation_loss") is not None]
        losses = _values(row.get("validation_loss") for row in measured)
        axes.plot(
            [row["tokens"] for row in measured],
            losses,
            "o-",
            color=COLOURS[1],
            markersize=5,
            label="validation",
        )
        if (entropy := run.counts["train"]["unigram_entropy"]) is not None:
            axes.axhline(
                entropy, color=GREY, linestyle="--", linewidth=1.2, label="unigram entropy"
            )
        axes.set_ylabel("loss, nats per token")
        _token_axis(axes)
        axes.legend()
        return _svg(figure)


def over_tokens(run: RunData, field: str, label: str) -> str:
    """One field of the metrics over the tokens seen."""
    with mpl.rc_context(STYLE):
        figure, axes = _canvas(2.6, 4.7)
        rows = [row for row in run.metrics if row.get(field) is not None]
        tokens = [row["tokens"] for row in rows]
        axes.plot(tokens, [row[field] for row in rows], color=COLOURS[0], marker=_marker(tokens))
        axes.set_ylim(bottom=0)
        axes.set_ylabel(label)
        axes.yaxis.set_major_formatter(FuncFormatter(_short_tick))
        _token_axis(axes)
        return _svg(figure)


def validation_by_source(run: RunData) -> str:
    """Validation loss of every source over the tokens seen."""
    with mpl.rc_context(STYLE):
        sources = list(run.counts["train"]["validation_loss_by_source"])
        figure, axes = _canvas(3.6)
        measured = [row for row in run.metrics if row.get("validation_loss_by_source")]
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
        columns = -(-len(sources) // MOST_LEGEND_ROWS)
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(1.01, 1.02),
            borderaxespad=0,
            ncols=columns,
            fontsize=9,
        )
        return _svg(figure)


def few_shot_bars(run: RunData, metric: str) -> str:
    """One group of bars a task, one bar for each number of shots, with standard errors and the
    chance line."""
    with mpl.rc_context(STYLE):
        tasks = [task for task, name in run.score_names if name == metric]
        figure, axes = _canvas(0.9 + 0.62 * len(tasks))
        height = 0.8 / len(run.shots)
        for number, shots in enumerate(run.shots):
            rows = [
                (place, row)
                for place, task in enumerate(tasks)
                if (row := run.score(task, metric, shots))
            ]
            places = [place + (number - (len(run.shots) - 1) / 2) * height for place, _ in rows]
            errors = [row["standard_error"] or 0 for _, row in rows]
            colour = COLOURS[number % len(COLOURS)]
            marks = {"ecolor": GREY, "elinewidth": 1.2, "capsize": 2}
            values = [row["value"] for _, row in rows]
            axes.barh(
                places,
                values,
                height * 0.9,
                xerr=errors,
                color=colour,
                error_kw=marks,
                label=f"k = {shots}",
            )
        for place, task in enumerate(tasks):
            row = next(row for shots in run.shots if (row := run.score(task, metric, shots)))
            if row["chance"] is not None:
                axes.plot(
                    [row["chance"]] * 2,
                    [place - 0.46, place + 0.46],
                    "--",
                    color="#111111",
                    linewidth=1.3,
                )
        axes.set_yticks(range(len(tasks)), tasks)
        axes.set_xlim(left=0)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(metric)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0)
        return _svg(figure)


def composition(run: RunData) -> str:
    """Share of every source in documents, bytes of text and tokens."""
    with mpl.rc_context(STYLE):
        prepared, tokens = run.counts["prepare"]["sources"], run.counts["tokenize"]["sources"]
        amounts: dict[str, Mapping[str, float]] = {
            "documents": {
                name: sum(run.documents(name, s) for s in ("train", "validation"))
                for name in prepared
            },
            "bytes": {name: run.text_bytes(name) for name in prepared},
            "tokens": {
                name: sum(source[s]["tokens"] for s in ("train", "validation"))
                for name, source in tokens.items()
            },
        }
        figure, axes = _canvas(max(1.9, 0.26 * min(len(prepared), MOST_LEGEND_ROWS)))
        left = dict.fromkeys(amounts, 0.0)
        for number, source in enumerate(prepared):
            shares = {unit: _share(values, source) for unit, values in amounts.items()}
            colour = COLOURS[number % len(COLOURS)]
            hatch = ("", "//", "..")[number // len(COLOURS) % 3]
            widths, starts = list(shares.values()), list(left.values())
            axes.barh(
                list(shares),
                widths,
                0.66,
                left=starts,
                color=colour,
                hatch=hatch,
                edgecolor="white",
                label=source,
            )
            for unit, share in shares.items():
                if share >= 0.06:
                    middle = left[unit] + share / 2
                    axes.text(
                        middle,
                        list(amounts).index(unit),
                        f"{share:.0%}",
                        ha="center",
                        va="center",
                        color="white",
                        fontsize=9,
                    )
                left[unit] += share
        axes.set_xlim(0, 1)
        axes.invert_yaxis()
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        axes.grid(visible=False)
        columns = -(-len(prepared) // MOST_LEGEND_ROWS)
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(1.01, 1.02),
            borderaxespad=0,
            ncols=columns,
            fontsize=9,
        )
        return _svg(figure)


def _share(values: Mapping[str, float], name: str) -> float:
    together = sum(values.values())
    return values.get(name, 0) / together if together else 0.0


def _values(values: Iterable[float | None]) -> list[float]:
    """Return values to draw, a gap where there is none."""
    return [math.nan if value is None else value for value in values]


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _canvas(height: float, width: float = 9.6) -> tuple[Figure, Axes]:
    """Return a figure of a size in inches of 72 points."""
    return pyplot.subplots(figsize=(width, height), layout="constrained")


def _marker(points: Sequence[float]) -> str | None:
    return "o" if len(points) == 1 else None  # a line through one point cannot be seen


def _token_axis(axes: Axes) -> None:
    axes.set_xlabel("tokens")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(_short_tick))


def _short_tick(value: float, _position: int) -> str:
    return short(value)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    text = re.sub(
        r"[^\n\t -~]", lambda found: escape(found[0]), buffer.getvalue()
    )  # markup is escaped already
    text = text[
        text.index("<svg") :
    ]  # without the XML head, which names a document type on the network
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace(
        "xlink:href", "href"
    )  # HTML knows what svg is
    return re.sub(r'(?<=[^-]font: )([\d.]+px) [^"\';]*', r"\1 system-ui, sans-serif", text).replace(
        "#111111", "currentColor"
    )
