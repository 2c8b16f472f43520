"""The section of report.html on generalisation: training against held-out loss, source by source."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pipeline.logs import number_or_blank, short
from pipeline.reporting.figures import COLOURS, GREY, STYLE, canvas, svg_of
from pipeline.reporting.generalisation import LossPoint, SourceCurves
from pipeline.reporting.page import Cell, figure_with_caption, html_table, note_below, section
from pipeline.reporting.run_data import RunData

TITLE = "Generalisation"
MOST_FIGURES = 12
"""Sources that have a figure, the first ones; the table has all."""
CUT_OFF = 0.05
"""Share of the run before which losses do not decide the frame: they fall steeply there."""


def generalisation_section(run: RunData) -> str:
    """Return training against held-out loss of each source; "" where the run recorded none."""
    curves = run.steps.curves
    if not curves:
        return ""
    drawn = [source for source in curves if len(source.training) > 1][:MOST_FIGURES]
    figures = [figure_with_caption(losses_of_source(source), _caption(source)) for source in drawn]
    held_out_targets = run.counts["train"].get("validation_targets_by_source", {})
    head = ["source", "training", "held out", "targets held out", "gap", "unseen", "repeated"]
    parts = [
        f"<div class=pair>{''.join(figures)}</div>" if figures else "",
        html_table(head, [_row(source, held_out_targets) for source in curves]),
        note_below(
            "Losses in nats per token. Training: the mean over the last interval between two "
            "validations, each target by the model of its step; held out: the last validation. The gap "
            "is the held-out minus the training loss, both at the middle of that interval; blank where "
            "there are fewer than two validations. Unseen and repeated: the last interval with training "
            "text that the run read for the first time, and again; blank where nothing was repeated. A "
            "gap before any text is repeated shows that held-out text differs from training text, or "
            "is chance, where few targets are held out. Targets held out: tokens that each validation "
            "predicts; blank for runs that did not record them."
        ),
    ]
    if len(curves) > len(drawn) and len(drawn) == MOST_FIGURES:
        parts.insert(1, note_below(f"Drawn are the first {MOST_FIGURES} sources."))
    return section(TITLE, *parts)


def _caption(source: SourceCurves) -> str:
    """Return what the figure of a source shows."""
    sentences = [f"{source.name}: training loss, means between validations"]
    if source.held_out:
        sentences[0] += ", and held-out loss; grey: the gap between them"
    sentences[0] += "."
    if source.repeated:
        sentences.append(
            "A source is read to its end before any of it comes again: what the training loss falls by "
            "where repeated text follows unseen text, and the held-out loss does not, is what the model "
            "remembers of it."
        )
    return " ".join(sentences)


def losses_of_source(source: SourceCurves) -> str:
    """Draw training and held-out loss of a source over tokens, and unseen beside repeated text."""
    with mpl.rc_context(STYLE):
        # What was trained on.
        figure, axes = canvas(3.0, 4.7)
        if source.repeated:
            axes.plot(*_columns(source.unseen), color=COLOURS[0], label="training, unseen")
            axes.plot(
                *_columns(source.repeated), "--", color=COLOURS[3], label="training, repeated"
            )
        else:
            axes.plot(*_columns(source.training), color=COLOURS[0], label="training")

        # What was held out, and the gap between both.
        axes.plot(
            *_columns(source.held_out), "o-", color=COLOURS[1], markersize=4, label="held out"
        )
        gaps = source.gaps
        losses = {point.tokens: point.loss for point in source.training}
        lower = [losses[gap.tokens] for gap in gaps]
        upper = [losses[gap.tokens] + gap.loss for gap in gaps]
        axes.fill_between(
            [gap.tokens for gap in gaps], lower, upper, color=GREY, alpha=0.25, linewidth=0
        )

        # The frame leaves out the steep beginning.
        points = [*source.training, *source.held_out]
        end = max(point.tokens for point in points)
        heights = [point.loss for point in points if point.tokens >= CUT_OFF * end]
        margin = 0.06 * (max(heights) - min(heights)) or 0.5
        axes.set_ylim(min(heights) - margin, max(heights) + margin)
        axes.set_ylabel("nats per token")
        axes.set_xlabel("tokens")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        axes.legend(fontsize=9)
        return svg_of(figure)


def _columns(points: Sequence[LossPoint]) -> tuple[list[float], list[float]]:
    return [point.tokens for point in points], [point.loss for point in points]


def _last(points: Sequence[LossPoint]) -> str:
    """Return the last loss; "" where there is none."""
    if not points:
        return ""
    return f"{points[-1].loss:.3f}"


def _row(source: SourceCurves, held_out_targets: Mapping[str, int]) -> list[Cell]:
    """Return the last losses of a source as cells of the table."""
    gaps = source.gaps
    targets = held_out_targets.get(source.name)
    return [
        source.name,
        _last(source.training),
        _last(source.held_out),
        number_or_blank(targets, ",d"),
        f"{gaps[-1].loss:+.3f}" if gaps else "",
        _last(source.unseen),
        _last(source.repeated),
    ]
