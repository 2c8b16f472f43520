"""Compares models task by task on the questions that all of them have answered.

Reads cells. The first model is the baseline; every other one is compared with it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from pipeline.errors import UserError
from pipeline.evaluation.cells import Cell, read_cell
from pipeline.evaluation.comparing.paired_tests import (
    MeanOfTasks,
    PairedDifference,
    all_right_or_wrong,
    holm,
    least_changed_items,
    mean_of_tasks,
    noise_of_difference,
    paired_difference,
)
from pipeline.evaluation.comparing.run_noise import noise_of_run
from pipeline.evaluation.comparing.scored_models import ScoredModel, Update
from pipeline.evaluation.item_scores import item_scores
from pipeline.store.scores_folder import CellName

PREFERRED_METRICS = ("acc_mutual_info", "acc_norm", "acc", "exact_match", "f1", "bits_per_byte")
"""Metrics by which a task is compared: the first one that lm-eval reports for it."""
LOWER_IS_BETTER = ("bits_per_byte", "brier_score")
SHARE = "share of right answers"
"""Unit of the mean over tasks whose metrics are shares of right answers, from 0 to 1."""
Question: TypeAlias = tuple[str, int]
"""lm-eval's hash of a question, and how many equal ones come before it."""


@dataclass(frozen=True)
class ComparedTask:
    """One task at one number of examples, for the baseline and another model."""

    model: str
    """Title of the other model."""
    task: str
    shots: int
    metric: str
    baseline_score: float
    score: float
    difference: PairedDifference
    p_holm: float | None
    """The p-value, adjusted for all tests of the comparison."""
    noise: float | None
    """Standard deviation of such a difference from checkpoint to checkpoint of the runs."""

    @property
    def is_lower_better(self) -> bool:
        return self.metric in LOWER_IS_BETTER


@dataclass(frozen=True)
class ComparedMean:
    """The mean difference over tasks, of the baseline and another model."""

    model: str
    """Title of the other model."""
    unit: str
    """SHARE, or the metric of the tasks in the mean."""
    difference: MeanOfTasks
    noise: float | None
    """Standard deviation of such a mean from checkpoint to checkpoint of the runs."""


@dataclass(frozen=True)
class Comparison:
    """What `pipeline compare` has found."""

    baseline: str
    """Title of the first model."""
    models: Sequence[str]
    """Titles of the others."""
    tasks: Sequence[ComparedTask]
    means: Sequence[ComparedMean]
    left_out: Sequence[str]
    """What only some of the models have, a line each."""


@dataclass(frozen=True)
class _TaskScores:
    """The scores of one task for all models, by number of examples."""

    metric: str
    by_shots: Mapping[int, np.ndarray]
    """Number of examples -> `(models, questions)`, all with the same questions in that order."""
    questions: Mapping[int, Sequence[Question]]


def count_cells(models: Sequence[ScoredModel], last_checkpoints: int) -> int:
    """Return the number of cells that a comparison reads, at most."""
    runs = sum(min(last_checkpoints, len(model.run)) for model in models)
    return len(_common_names(models)) * (len(models) + runs)


def compare_models(
    models: Sequence[ScoredModel],
    metric: str | Mapping[str, str] | None,
    last_checkpoints: int,
    update: Update,
) -> Comparison:
    """Compare each model with the first one.

    `metric`: by which all tasks are compared, or by task; None for each task's own. `last_checkpoints`: of each
    run, from which the noise is estimated. Raises UserError where the models have no task in
    common, or no task has the metric; DataError where a cell was damaged since it was found.
    """
    # The scores of all models on the questions that they share.
    left_out: list[str] = []
    tasks = _tasks_in_common(models, metric, left_out, update)
    if not tasks:
        reasons = "".join(f"\n  - {line}" for line in left_out)
        raise UserError(f"the models have no scores in common that can be compared:{reasons}")

    # Each model beside the first one.
    metrics = {task: scores.metric for task, scores in tasks.items()}
    units = tasks_by_unit(tasks)
    noise = [noise_of_run(model, metrics, units, last_checkpoints, update) for model in models]
    rows: list[ComparedTask] = []
    means: list[ComparedMean] = []
    for number, model in enumerate(models[1:], start=1):
        for task, scores in tasks.items():
            for shots, values in scores.by_shots.items():
                rows.append(
                    ComparedTask(
                        model=model.title,
                        task=task,
                        shots=shots,
                        metric=scores.metric,
                        baseline_score=float(values[0].mean()),
                        score=float(values[number].mean()),
                        difference=paired_difference(values[0], values[number]),
                        p_holm=None,
                        noise=noise_of_difference(
                            noise[0].by_task.get((task, shots)),
                            noise[number].by_task.get((task, shots)),
                        ),
                    )
                )
        for unit, names in units.items():
            mean_noise = noise_of_difference(
                noise[0].by_unit.get(unit), noise[number].by_unit.get(unit)
            )
            mean = _mean_over_tasks([tasks[name] for name in names], number)
            means.append(ComparedMean(model.title, unit, mean, mean_noise))
    titles = [model.title for model in models[1:]]
    return Comparison(models[0].title, titles, _adjusted(rows), means, left_out)


def _common_names(models: Sequence[ScoredModel]) -> list[CellName]:
    return [name for name in models[0].cells if all(name in model.cells for model in models)]


