"""The report of a few-shot study: its table of scores, and what it says is missing."""

from collections.abc import Mapping

from made_up_study import study_point

from pipeline.cli.study.few_shot_report import few_shot_report
from pipeline.cli.study.study_totals import StudyTotals
from pipeline.reporting.study.few_shot_tables import ScoredRun
from pipeline.reporting.study.study_page import StudyReport
from pipeline.store.counts import ModelScore

TOTALS = StudyTotals(2, 2, 1e9, None, "device-hours", [])
POINTS = [study_point("small", 1000, 10_000, 4.0), study_point("large", 2000, 10_000, 3.5)]


def row(task: str, shots: int, value: float, error: float | None = 0.01) -> ModelScore:
    return {
        "task": task,
        "shots": shots,
        "seed": 1234,
        "metric": "acc",
        "value": value,
        "standard_error": error,
        "items": 200,
        "chance": 0.5,
        "uniform": None,
        "model": "step_00000010",
        "title": "run@10",
        "step": 10,
        "tokens": 10_000,
        "parameters": 1000,
    }


def report_of(scores: Mapping[str, list[ModelScore]]) -> StudyReport:
    runs = [
        ScoredRun(point.name, point.parameters_total, point.tokens, point.flops, scores[point.name])
        for point in POINTS
    ]
    return few_shot_report("made up", POINTS, runs, TOTALS)


def test_the_table_has_a_row_a_task_and_a_column_for_each_number_of_examples() -> None:
    small = [row("t", 0, 0.5), row("t", 5, 0.625, error=None)]
    report = report_of({"small": small, "large": [row("t", 5, 0.75)]})
    (table,) = report.results
    assert table.table[0] == [
        "run", "task and metric", "N", "C", "chance", "k = 0", "k = 5",
    ]  # fmt: skip
    assert table.table[1] == [
        ["small", "t, acc", "1k", "6e7", "0.50", "0.5000 ± 0.0100", "0.6250"],
        ["large", "t, acc", "2k", "1.2e8", "0.50", "", "0.7500 ± 0.0100"],
    ]
    assert list(report.numbers) == ["scores"]


def test_a_task_that_some_runs_lack_is_named() -> None:
    small = [row("t", 0, 0.5), row("u", 0, 0.5)]
    report = report_of({"small": small, "large": [row("t", 0, 0.75)]})
    assert report.statements == ["Not in the means, as some runs lack it: u."]
    assert report.refusals == []
    assert "1 task," in report.line


def test_without_a_common_task_there_is_no_mean_but_figures_of_each() -> None:
    report = report_of({"small": [row("t", 0, 0.5)], "large": [row("u", 0, 0.75)]})
    assert report.refusals == [
        "no task has been scored in all runs at all numbers of examples, so no mean is drawn: let "
        "the runs be evaluated on the same tasks with the same evaluation.shots"
    ]
    assert [figure.table.name for figure in report.figures] == ["task_t", "task_u"]


def test_a_run_without_scores_is_listed_with_the_reason() -> None:
    report = report_of({"small": [row("t", 0, 0.5)], "large": []})
    assert [cells[:2] for cells in report.runs.table[1]] == [
        ["small", ""],
        ["large", "no scores yet"],
    ]
    assert [tile.detail for tile in report.tiles][:1] == ["1 with scores"]


def test_of_very_many_tasks_the_first_are_drawn_one_by_one() -> None:
    scores = [row(f"t{number}", 0, 0.5) for number in range(31)]
    report = report_of({"small": scores, "large": scores})
    assert report.statements == ["Drawn one by one are the first 30 of 31 tasks."]
    names = [figure.table.name for figure in report.figures]
    assert len([name for name in names if name.startswith("task_")]) == 30
