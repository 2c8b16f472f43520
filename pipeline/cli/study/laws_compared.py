"""What `pipeline study compare` prints: which procedure is better, from which compute on.

Reads tables of points. Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path

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
    if len(question.tables) < 2:
        raise ConfigError(["name two tables or more: each is compared with each"], "the options")
    selections = [_selection(path, question.unit) for path in question.tables]
    count = _common_count(selections, question.count)
    for selection in selections:
        refuse_unfit(selection, count)
    laws, predictions = _fitted(selections, count, question)
    comparisons = [compare_laws(first, second) for first, second in combinations(laws, 2)]
    if as_json:
        print_json(
            {
                "unit": question.unit,
                "count": count,
                "largest_runs": [prediction and asdict(prediction) for prediction in predictions],
                "comparisons": [asdict(comparison) for comparison in comparisons],
            }
        )
        return
    console.print(f"losses in {UNIT_WORDS[question.unit]}, N = {COUNTS[count]}")
    for law, prediction in zip(laws, predictions, strict=True):
        console.print(f"{law.law.name}: {prediction_line(prediction)}", soft_wrap=True)
    for comparison in comparisons:
        _print_comparison(comparison)


def _selection(path: Path, unit: Unit) -> Selection:
    """Return the points of a table that a fit uses; the table is named by its path."""
    table = read_points(path, unit)
    return select_points(replace(table, name=str(path)))


def _common_count(selections: Sequence[Selection], asked: str | None) -> str:
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


def _fitted(
    selections: Sequence[Selection], count: str, question: CompareQuestion
) -> tuple[list[FittedLaw], list[Prediction | None]]:
    """Return the law of each table and the prediction of its largest run, with a bar meanwhile."""
    total = len(selections) * question.resamples * FITS_A_COUNT
    done = 0
    laws: list[FittedLaw] = []
    predictions: list[Prediction | None] = []
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
                question.unit,
                resamples=question.resamples,
                seed=question.seed,
                report=report,
            )
            laws.append(law)
            predictions.append(prediction_of(selection, law, report))
    return laws, predictions


def _print_comparison(comparison: CurveComparison) -> None:
    """Print both curves with their bands, their difference, and what follows."""
    from rich.table import Table

    console.print(f"\n{comparison.first} and {comparison.second}", style="bold")
    console.print("lowest loss at a compute, second minus first:")
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
    for sentence in comparison_words(comparison):
        console.print(sentence, soft_wrap=True)
