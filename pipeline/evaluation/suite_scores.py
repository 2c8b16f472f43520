"""The score of a suite: the mean over its benchmarks, each by the metric that its source publishes.

Reads the table of scores, `scores.jsonl`; writes `suite.json` beside it. Imports no lm-eval.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

import orjson

from pipeline.config.suites import Suite, SuiteTask
from pipeline.corpus.decontaminating.task_groups import members_of
from pipeline.evaluation.built_in.built_in_tasks import PATTERN_TASKS
from pipeline.store.counts import ModelScore, scores_with_values
from pipeline.store.files import write_json
from pipeline.store.scores_folder import FIRST_SEED, ScoresFolder


class BenchmarkScore(TypedDict):
    """One benchmark's part of a suite's score."""

    benchmark: str
    task: str
    """The task that was counted: of several that ask the same questions, the one with the best
    score."""
    shots: int
    metric: str
    value: float
    standard_error: float | None
    chance: float
    """Score of guessing that the suite's source subtracts; 0 where the model writes freely."""


class SuiteScore(TypedDict):
    """The score of one model in a suite, at one choice of the numbers of examples."""

    suite: str
    model: str
    """Name of the folder of the model's cells."""
    title: str
    step: int | None
    tokens: int | None
    shots: str
    """Numbers of solved examples in words: `k = 5`, or `k as published` where they differ."""
    mean: float
    """Mean over the benchmarks."""
    standard_error: float | None
    centred_mean: float
    """Mean of (score - chance) / (1 - chance): 0 for guessing, 1 for all right."""
    benchmarks: list[BenchmarkScore]
    missing: list[str]
    """Benchmarks of the suite that are not in the mean."""


def tasks_of_suite_entry(entry: SuiteTask) -> tuple[str, ...]:
    """Return the tasks that are scored for an entry of a suite: a group's, or itself."""
    if entry.name == "patterns":
        return PATTERN_TASKS
    return members_of(entry.name)


def suite_scores(
    suite: Suite, shots: Mapping[str, Sequence[int]], rows: Iterable[ModelScore]
) -> list[SuiteScore]:
    """Return the suite's scores of each model in a table of scores, in the order of the table.

    `shots`: numbers of examples with which each task was asked, ascending. Where all tasks have as
    many numbers, there is a score for the first of each, the second of each, and so on; otherwise
    one over all. A score exists where every task of the suite was scored. Standard errors of
    benchmarks are taken as independent.

    Source of `centred_mean`: DCLM (Li et al. 2024, arXiv:2406.11794), the "centered accuracy".
    """
    by_model: dict[str, list[ModelScore]] = {}
    for row in rows:
        if row["seed"] == FIRST_SEED:
            by_model.setdefault(row["model"], []).append(row)
    scores: list[SuiteScore] = []
    for table in by_model.values():
        for column in _columns(suite.tasks, shots):
            score = _score_of_column(suite, column, table)
            if score is not None:
                scores.append(score)
    return scores


def write_suite_scores(
    folder: ScoresFolder, suite: Suite, shots: Mapping[str, Sequence[int]]
) -> list[SuiteScore]:
    """Write the suite's scores of all models in the table of scores; return them."""
    scores = suite_scores(suite, shots, stored_table(folder))
    write_json(folder.suite, scores)
    return scores


def stored_table(folder: ScoresFolder) -> list[ModelScore]:
    """Return the table of all scores of a run, without lines that have no value."""
    lines = folder.table.read_bytes().splitlines()
    return scores_with_values(orjson.loads(line) for line in lines)


Column = list[tuple[SuiteTask, int]]
"""Tasks, each with a number of examples."""


def _columns(tasks: Sequence[SuiteTask], shots: Mapping[str, Sequence[int]]) -> list[Column]:
    """Return the tasks with one number of examples each; all numbers together where they differ."""
    if not tasks:
        return []
    lengths = {len(shots[task.name]) for task in tasks}
    if len(lengths) == 1:
        (length,) = lengths
        return [[(task, shots[task.name][place]) for task in tasks] for place in range(length)]
    return [[(task, number) for task in tasks for number in shots[task.name]]]


def _score_of_column(
    suite: Suite, column: Column, table: Sequence[ModelScore]
) -> SuiteScore | None:
    """Return the mean over the benchmarks; None where a task was not scored."""
    best: dict[str, BenchmarkScore] = {}
    for task, number in column:
        score = _score_of_task(task, number, table)
        if score is None:
            return None
        # One benchmark may be asked in several ways, and one way with several numbers of examples.
        key = f"{score['benchmark']} {number}"
        if task.benchmark is not None:
            key = task.benchmark
        if key not in best or best[key]["value"] < score["value"]:
            best[key] = score
    benchmarks = list(best.values())
    errors = [score["standard_error"] for score in benchmarks]
    known = [error for error in errors if error is not None]
    standard_error = None
    if len(known) == len(errors):
        standard_error = math.sqrt(sum(error**2 for error in known)) / len(known)
    numbers = {number for _, number in column}
    words = "k as published"
    if len(numbers) == 1:
        words = f"k = {numbers.pop()}"
    first = table[0]
    return {
        "suite": suite.name,
        "model": first["model"],
        "title": first["title"],
        "step": first["step"],
        "tokens": first["tokens"],
        "shots": words,
        "mean": sum(score["value"] for score in benchmarks) / len(benchmarks),
        "standard_error": standard_error,
        "centred_mean": sum(map(_centred, benchmarks)) / len(benchmarks),
        "benchmarks": benchmarks,
        "missing": list(suite.missing),
    }


def _centred(score: BenchmarkScore) -> float:
    return (score["value"] - score["chance"]) / (1 - score["chance"])


def _score_of_task(
    task: SuiteTask, number: int, table: Sequence[ModelScore]
) -> BenchmarkScore | None:
    """Return the score of a task, or of a group over all questions of its tasks."""
    members = tasks_of_suite_entry(task)
    rows = [
        row
        for row in table
        if row["task"] in members and row["shots"] == number and _is_metric(row, task.metric)
    ]
    if {row["task"] for row in rows} != set(members):
        return None

    # A group's score weights its tasks by their questions, as lm-eval's groups do here.
    items = sum(row["items"] for row in rows)
    squares: float | None = 0.0
    for row in rows:
        if row["standard_error"] is None:
            squares = None
            break
        squares += (row["items"] / items * row["standard_error"]) ** 2
    return {
        "benchmark": task.benchmark or task.name,
        "task": task.name,
        "shots": number,
        "metric": task.metric,
        "value": sum(row["value"] * row["items"] for row in rows) / items,
        "standard_error": None if squares is None else math.sqrt(squares),
        "chance": task.chance or 0.0,
    }


def _is_metric(row: ModelScore, metric: str) -> bool:
    """Tell whether a row is of a metric; lm-eval adds the name of a filter in brackets."""
    return row["metric"] == metric or row["metric"].startswith(f"{metric} (")
