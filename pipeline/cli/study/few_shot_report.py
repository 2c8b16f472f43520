"""The report of a few-shot study: accuracy over examples, size and compute, for its page.

Pure functions.
"""

from collections.abc import Sequence

from pipeline.cli.study.study_totals import StudyTotals, runs_table, total_tiles
from pipeline.logs import counted_noun, number_or_blank, scientific, short
from pipeline.planning.study.points import StudyPoint
from pipeline.reporting.page import Cell
from pipeline.reporting.study.few_shot_looks import few_shot_caption, few_shot_look
from pipeline.reporting.study.few_shot_tables import (
    MOST_TASKS,
    RunScore,
    ScoredRun,
    few_shot_tables,
    study_scores,
)
from pipeline.reporting.study.study_page import StudyFigure, StudyReport, TitledTable

SCORES_NOTE = "The last checkpoint of each run; several seeds of the examples are averaged."


def few_shot_report(
    title: str, points: Sequence[StudyPoint], runs: Sequence[ScoredRun], totals: StudyTotals
) -> StudyReport:
    """Return the report; runs without scores are in the table of runs only."""
    # What all scored runs have.
    scored = [run for run in runs if run.scores]
    scores = study_scores(scored)
    refusals: list[str] = []
    if not scores.tasks:
        refusals.append(
            "no task has been scored in all runs at all numbers of examples, so no mean is drawn: "
            "let the runs be evaluated on the same tasks with the same evaluation.shots"
        )
    statements: list[str] = []
    if scores.incomplete:
        statements.append(
            f"Not in the means, as some runs lack it: {', '.join(scores.incomplete)}."
        )
    number = len(scores.tasks) + len(scores.incomplete)
    if number > MOST_TASKS:
        statements.append(f"Drawn one by one are the first {MOST_TASKS} of {number} tasks.")

    # The parts of the page.
    used = f"{len(scored)} with scores"
    reasons = {run.name: "no scores yet" for run in runs if not run.scores}
    return StudyReport(
        title=title,
        line=(
            f"Scores of {counted_noun(len(scored), 'run')} in "
            f"{counted_noun(len(scores.tasks), 'task')}, over examples, size and compute."
        ),
        tiles=total_tiles(totals, used),
        refusals=refusals,
        statements=statements,
        figures=[
            StudyFigure(table, few_shot_look(table), few_shot_caption(table, scores))
            for table in few_shot_tables(scored)
        ],
        numbers={"scores": scores.csv_text()},
        results=[_scores_table([*scores.accuracies, *scores.answer_bits])],
        runs=runs_table(points, reasons, totals.not_begun),
    )


def _scores_table(scores: Sequence[RunScore]) -> TitledTable:
    """Return a row for each run, task and metric, with a column for each number of examples."""
    numbers = sorted({score.shots for score in scores})
    rows: dict[tuple[str, str, str], list[Cell]] = {}
    for score in scores:
        blank: list[Cell] = [
            score.run.name,
            f"{score.task}, {score.metric}",
            short(score.run.parameters),
            scientific(score.run.flops),
            number_or_blank(score.chance, ".2f"),
            *("" for _ in numbers),
        ]
        row = rows.setdefault((score.run.name, score.task, score.metric), blank)
        row[len(row) - len(numbers) + numbers.index(score.shots)] = _with_error(score)
    head = ["run", "task and metric", "N", "C", "chance", *(f"k = {shots}" for shots in numbers)]
    return TitledTable("Scores", (head, list(rows.values())), 1, SCORES_NOTE)


def _with_error(score: RunScore) -> str:
    if score.standard_error is None:
        return f"{score.score:.4f}"
    return f"{score.score:.4f} ± {score.standard_error:.4f}"
