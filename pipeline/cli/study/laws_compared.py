"""What `pipeline study compare` prints: which procedure is better, from which compute on.

Reads tables of points. Imports no torch.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TypeVar

from pipeline.cli.study.compared_tables import grid_remarks, refuse_other_held_out_text
from pipeline.cli.study.fit_lines import UNIT_WORDS, amount, prediction_line, with_bounds
from pipeline.errors import ConfigError
from pipeline.logs import console, print_json, print_wide, progress
from pipeline.planning.laws.comparison import (
    CurveComparison,
    Prediction,
    compare_laws,
    comparison_words,
)
from pipeline.planning.laws.fit import FittedLaw, fit_law
from pipeline.planning.laws.fit_summary import FITS_A_COUNT, prediction_of
from pipeline.planning.laws.loss_law import Unit
from pipeline.planning.laws.points import COUNTS, Selection, select_points
from pipeline.planning.laws.points_file import read_points
from pipeline.planning.laws.refusals import refuse_unfit

LEAST_WIDTH = 98
Report = Callable[[], None]
"""Called after each resample."""
Result = TypeVar("Result")
POINTWISE = (
    "[ ]: 95 % bands, each for one compute alone (pointwise): at some of many computes a band can leave "
    "out 0 by chance"
)


@dataclass(frozen=True)
class CompareQuestion:
    """What `study compare` is asked for."""

    tables: Sequence[Path]
    unit: Unit
    count: str | None
    """How N is counted; None: the first way that all tables have."""
    resamples: int
    seed: int


def show_law_comparison(question: CompareQuestion, *, as_json: bool) -> None:
    """Fit a law to each table and print, for each pair, which is better and where.

    Raises ConfigError for tables that cannot be compared, RequirementError for points that forbid a
    fit.
    """
    # The points, counted in one way.
    problems = too_few_tables(question.tables)
    if problems:
        raise ConfigError(problems, "the options")
    selections = [_selection(path, question.unit) for path in question.tables]
    refuse_other_held_out_text(selections)
    count = common_count(selections, question.count)
    for selection in selections:
        refuse_unfit(selection, count)

    # The laws, each pair, and what is printed.
    fitted = fit_each(selections, count, question, _law_and_prediction)
    comparisons = [
        compare_laws(first, second) for (first, _), (second, _) in combinations(fitted, 2)
    ]
    remarks = grid_remarks(selections, count)
    if as_json:
        print_json(
            {
                "unit": question.unit,
                "count": count,
                "remarks": remarks,
                "largest_runs": [prediction and asdict(prediction) for _, prediction in fitted],
                "comparisons": [asdict(comparison) for comparison in comparisons],
            }
        )
        return
    console.print(f"losses in {UNIT_WORDS[question.unit]}, N = {COUNTS[count]}")
    for law, prediction in fitted:
        console.print(f"{law.law.name}: {prediction_line(prediction)}", soft_wrap=True)
    for remark in remarks:
        console.print(remark, soft_wrap=True)
    for comparison in comparisons:
        print_comparison(comparison, "lowest loss at a compute, second minus first:")


def too_few_tables(tables: Sequence[Path]) -> list[str]:
    """Return that there is nothing to compare; empty for two tables or more."""
    if len(tables) < 2:
        return ["name two tables or more: each is compared with each"]
    return []


def _law_and_prediction(
    selection: Selection, law: FittedLaw, report: Report
) -> tuple[FittedLaw, Prediction | None]:
    return law, prediction_of(selection, law, report)


def _selection(path: Path, unit: Unit) -> Selection:
    """Return the points of a table that a fit uses; the table is named by its path."""
    table = read_points(path, unit)
    return select_points(replace(table, name=str(path)))


def common_count(selections: Sequence[Selection], asked: str | None) -> str:
    """Return the way of counting N. Raises ConfigError where a table lacks it."""
    common = [
        count
        for count in COUNTS
        if all(count in selection.table.counts for selection in selections)
    ]
    wanted = [count for count in common if asked in (None, count)]
    if wanted:
        return wanted[0]
    columns = "; ".join(
        f"{selection.table.name} has {', '.join(selection.table.counts) or 'none'}"
        for selection in selections
    )
    raise ConfigError(
        [
            f"--count {asked or '(any)'}: N must be counted in one way in all tables; {columns}. Add "
            "the column, or name another with --count"
        ],
        "the options",
    )


def fit_each(
    selections: Sequence[Selection],
    count: str,
    question: CompareQuestion,
    finish: Callable[[Selection, FittedLaw, Report], Result],
) -> list[Result]:
    """Fit a law to each table and return what `finish` makes of it, with a bar meanwhile."""
    total = len(selections) * question.resamples * FITS_A_COUNT
    done = 0
    results: list[Result] = []
    with progress("fit", total, "resamples") as update:

        def report() -> None:
            nonlocal done
            done += 1
            update(done, "")

        for selection in selections:
            law = fit_law(
                selection.kept,
                count,
                selection.table.name,
                selection.table.unit,
                resamples=question.resamples,
                seed=question.seed,
                report=report,
            )
            results.append(finish(selection, law, report))
    return results


def print_comparison(comparison: CurveComparison, quantity: str) -> None:
    """Print both curves with their bands, their difference, and what follows.

    `quantity`: the line above the numbers.
    """
    from rich.table import Table

    console.print(f"\n{comparison.first} and {comparison.second}", style="bold")
    console.print(quantity)
    rows = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("C", "first", "", "second", "", "difference", ""):
        rows.add_column(heading, no_wrap=True)
    for place, flops in enumerate(comparison.axis):
        rows.add_row(
            amount(flops, 2),
            *with_bounds(comparison.first_curve[place]),
            *with_bounds(comparison.second_curve[place]),
            *with_bounds(comparison.difference[place]),
        )
    print_wide(rows, LEAST_WIDTH)
    console.print(POINTWISE, soft_wrap=True)
    for sentence in comparison_words(comparison):
        console.print(sentence, soft_wrap=True)
