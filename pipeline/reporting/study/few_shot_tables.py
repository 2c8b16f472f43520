"""The numbers of a few-shot study's figures: scores of runs over examples, size and compute.

Takes the lines of each run's table of scores. Reads and writes nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from pipeline.evaluation.comparing.compared_scores import LOWER_IS_BETTER, PREFERRED_METRICS
from pipeline.evaluation.comparing.paired_tests import mean_of_tasks
from pipeline.logs import short
from pipeline.reporting.published_scores import (
    GPT2_PARAMETERS,
    GPT2_SCORES,
    PARAMETERS,
    published_points,
)
from pipeline.reporting.score_curves import task_curves
from pipeline.store.counts import ModelScore
from pipeline.store.studies.figure_table import FigurePoint, FigureTable, csv_text

ANSWER_BITS = "bits_per_byte"
"""Metric: bits per byte of the right answer, where questions have answers to choose from."""
CHANCE = "guessing"
MOST_TASKS = 30
"""Tasks with figures of their own; the table of scores has all."""


@dataclass(frozen=True)
class ScoredRun:
    """A run of the study with its table of scores."""

    name: str
    parameters: int
    tokens: int
    flops: float
    scores: Sequence[ModelScore]


@dataclass(frozen=True)
class RunScore:
    """The score of a run's last checkpoint in one task at one number of examples."""

    run: ScoredRun
    task: str
    metric: str
    shots: int
    score: float
    standard_error: float | None
    chance: float | None


@dataclass(frozen=True)
class StudyScores:
    """The scores that all scored runs have."""

    accuracies: Sequence[RunScore]
    answer_bits: Sequence[RunScore]
    tasks: Sequence[str]
    """Tasks that every run has at every number of examples: means are over these."""
    incomplete: Sequence[str]
    """Other tasks."""

    @property
    def most_shots(self) -> int:
        """Largest number of examples; 0 without scores."""
        return max((score.shots for score in self.accuracies), default=0)

    @property
    def fewest_shots(self) -> int:
        """Smallest number of examples; 0 without scores."""
        return min((score.shots for score in self.accuracies), default=0)

    def csv_text(self) -> str:
        """Return every score as CSV, a row each."""
        head = ["name", "parameters", "tokens", "flops", "task", "metric", "examples", "score"]
        rows = [
            [
                score.run.name,
                score.run.parameters,
                score.run.tokens,
                score.run.flops,
                score.task,
                score.metric,
                score.shots,
                score.score,
                score.standard_error,
                score.chance,
            ]
            for score in (*self.accuracies, *self.answer_bits)
        ]
        return csv_text([[*head, "standard_error", "chance"], *rows])


def study_scores(runs: Sequence[ScoredRun]) -> StudyScores:
    """Return the scores of runs; a run without any score of a task with answers is not in them."""
    accuracies = [score for run in runs for score in _run_scores(run, is_wanted=is_accuracy)]
    names = {(score.run.name, score.task) for score in accuracies}
    # Guessing has no bits.
    bits = [
        replace(score, chance=None)
        for run in runs
        for score in _run_scores(run, is_wanted=lambda metric: metric == ANSWER_BITS)
        if (run.name, score.task) in names
    ]
    tasks = list(dict.fromkeys(score.task for score in accuracies))
    cells = {(score.run.name, score.shots) for score in accuracies}
    whole = [
        task
        for task in tasks
        if cells == {(score.run.name, score.shots) for score in accuracies if score.task == task}
    ]
    return StudyScores(accuracies, bits, whole, [task for task in tasks if task not in whole])


def is_accuracy(metric: str) -> bool:
    """Tell whether a metric is a share of right answers, of those that tasks are compared by."""
    return metric in PREFERRED_METRICS and metric not in LOWER_IS_BETTER


