"""How much the scores of a run vary from checkpoint to checkpoint, around their trend.

Reads the cells of a run's last scored checkpoints.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.evaluation.cells import read_cell, whole_cells
from pipeline.evaluation.comparing.paired_tests import noise_around_trend
from pipeline.evaluation.comparing.scored_models import ScoredModel, Update
from pipeline.evaluation.item_scores import item_scores
from pipeline.store.scores_folder import CellName, CellPlace, cells_of_model


@dataclass(frozen=True)
class RunNoise:
    """Standard deviations of a run's scores around their trends over its tokens."""

    by_task: Mapping[tuple[str, int], float]
    """(task, number of examples) -> standard deviation, where it can be estimated."""
    by_unit: Mapping[str, float]
    """Unit -> standard deviation of the mean over its tasks, where it can be estimated."""


def noise_of_run(
    model: ScoredModel,
    metrics: Mapping[str, str],
    units: Mapping[str, Sequence[str]],
    last_checkpoints: int,
    update: Update,
) -> RunNoise:
    """Return the noise over the last scored checkpoints of a model's run, itself included.

    `metrics`: task -> metric, of the tasks to look at; `units`: unit -> tasks to average. Empty for
    a model without a run. A checkpoint whose cell is damaged takes that task out of the estimate.
    """
    # The scores of each checkpoint, for the cells that all of them have.
    folders = model.run[-last_checkpoints:] if last_checkpoints else []
    cells = [_cells_to_read(folder, model) for folder in folders]
    names = [
        name for name in model.cells if name.task in metrics and all(name in of for of in cells)
    ]
    tokens: list[float] = []
    scores: list[dict[CellName, float]] = []
    for of in cells:
        of_checkpoint, tokens_of_checkpoint = _scores_of(of, names, metrics, update)
        if tokens_of_checkpoint is not None:
            tokens.append(tokens_of_checkpoint)
            scores.append(of_checkpoint)

    # Seeds of one number of examples are averaged, as in the comparison.
    by_task: dict[tuple[str, int], float] = {}
    series: dict[str, list[np.ndarray]] = {}
    for task, shots in dict.fromkeys((name.task, name.shots) for name in names):
        of_seeds = [name for name in names if (name.task, name.shots) == (task, shots)]
        means = np.array([np.mean([row[name] for name in of_seeds]) for row in scores])
        series.setdefault(task, []).append(means)
        noise = noise_around_trend(tokens, means.tolist())
        if noise is not None:
            by_task[task, shots] = noise
    by_unit: dict[str, float] = {}
    for unit, tasks in units.items():
        if all(task in series for task in tasks):
            means = np.mean([np.mean(series[task], axis=0) for task in tasks], axis=0)
            noise = noise_around_trend(tokens, means.tolist())
            if noise is not None:
                by_unit[unit] = noise
    return RunNoise(by_task, by_unit)


def _cells_to_read(folder: Path, model: ScoredModel) -> Mapping[CellName, CellPlace]:
    """Return the whole cells of a checkpoint; those of the model itself have been looked at."""
    if folder == model.run[-1]:
        return model.cells
    cells = cells_of_model(folder)
    return whole_cells({name: place for name, place in cells.items() if name in model.cells})


def _scores_of(
    cells: Mapping[CellName, CellPlace],
    names: Sequence[CellName],
    metrics: Mapping[str, str],
    update: Update,
) -> tuple[dict[CellName, float], int | None]:
    """Return the mean score of each cell of a checkpoint, and the checkpoint's tokens."""
    tokens: int | None = None
    scores: dict[CellName, float] = {}
    for name in names:
        update(1, name.task)
        cell = read_cell(cells[name])
        tokens = cell.result["provenance"]["tokens"]
        scores[name] = float(np.nanmean(item_scores(cell)[metrics[name.task]]))
    return scores, tokens
