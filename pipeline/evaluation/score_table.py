"""Turns cells into rows of scores: a row for each metric of each task, group and number of shots.

Reads cells; writes the table of all of a run's scores, `scores.jsonl`.
"""

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from lm_eval.api.group import Group

from pipeline.errors import first_of
from pipeline.evaluation.cells import Cell, stored_scores
from pipeline.evaluation.item_scores import (
    item_scores,
    likelihoods_are_numbers,
    questions_without_right_answer,
    standard_error,
)
from pipeline.evaluation.results import CellResult
from pipeline.logs import counted_noun, warn
from pipeline.store.counts import ModelScore, TaskScore
from pipeline.store.files import write_atomic
from pipeline.store.scores_folder import ScoresFolder

MOST_NAMED = 5
"""Maximum number of tasks that a message names."""
ACCURACIES = ("acc", "exact_match")
"""Prefixes of metrics that count right answers: guessing among the choices has a score."""


def task_scores(task: str, result: CellResult) -> list[TaskScore]:
    """Return a row for each metric that lm-eval has measured in a cell."""
    provenance = result["provenance"]
    return [
        {
            "task": task,
            "shots": result["n-shot"].get(task, provenance["shots"]),
            "seed": provenance["seed"],
            "metric": metric,
            "value": value,
            "standard_error": error,
            "items": result["n-samples"][task]["effective"],
            "chance": _chance_of(metric, result["chance"]),
            "uniform": result["uniform"].get(metric),
        }
        for metric, value, error in metrics_of(result["results"][task])
    ]


def group_scores(group: Group, results: Mapping[str, CellResult]) -> list[TaskScore]:
    """Return a row for each metric of a group of tasks, as lm-eval takes the mean.

    `results`: task -> cell, of one model, one number of shots and one seed. Empty for a group that
    has no mean of its own.
    """
    # lm-eval takes the mean over the tasks that were scored.
    members = [task.task_name for task in group.get_all_tasks() if task.task_name in results]
    if not members:
        return []
    values = {
        name: {
            **results[name]["results"][name],
            "sample_len": results[name]["n-samples"][name]["effective"],
        }
        for name in members
    }
    mean = group.aggregate(values)  # pyright: ignore[reportArgumentType]

    # What guessing gives is a mean over all questions.
    first = results[members[0]]
    shots = {results[name]["n-shot"].get(name) for name in members}
    rows: list[TaskScore] = []
    for metric, value, error in metrics_of(mean):
        chances = [_chance_of(metric, results[name]["chance"]) for name in members]
        uniform = [results[name]["uniform"].get(metric) for name in members]
        rows.append(
            {
                "task": group.name,
                "shots": _only(shots, first["provenance"]["shots"]),
                "seed": first["provenance"]["seed"],
                "metric": metric,
                "value": value,
                "standard_error": error,
                "items": sum(results[name]["n-samples"][name]["effective"] for name in members),
                "chance": _mean_over_items(chances, members, results),
                "uniform": _mean_over_items(uniform, members, results),
            }
        )
    return rows


def metrics_of(values: Mapping[str, object]) -> list[tuple[str, float, float | None]]:
    """Return (metric, value, standard error) of what lm-eval reports for one task or group."""
    rows: list[tuple[str, float, float | None]] = []
    # Values without a filter are no metrics: the alias, the sample count, the standard errors.
    for key, value in values.items():
        metric, comma, filter_name = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, (int, float)):
            continue
        error = values.get(f"{metric}_stderr,{filter_name}")
        if not isinstance(error, (int, float)):
            error = None
        if filter_name != "none":
            metric = f"{metric} ({filter_name})"
        rows.append((metric, value, error))
    return rows


