"""What `pipeline study fit` prints: laws of the loss with intervals, and what is not known.

Reads a table of points, writes `fits.json`. Imports no torch.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.cli.study.fit_lines import (
    UNIT_WORDS,
    amount,
    amounts_with_bounds,
    prediction_line,
    with_bounds,
)
from pipeline.errors import ConfigError, first_of
from pipeline.logs import console, counted_noun, note, print_json, print_wide, progress
from pipeline.planning.laws.fit import RESAMPLES, SEED
from pipeline.planning.laws.fit_summary import FITS_A_COUNT, FitSummary, summaries_of
from pipeline.planning.laws.fits_file import fits_as_json, write_fits
from pipeline.planning.laws.intervals import Optimum
from pipeline.planning.laws.isoflop import Parabola, optimum_exponent
from pipeline.planning.laws.loss_law import Unit
from pipeline.planning.laws.points import (
    COUNTS,
    PointTable,
    Selection,
    count_words,
    product_remarks,
    select_points,
)
from pipeline.planning.laws.points_file import read_points
from pipeline.planning.laws.refusals import refusals
from pipeline.store.files import refuse_unwritable
from pipeline.store.studies.study_folder import FITS

LEAST_WIDTH = 98
NAMES_SHOWN = 5
"""Names of dropped points that are printed for each reason; the file has all."""
MEANINGS = {
    "E": "irreducible loss",
    "A": "factor of 1 / N^alpha",
    "alpha": "how fast size helps",
    "B": "factor of 1 / D^beta",
    "beta": "how fast text helps",
    "a": "N_opt grows as C^a",
}
"""Symbol -> what a stranger should know of it."""


@dataclass(frozen=True)
class FitQuestion:
    """What `study fit` is asked for."""

    points: Path
    unit: Unit
    leave_out: Sequence[str]
    drop_highest: int
    resamples: int
    seed: int
    computes: Sequence[float]
    """FLOPs at which the optimum is printed, beside powers of ten."""
    output: Path | None
    """None: beside the table."""


def show_fits(question: FitQuestion, *, as_json: bool) -> None:
    """Fit a table's law for each way of counting N, print and write it.

    Raises DataError and ConfigError for a table that cannot be read, UserError for a file that cannot be
    written, before any fit, and RequirementError for points that forbid one.
    """
    table = read_points(question.points, question.unit)
    output = question.output or question.points.with_name(FITS)
    refuse_unwritable(output, "--output", is_folder=False)
    _refuse_wrong_options(question, table)
    selection = select_points(
        table, leave_out=question.leave_out, drop_highest=question.drop_highest
    )
    if not as_json:
        _print_points(selection)
    summaries = fit_with_progress(
        selection,
        resamples=question.resamples,
        seed=question.seed,
        computes=question.computes,
    )
    write_fits(output, selection, summaries)
    if as_json:
        print_json(fits_as_json(selection, summaries))
    else:
        _print_refused_counts(selection)
        for summary in summaries:
            _print_fit(summary, question.computes)
    note(f"wrote {output}")


def _refuse_wrong_options(question: FitQuestion, table: PointTable) -> None:
    """Raise ConfigError for names that the table lacks, and for impossible computes."""
    names = {point.name for point in table.points}
    problems = [
        f"--leave-out {name}: {table.name} has no run of that name; rows without a name are called "
        "`line 7`"
        for name in question.leave_out
        if name not in names
    ]
    problems += [
        f"--at {flops}: a compute is a finite number of FLOPs above 0, such as 1e21"
        for flops in question.computes
        if not (flops > 0 and math.isfinite(flops))
    ]
    if problems:
        raise ConfigError(problems, "the options")


def fit_with_progress(
    selection: Selection,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    computes: Sequence[float] = (),
) -> list[FitSummary]:
    """Return the fit of each way of counting N, with a bar meanwhile.

    Raises RequirementError, before any fit, where the points forbid one for every way of counting.
    """
    total = FITS_A_COUNT * resamples * len(selection.equal_counts)
    done = 0
    with progress("fit", total, "resamples") as update:

        def report() -> None:
            nonlocal done
            done += 1
            update(done, "")

        return list(
            summaries_of(
                selection, resamples=resamples, seed=seed, computes=computes, report=report
            )
        )


def _print_points(selection: Selection) -> None:
    """Print how many points are used, and each reason for which others are not."""
    table = selection.table
    console.print(
        f"{table.name}: {counted_noun(len(table.points), 'point')}, losses in "
        f"{UNIT_WORDS[table.unit]}; {len(selection.kept):,} used"
    )
    reasons = Counter(point.reason for point in selection.dropped)
    for reason, number in reasons.items():
        names = [point.name for point in selection.dropped if point.reason == reason]
        console.print(
            f"  {number:,} not used, {reason}: {first_of(names, NAMES_SHOWN)}", soft_wrap=True
        )


def _print_refused_counts(selection: Selection) -> None:
    """Print for which ways of counting N there is no fit, and why."""
    for counts in selection.equal_counts:
        for reason in refusals(selection, counts[0]):
            console.print(f"no law with N = {count_words(counts)}: {reason}", soft_wrap=True)


def _print_fit(summary: FitSummary, computes: Sequence[float]) -> None:
    """Print the law of one way of counting N, and what follows from it."""
    fitted = summary.fitted

    # What is fitted, and how well.
    console.print(
        f"\nL(N, D) = E + A / N^alpha + B / D^beta, N = {COUNTS[fitted.count]}", style="bold"
    )
    if len(summary.counts) > 1:
        console.print(f"{count_words(summary.counts)}, in all points: one law", soft_wrap=True)
    console.print(
        f"objective {fitted.objective:.10f}: sum of Huber losses of log L over "
        f"{counted_noun(len(fitted.points), 'point')}",
        soft_wrap=True,
    )
    console.print(
        f"[ ]: 95 % intervals of {len(fitted.resampled):,} resamples, seed {fitted.seed}\n",
        soft_wrap=True,
    )
    _print_numbers(summary)

    # What follows from it.
    _print_optima(
        [
            optimum
            for optimum in summary.optima
            if optimum.flops in computes or math.log10(optimum.flops).is_integer()
        ]
    )
    for remark in product_remarks(fitted.points, fitted.count):
        console.print(remark, soft_wrap=True)
    _print_parabolas(summary)
    console.print(f"\n{prediction_line(summary.prediction)}", soft_wrap=True)


def _print_numbers(summary: FitSummary) -> None:
    """Print each number of a law with its interval, and whether it is identified."""
    from rich.table import Table

    rows = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for number in summary.numbers:
        verdict = ""
        if not number.is_identified:
            verdict = f"not identified: {number.doubt}"
        rows.add_row(
            number.symbol,
            *with_bounds(number.interval),
            MEANINGS[number.symbol],
            verdict,
        )
    print_wide(rows, LEAST_WIDTH)


def _print_optima(optima: Sequence[Optimum]) -> None:
    """Print how each compute is best divided into parameters and tokens."""
    from rich.table import Table

    console.print("\nbest division of a compute of C = 6 N D FLOPs; *: beyond the runs")
    rows = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("C", "N_opt", "", "D_opt", "", "loss", ""):
        rows.add_column(heading, no_wrap=True)
    for optimum in optima:
        beyond = ""
        if optimum.is_beyond:
            beyond = "*"
        rows.add_row(
            f"{amount(optimum.flops, 2)}{beyond}",
            *amounts_with_bounds(optimum.parameters),
            *amounts_with_bounds(optimum.tokens),
            *with_bounds(optimum.loss),
        )
    print_wide(rows, LEAST_WIDTH)


def _print_parabolas(summary: FitSummary) -> None:
    """Print the minima of an isoFLOP grid's parabolas, which are biased."""
    if not summary.parabolas:
        return
    console.print("\nparabolas through each budget: a picture, biased even without noise")
    for parabola in summary.parabolas:
        console.print(f"  C = {amount(parabola.flops, 2)}: {_minimum_words(parabola)}")
    exponent = optimum_exponent(summary.parabolas)
    if math.isfinite(exponent):
        console.print(f"  N_opt grows as C^{exponent:.3f} by their minima")


def _minimum_words(parabola: Parabola) -> str:
    """Return where a parabola is lowest, in words."""
    if math.isnan(parabola.minimum):
        return "bent downwards, without a minimum"
    where = "inside the grid"
    if not parabola.is_inside:
        where = "outside the grid"
    return f"lowest at N = {amount(parabola.minimum, 3)}, {where}, with a loss of {parabola.lowest:.4f}"
