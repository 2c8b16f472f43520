"""Scores of a run's models, task by task, as the figures need them.

Takes the lines of `run_dir/evaluation/scores.jsonl`, one for each metric of each task and model, and
the scores of suites in `suite.json`. Reads and writes nothing.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pipeline.evaluation.built_in.built_in_tasks import BUILT_IN
from pipeline.evaluation.comparing.compared_scores import PREFERRED_METRICS
from pipeline.evaluation.comparing.paired_tests import mean_of_tasks
from pipeline.evaluation.suite_scores import SuiteScore
from pipeline.store.counts import ModelScore, TaskScore
from pipeline.store.scores_folder import is_own_merge, own_step

FAMILIES = ("mmlu", "blimp")
"""Benchmarks of many tasks, `mmlu_anatomy` and so on, whose mean is drawn in place of each."""


@dataclass(frozen=True)
class ScorePoint:
    """The score of one model in a task, at one number of examples."""

    model: str
    """Name of the model's cells."""
    title: str
    step: int | None
    tokens: int | None
    parameters: int
    shots: int
    label: str
    """Number of examples in words, for a legend."""
    score: float
    standard_error: float | None

    @property
    def is_checkpoint(self) -> bool:
        """Tell whether the model is a checkpoint of the run itself."""
        return own_step(self.model, self.step) is not None

    @property
    def is_merge(self) -> bool:
        return is_own_merge(self.model)


@dataclass(frozen=True)
class TaskCurves:
    """All models' scores in one task."""

    task: str
    metric: str
    points: Sequence[ScorePoint]
    """Sorted by number of examples, then tokens."""
    chance: float | None
    uniform: float | None
    """Score of a model of uniform token probabilities."""

    @property
    def checkpoints(self) -> list[ScorePoint]:
        return [point for point in self.points if point.is_checkpoint]

    @property
    def last(self) -> list[ScorePoint]:
        """Scores of the run's last scored checkpoint, by number of examples."""
        steps = [point.step or 0 for point in self.checkpoints]
        return [point for point in self.checkpoints if point.step == max(steps)]

    @property
    def others(self) -> list[ScorePoint]:
        """Scores of models that are neither checkpoints of the run nor their means."""
        return [point for point in self.points if not (point.is_checkpoint or point.is_merge)]


def task_curves(rows: Sequence[ModelScore], suites: Sequence[SuiteScore] = ()) -> list[TaskCurves]:
    """Return the scores of each task by one metric: that of its suite, else the usual one.

    `suites`: scores of the suites that the tasks may be in. Tasks of a family are averaged: their
    error is that of a mean of independent scores.
    """
    published = {
        benchmark["task"]: benchmark["metric"]
        for score in suites
        for benchmark in score["benchmarks"]
    }
    curves: list[TaskCurves] = []
    families: dict[str, list[list[ModelScore]]] = {}
    for task in dict.fromkeys(row["task"] for row in rows):
        of_task = [row for row in rows if row["task"] == task]
        family = task.partition("_")[0]
        if family in FAMILIES and family != task:
            families.setdefault(family, []).append(of_task)
        else:
            curves.append(_curves(task, of_task, published.get(task)))
    return curves + [_mean_curves(name, tasks) for name, tasks in families.items()]


def suite_curves(scores: Sequence[SuiteScore], rows: Sequence[ModelScore]) -> list[TaskCurves]:
    """Return the means of suites over their benchmarks, as those of one task.

    `rows`: scores of the same models, which know the models' parameters.
    """
    parameters = {row["model"]: row["parameters"] for row in rows}
    by_suite: dict[str, list[SuiteScore]] = {}
    for score in scores:
        by_suite.setdefault(score["suite"], []).append(score)
    curves: list[TaskCurves] = []
    for suite, of_suite in by_suite.items():
        labels = list(dict.fromkeys(score["shots"] for score in of_suite))
        points = [
            ScorePoint(
                score["model"],
                score["title"],
                score["step"],
                score["tokens"],
                parameters.get(score["model"], 0),
                shots=labels.index(score["shots"]),
                label=score["shots"],
                score=score["mean"],
                standard_error=score["standard_error"],
            )
            for score in of_suite
        ]
        chances = [benchmark["chance"] for benchmark in of_suite[0]["benchmarks"]]
        chance = _mean_or_none(chances)
        curves.append(TaskCurves(f"suite {suite}", "mean", _sorted(points), chance, None))
    return curves