def scores_of_model(
    results: Mapping[tuple[str, int, int], CellResult], groups: Sequence[Group]
) -> list[TaskScore]:
    """Return the rows of one model's cells and groups; `results`: (task, shots, seed) -> cell.

    A metric whose value is NaN has no row.
    """
    rows: list[TaskScore] = []
    for group in groups:
        for shots, seed in sorted({key[1:] for key in results}):
            of_number = {
                task: result
                for (task, *number), result in results.items()
                if number == [shots, seed]
            }
            rows += group_scores(group, of_number)
    for (task, _, _), result in results.items():
        rows += task_scores(task, result)
    return [row for row in rows if math.isfinite(row["value"])]


def write_score_table(folder: ScoresFolder, models: Collection[str]) -> None:
    """Write a line for each metric of each cell: lm-eval's, and those of the log-likelihoods.

    Warns where log-likelihoods of `models` (names of the folders of their cells) are NaN, or
    questions that they were asked have no right answer. A NaN is written as null.
    """
    # Read every cell, one at a time.
    lines: list[str] = []
    without_numbers: dict[str, list[str]] = {}
    without_right_answer: dict[str, int] = {}
    for place, cell in stored_scores(folder):
        task = place.rows.parent.name
        lines += [
            json.dumps(_without_nan(row), allow_nan=False) for row in model_scores(task, cell)
        ]
        provenance = cell.result["provenance"]
        if provenance["model"] not in models:
            continue
        if not likelihoods_are_numbers(cell):
            without_numbers.setdefault(provenance["title"], []).append(task)
        without_right_answer[task] = questions_without_right_answer(cell)
    write_atomic(folder.table, "".join(f"{line}\n" for line in lines))

    # Name what has no value.
    for title, tasks in without_numbers.items():
        names = first_of(list(dict.fromkeys(tasks)), MOST_NAMED)
        warn(
            f"{title}: log-likelihoods are not numbers (NaN) in {names}, so its scores there mean "
            "nothing. Look for NaN in its weights, or try another precision.dtype."
        )
    for task, count in without_right_answer.items():
        if count:
            warn(
                f"{task}: {counted_noun(count, 'question')} without a right answer; they count as "
                "wrong, and metrics of the right answer have no value. Correct the task's questions."
            )


def _without_nan(row: ModelScore) -> dict[str, object]:
    """Return a row with None in the place of numbers that JSON cannot hold."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }


def model_scores(task: str, cell: Cell) -> list[ModelScore]:
    """Return a row for each metric of a cell, with its model: lm-eval's first, then the others."""
    # lm-eval's own metrics, and those that follow from the log-likelihoods.
    provenance = cell.result["provenance"]
    rows = task_scores(task, cell.result)
    measured = {row["metric"] for row in rows}
    for metric, scores in item_scores(cell).items():
        if metric in measured:
            continue
        rows.append(
            {
                "task": task,
                "shots": provenance["shots"],
                "seed": provenance["seed"],
                "metric": metric,
                "value": float(scores.mean()),
                "standard_error": standard_error(scores),
                "items": len(scores),
                "chance": _chance_of(metric, cell.result["chance"]),
                "uniform": cell.result["uniform"].get(metric),
            }
        )

    # Each row names its model.
    return [
        {
            **row,
            "model": provenance["model"],
            "title": provenance["title"],
            "step": provenance["step"],
            "tokens": provenance["tokens"],
            "parameters": provenance["parameters"],
        }
        for row in rows
    ]


def _chance_of(metric: str, chance: float | None) -> float | None:
    if metric.startswith(ACCURACIES):
        return chance
    return None


def _only(values: set[int | None], otherwise: int) -> int:
    """Return the one number in a set, `otherwise` where there are several or none."""
    known = [value for value in values if value is not None]
    if len(values) == len(known) == 1:
        return known[0]
    return otherwise


def _mean_over_items(
    values: Sequence[float | None], members: Iterable[str], results: Mapping[str, CellResult]
) -> float | None:
    """Return the mean of tasks' values over all their questions; None where one has no value."""
    total = 0.0
    items = 0
    for value, name in zip(values, members, strict=True):
        if value is None:
            return None
        count = results[name]["n-samples"][name]["effective"]
        total += value * count
        items += count
    return total / items
