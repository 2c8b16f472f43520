"""Fitted laws as the tables and sentences of a study's page. Pure functions."""

import math
from collections.abc import Sequence

from pipeline.cli.study.fit_lines import (
    amount,
    amounts_with_bounds,
    prediction_line,
    with_bounds,
)
from pipeline.cli.study.fit_view import MEANINGS
from pipeline.logs import counted_noun, short
from pipeline.planning.laws.fit_summary import FitSummary
from pipeline.planning.laws.intervals import FittedNumber, Optimum
from pipeline.planning.laws.isoflop import optimum_exponent
from pipeline.planning.laws.points import COUNTS, Selection, count_words
from pipeline.planning.laws.refusals import refusals
from pipeline.reporting.study.study_page import TitledTable

NUMBERS_NOTE = (
    "[ ]: the middle 95 % of the fits to resamples of the runs. The runs do not determine a number that "
    "is not identified; between the runs the law can be right all the same, far beyond them it is a "
    "guess."
)
OPTIMA_NOTE = (
    "The best division of a compute of C = 6 N D FLOPs. *: more compute than any run had, so that the "
    "law is extrapolated."
)


def refusal_lines(selection: Selection) -> list[str]:
    """Return why there is no law, for each way of counting N; each reason once."""
    reasons: dict[str, list[str]] = {}
    counts = selection.table.counts
    for count in counts:
        for reason in refusals(selection, count):
            reasons.setdefault(reason, []).append(count)
    lines: list[str] = []
    for reason, refused in reasons.items():
        if len(refused) == len(counts):
            lines.append(reason)
        else:
            names = ", ".join(COUNTS[count] for count in refused)
            lines.append(f"with N = {names}: {reason}")
    return lines


def law_tables(summary: FitSummary) -> list[TitledTable]:
    """Return the numbers of a law with their intervals, and its best divisions."""
    # The numbers.
    count = count_words(summary.counts)
    rows = [
        [
            f"{number.symbol}: {MEANINGS[number.symbol]}",
            *with_bounds(number.interval),
            _verdict(number),
        ]
        for number in summary.numbers
    ]
    head = ["number", "fit", "[95 %]", "identified"]
    fitted = summary.fitted
    objective = (
        f"Objective {fitted.objective:.6g}: the sum of Huber losses of log L over "
        f"{counted_noun(len(fitted.points), 'run')}. "
    )
    numbers = TitledTable(f"Law with N = {count}", (head, rows), 1, objective + NUMBERS_NOTE)

    # The best divisions, at powers of ten.
    divisions = [
        _optimum_row(optimum)
        for optimum in summary.optima
        if math.log10(optimum.flops).is_integer()
    ]
    head = ["C", "N_opt", "[95 %]", "D_opt", "[95 %]", "D / N", "loss", "[95 %]"]
    title = f"Best division of a compute, N = {count}"
    return [numbers, TitledTable(title, (head, divisions), 1, OPTIMA_NOTE)]


def _verdict(number: FittedNumber) -> str:
    if number.is_identified:
        return "yes"
    return f"not identified: {number.doubt}"


def _optimum_row(optimum: Optimum) -> list[str]:
    flops = amount(optimum.flops, 0)
    if optimum.is_beyond:
        flops = f"{flops} *"
    ratio = optimum.tokens.value / optimum.parameters.value
    return [
        flops,
        *amounts_with_bounds(optimum.parameters),
        *amounts_with_bounds(optimum.tokens),
        short(ratio),
        *with_bounds(optimum.loss),
    ]


def law_sentences(summaries: Sequence[FitSummary]) -> list[str]:
    """Return what each law says, and how well a law of all other runs predicts the largest one."""
    sentences: list[str] = []
    for summary in summaries:
        prediction = prediction_line(summary.prediction)
        sentences.append(
            f"With N = {count_words(summary.counts)}: {_exponents(summary)}. "
            f"{prediction[0].upper()}{prediction[1:]}."
        )
    return sentences


def _exponents(summary: FitSummary) -> str:
    """Return how the best N grows with the compute, by the law and by parabolas."""
    growth = next(number for number in summary.numbers if number.symbol == "a")
    _, bounds = with_bounds(growth.interval)
    sentence = f"N_opt grows as C^{growth.interval.value:.3f} {bounds}"
    if not growth.is_identified:
        sentence += ", not identified"
    by_parabolas = optimum_exponent(summary.parabolas)
    if math.isfinite(by_parabolas):
        sentence += f"; by the minima of the parabolas, which are biased, as C^{by_parabolas:.3f}"
    return sentence