def _tasks_in_common(
    models: Sequence[ScoredModel],
    metric: str | Mapping[str, str] | None,
    left_out: list[str],
    update: Update,
) -> dict[str, _TaskScores]:
    """Return by task the scores on the questions that all models have; note what is left out."""
    # What not all models have.
    common = _common_names(models)
    for name in sorted({name for model in models for name in model.cells} - set(common)):
        without = [model.title for model in models if name not in model.cells]
        left_out.append(f"{_in_words(name)}: not scored for {', '.join(without)}")

    # Task by task, so that only one task's cells are in memory.
    tasks: dict[str, _TaskScores] = {}
    for task in dict.fromkeys(name.task for name in common):
        cells: dict[CellName, list[Cell]] = {}
        for name in common:
            if name.task != task:
                continue
            update(len(models), task)
            read = [read_cell(model.cells[name]) for model in models]
            if len({cell.result["provenance"]["task"] for cell in read}) > 1:
                left_out.append(f"{_in_words(name)}: its definition or its questions differ")
                continue
            cells[name] = read
        if not cells:
            continue
        asked = metric
        if asked is not None and not isinstance(asked, str):
            asked = asked[task]
        chosen = _metric_of(cells, asked)
        if chosen is None:
            left_out.append(f"{task}: has no scores by {asked or 'a metric that all have'}")
            continue
        scores = _shared_scores(chosen, cells, left_out)
        if scores.by_shots:
            tasks[task] = scores
    return tasks


def _metric_of(cells: Mapping[CellName, Sequence[Cell]], asked: str | None) -> str | None:
    """Return the metric by which a task is compared; None where there is none."""
    every_cell = [cell for read in cells.values() for cell in read]
    common = set.intersection(*(set(item_scores(cell)) for cell in every_cell))
    if asked is not None:
        return asked if asked in common else None
    reported = {
        key.partition(",")[0]
        for cell in every_cell
        for values in cell.result["results"].values()
        for key in values
    }
    order = [name for name in PREFERRED_METRICS if name in common & reported]
    order += [name for name in PREFERRED_METRICS if name in common]
    return next(iter([*order, *sorted(common)]), None)


def _shared_scores(
    metric: str, cells: Mapping[CellName, Sequence[Cell]], left_out: list[str]
) -> _TaskScores:
    """Return the scores on the questions that all models have, means over the seeds."""
    by_shots: dict[int, np.ndarray] = {}
    questions: dict[int, list[Question]] = {}
    for shots in sorted({name.shots for name in cells}):
        of_seeds = [read for name, read in cells.items() if name.shots == shots]
        by_question = [[_by_question(cell, metric) for cell in read] for read in of_seeds]
        every = [scores for read in by_question for scores in read]
        shared = [key for key in every[0] if all(key in scores for scores in every)]
        task = next(iter(cells)).task
        missing = max(len(scores) for scores in every) - len(shared)
        if missing:
            left_out.append(f"{task}, k = {shots}: {missing:,} questions that not all models have")
        if not shared:
            continue
        values = np.array(
            [[[scores[key] for key in shared] for scores in read] for read in by_question]
        )
        by_shots[shots] = values.mean(axis=0)
        questions[shots] = shared
    return _TaskScores(metric, by_shots, questions)


def _by_question(cell: Cell, metric: str) -> dict[Question, float]:
    """Return the score of each question that has one."""
    seen: Counter[str] = Counter()
    scores: dict[Question, float] = {}
    for item, score in zip(cell.items, item_scores(cell)[metric], strict=True):
        if np.isfinite(score):
            scores[item["hash"], seen[item["hash"]]] = float(score)
        seen[item["hash"]] += 1
    return scores


def _in_words(name: CellName) -> str:
    return f"{name.task}, k = {name.shots}"


def _adjusted(rows: Sequence[ComparedTask]) -> list[ComparedTask]:
    """Return the rows with Holm's p-values over all of their tests."""
    tested = [row.difference.p_value for row in rows if row.difference.p_value is not None]
    adjusted = iter(holm(tested))
    return [
        replace(row, p_holm=next(adjusted)) if row.difference.p_value is not None else row
        for row in rows
    ]


def tasks_by_unit(tasks: Mapping[str, _TaskScores]) -> dict[str, list[str]]:
    """Return the tasks whose differences have one unit and can be averaged, by that unit."""
    units: dict[str, list[str]] = {}
    for task, scores in tasks.items():
        unit = scores.metric
        is_share = all(((values >= 0) & (values <= 1)).all() for values in scores.by_shots.values())
        if is_share and scores.metric not in LOWER_IS_BETTER:
            unit = SHARE
        units.setdefault(unit, []).append(task)
    return units


def _mean_over_tasks(tasks: Sequence[_TaskScores], number: int) -> MeanOfTasks:
    """Return the mean difference over tasks; that of a task is a mean over its k's.

    The same questions with several numbers of examples are no independent evidence: their
    differences are averaged question by question.
    """
    means: list[float] = []
    errors: list[float | None] = []
    floors: list[float] = []
    for scores in tasks:
        series: dict[Question, list[float]] = {}
        for shots, values in scores.by_shots.items():
            differences = values[number] - values[0]
            for question, difference in zip(scores.questions[shots], differences, strict=True):
                series.setdefault(question, []).append(float(difference))
        most = max(len(values) for values in series.values())
        whole = [np.mean(values) for values in series.values() if len(values) == most]
        compared = paired_difference(np.zeros(len(whole)), np.array(whole))
        means.append(compared.difference)
        errors.append(compared.standard_error)

        # As in the rows: fewer changed answers than these would not be told from chance.
        floor = 0.0
        both = [values[[0, number]] for values in scores.by_shots.values()]
        if all(all_right_or_wrong(values) for values in both):
            floor = least_changed_items() / (len(whole) * most)
        floors.append(floor)
    return mean_of_tasks(means, errors, floors)