def _curves(task: str, rows: Sequence[ModelScore], metric: str | None) -> TaskCurves:
    """Return one task's scores by a metric or the usual one, means over the seeds."""
    metrics = {row["metric"] for row in rows}
    if metric not in metrics:
        # `acc_mutual_info` follows from the cells of all tasks; public ones are known by others.
        order = PREFERRED_METRICS
        if task not in BUILT_IN:
            order = sorted(order, key=lambda name: name == "acc_mutual_info")
        metric = next((name for name in order if name in metrics), rows[0]["metric"])
    by_cell: dict[tuple[str, int], list[ModelScore]] = {}
    for row in rows:
        if row["metric"] == metric:
            by_cell.setdefault((row["model"], row["shots"]), []).append(row)
    points = [_point(seeds) for seeds in by_cell.values()]
    first = next(iter(by_cell.values()))[0]
    return TaskCurves(task, metric, _sorted(points), first["chance"], first["uniform"])


def mean_over_seeds(seeds: Sequence[TaskScore]) -> tuple[float, float | None]:
    """Return mean and error of one score over seeds of the examples.

    The error is that of the questions, which all seeds share, and that of the choice of examples.
    """
    if len(seeds) == 1:
        return seeds[0]["value"], seeds[0]["standard_error"]
    values = [row["value"] for row in seeds]
    mean = sum(values) / len(values)
    errors = [row["standard_error"] for row in seeds if row["standard_error"] is not None]
    if len(errors) < len(seeds):
        return mean, None
    of_questions = (sum(errors) / len(errors)) ** 2
    of_examples = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, math.sqrt(of_questions + of_examples / len(values))


def _point(seeds: Sequence[ModelScore]) -> ScorePoint:
    """Return the point of one model at one number of examples, from all seeds."""
    mean, error = mean_over_seeds(seeds)
    row = seeds[0]
    return ScorePoint(
        row["model"],
        row["title"],
        row["step"],
        row["tokens"],
        row["parameters"],
        shots=row["shots"],
        label=f"k = {row['shots']}",
        score=mean,
        standard_error=error,
    )


def _mean_curves(family: str, tasks: Sequence[Sequence[ModelScore]]) -> TaskCurves:
    """Return the mean over the tasks of a family, for models that have been scored in all."""
    # The points of each model and number of examples, over the tasks.
    curves = [_curves(rows[0]["task"], rows, None) for rows in tasks]
    by_cell: dict[tuple[str, int], list[ScorePoint]] = {}
    for curve in curves:
        for point in curve.points:
            by_cell.setdefault((point.model, point.shots), []).append(point)

    # Their means.
    points: list[ScorePoint] = []
    for members in by_cell.values():
        if len(members) < len(curves):
            continue
        of_family = mean_of_tasks(
            [point.score for point in members], [point.standard_error for point in members]
        )
        points.append(
            replace(members[0], score=of_family.mean, standard_error=of_family.standard_error)
        )
    chance = _mean_or_none(curve.chance for curve in curves)
    uniform = _mean_or_none(curve.uniform for curve in curves)
    return TaskCurves(family, curves[0].metric, _sorted(points), chance, uniform)


def _sorted(points: Iterable[ScorePoint]) -> list[ScorePoint]:
    return sorted(points, key=lambda point: (point.shots, point.tokens or 0, point.model))


def _mean_or_none(values: Iterable[float | None]) -> float | None:
    listed = list(values)
    numbers = [value for value in listed if value is not None]
    if not numbers or len(numbers) < len(listed):
        return None
    return sum(numbers) / len(numbers)