def _run_scores(run: ScoredRun, *, is_wanted: Callable[[str], bool]) -> list[RunScore]:
    """Return the scores of a run's last checkpoint by the usual one of the wanted metrics."""
    rows = [row for row in run.scores if is_wanted(row["metric"])]
    return [
        RunScore(
            run,
            curves.task,
            curves.metric,
            point.shots,
            point.score,
            point.standard_error,
            curves.chance,
        )
        for curves in task_curves(rows)
        for point in curves.last
    ]


def few_shot_tables(runs: Sequence[ScoredRun]) -> list[FigureTable]:
    """Return the tables of all figures that have points.

    Figures over examples and parameters show the longest training of each size.
    """
    scores = study_scores(runs)
    longest = _longest_of_sizes(runs)
    means = _means(scores, [score for score in scores.accuracies if score.run.name in longest])
    all_means = _means(scores, scores.accuracies)
    bits = _means(scores, scores.answer_bits)
    tables = [
        _over_examples(means, scores),
        _over_parameters("accuracy_over_parameters", means, scores.tasks, scores),
        _over_compute("accuracy_over_compute", "accuracy", all_means, scores.most_shots),
        _over_compute(
            "answer_bits_over_compute", "bits_per_byte_of_right_answer", bits, scores.fewest_shots
        ),
    ]
    for task in [*scores.tasks, *scores.incomplete][:MOST_TASKS]:
        of_task = [
            score for score in scores.accuracies if score.task == task and score.run.name in longest
        ]
        tables.append(_over_parameters(f"task_{task}", of_task, [task], scores))
    return [table for table in tables if table.points_of("run")]


def _longest_of_sizes(runs: Sequence[ScoredRun]) -> set[str]:
    """Return the names of the runs with the most tokens of each size, all seeds of it."""
    most: dict[int, int] = {}
    for run in runs:
        if run.scores:
            most[run.parameters] = max(run.tokens, most.get(run.parameters, 0))
    return {run.name for run in runs if most.get(run.parameters) == run.tokens}


def _means(scores: StudyScores, of: Iterable[RunScore]) -> list[RunScore]:
    """Return the mean over the tasks that all runs have, for each run and number of examples."""
    cells: dict[tuple[str, int], list[RunScore]] = {}
    for score in of:
        if score.task in scores.tasks:
            cells.setdefault((score.run.name, score.shots), []).append(score)
    means: list[RunScore] = []
    for members in cells.values():
        if len(members) < len(scores.tasks):
            continue
        mean = mean_of_tasks(
            [member.score for member in members], [member.standard_error for member in members]
        )
        chances = [member.chance for member in members if member.chance is not None]
        chance = None
        if len(chances) == len(members):
            chance = sum(chances) / len(chances)
        first = members[0]
        means.append(
            RunScore(first.run, "mean", "mean", first.shots, mean.mean, mean.standard_error, chance)
        )
    return means


def _point(series: str, x: float, scores: Sequence[RunScore]) -> FigurePoint:
    """Return the mean over seeds of the training; its error is that of one, since all answer the
    same questions."""
    score = sum(member.score for member in scores) / len(scores)
    errors = [member.standard_error for member in scores if member.standard_error is not None]
    name = ""
    if len(scores) == 1:
        name = scores[0].run.name
    if len(errors) < len(scores):
        return FigurePoint("run", series, x, score, name=name)
    error = sum(errors) / len(errors)
    return FigurePoint("run", series, x, score, score - error, score + error, name)


def _grouped(
    scores: Iterable[RunScore], key: Callable[[RunScore], tuple[float, ...]]
) -> list[list[RunScore]]:
    """Return scores in groups of one key, in its rising order."""
    groups: dict[tuple[float, ...], list[RunScore]] = {}
    for score in sorted(scores, key=key):
        groups.setdefault(key(score), []).append(score)
    return list(groups.values())


def _chance_points(scores: Sequence[RunScore], axis: Sequence[float]) -> list[FigurePoint]:
    """Return the score of guessing at the first place of an axis; nothing where it is unknown."""
    if not scores or scores[0].chance is None:
        return []
    return [FigurePoint("chance", CHANCE, min(axis), scores[0].chance)]


def _over_examples(means: Sequence[RunScore], scores: StudyScores) -> FigureTable:
    """Return mean accuracy over the number of examples, a curve a size (Brown et al. 2020, 1.2)."""
    groups = _grouped(means, lambda score: (score.run.parameters, score.shots))
    points = [_point(_size_words(group[0].run), group[0].shots, group) for group in groups]
    shots = sorted({score.shots for score in means})
    for size in PARAMETERS:
        for k in shots:
            value = _published_mean(size, k, scores)
            if value is not None:
                points.append(FigurePoint("published", f"Pythia {size}", k, value))
    gpt2 = _gpt2_mean(scores)
    if gpt2 is not None and 0 in shots:
        points.append(FigurePoint("published", "GPT-2 1.5b", 0, gpt2))
    points += _chance_points(means, shots)
    return FigureTable("accuracy_over_examples", "examples", "accuracy", points)


def _over_parameters(
    name: str, chosen: Sequence[RunScore], tasks: Sequence[str], scores: StudyScores
) -> FigureTable:
    """Return accuracy over N, a curve for each number of examples; published scores beside it.

    `tasks`: those whose mean is drawn.
    """
    groups = _grouped(chosen, lambda score: (score.shots, score.run.parameters))
    points = [_point(f"k = {group[0].shots}", group[0].run.parameters, group) for group in groups]
    of_tasks = StudyScores(scores.accuracies, [], tasks, [])
    for k in sorted({score.shots for score in chosen}):
        for size, parameters in PARAMETERS.items():
            value = _published_mean(size, k, of_tasks)
            if value is not None:
                points.append(FigurePoint("published", f"Pythia, k = {k}", parameters, value))
    gpt2 = _gpt2_mean(of_tasks)
    if gpt2 is not None and any(score.shots == 0 for score in chosen):
        points.append(FigurePoint("published", "GPT-2, k = 0", GPT2_PARAMETERS, gpt2))
    points += _chance_points(chosen, [score.run.parameters for score in chosen])
    return FigureTable(name, "parameters", "accuracy", points)


def _over_compute(name: str, quantity: str, means: Sequence[RunScore], shots: int) -> FigureTable:
    """Return the mean over tasks over compute, a curve a size, at one number of examples."""
    chosen = [score for score in means if score.shots == shots]
    groups = _grouped(chosen, lambda score: (score.run.parameters, score.run.flops))
    points = [_point(_size_words(group[0].run), group[0].run.flops, group) for group in groups]
    points += _chance_points(chosen, [score.run.flops for score in chosen])
    return FigureTable(name, "flops", quantity, points)


def _size_words(run: ScoredRun) -> str:
    return f"N = {short(run.parameters)}"


def _metrics_of(scores: StudyScores) -> list[tuple[str, str]]:
    """Return (task, metric) of the tasks of the mean."""
    metrics = {score.task: score.metric for score in scores.accuracies}
    return [(task, metrics[task]) for task in scores.tasks]


def _published_mean(size: str, shots: int, scores: StudyScores) -> float | None:
    """Return the mean of a Pythia's last published scores; None unless all tasks have one."""
    values: list[float] = []
    for task, metric in _metrics_of(scores):
        points = [
            point
            for point in published_points(task, metric)
            if (point.size, point.shots) == (size, shots)
        ]
        if not points:
            return None
        values.append(max(points, key=lambda point: point.tokens).score)
    if not values:
        return None
    return sum(values) / len(values)


def _gpt2_mean(scores: StudyScores) -> float | None:
    """Return the mean of GPT-2's published scores without examples; None unless all tasks have one."""
    values = [GPT2_SCORES.get(pair) for pair in _metrics_of(scores)]
    numbers = [value for value in values if value is not None]
    if not numbers or len(numbers) < len(values):
        return None
    return sum(numbers) / len(numbers)
