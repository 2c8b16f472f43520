"""Models whose scores are on disk: found by name, with the cells of their run's earlier checkpoints.

Reads `run_dir/evaluation/cells`. Loads no model and imports no torch.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from pipeline.config.run_file import load
from pipeline.errors import UserError, first_of
from pipeline.evaluation.cells import read_result, whole_cells
from pipeline.evaluation.models import split_step
from pipeline.store.layout import RunFolder, checkpoint_folders, checkpoint_step
from pipeline.store.scores_folder import CellName, CellPlace, ScoresFolder, cells_of_model

Update: TypeAlias = Callable[[int, str], None]
"""Moves a progress bar on: number of cells that are read next, and their task."""
MOST_LISTED = 20
"""Maximum number of steps that a message lists."""


@dataclass(frozen=True)
class ScoredModel:
    """A model with scores on disk."""

    title: str
    """The model for people: a run and step, or a folder."""
    tokens: int | None
    """Tokens of training; None for a model from elsewhere."""
    cells: Mapping[CellName, CellPlace]
    run: Sequence[Path]
    """Folders of cells of the run's checkpoints up to this one, oldest first; empty for a model
    that is given by its folder of cells."""


def find_scored_model(name: str) -> ScoredModel:
    """Return the model that a command names: RUN, RUN@STEP, or a model's folder of cells.

    RUN is a run's folder or its run file; without a step, its last scored checkpoint is taken.
    Raises UserError where nothing has been scored there.
    """
    place, step = split_step(name)
    if step is None and cells_of_model(place):
        return _scored_model(place, [])

    # A run's checkpoint.
    run_dir = place
    if not place.is_dir():
        run_dir = load(place).paths.run_dir
    cells = ScoresFolder(RunFolder(run_dir).evaluation).cells
    scored = [path for path in checkpoint_folders(cells) if cells_of_model(path)]
    if not scored:
        raise UserError(
            f"{cells}: holds no scores of a checkpoint. Run `pipeline evaluate` first; a model from "
            "elsewhere is named by its folder there."
        )
    if step is None:
        return _scored_model(scored[-1], scored)
    for position, path in enumerate(scored):
        if checkpoint_step(path) == step:
            return _scored_model(path, scored[: position + 1])
    steps = first_of([str(checkpoint_step(path)) for path in scored], MOST_LISTED)
    raise UserError(
        f"{name}: step {step} has not been scored; steps with scores: {steps}. Add the step to "
        "evaluation.models and run `pipeline evaluate`."
    )


def only_tasks(model: ScoredModel, tasks: Collection[str]) -> ScoredModel:
    """Return a model with the cells of some tasks alone."""
    return replace(
        model, cells={name: place for name, place in model.cells.items() if name.task in tasks}
    )


def _scored_model(folder: Path, run: Sequence[Path]) -> ScoredModel:
    """Return the model of a folder of cells, without damaged ones; its first cell names it."""
    cells = whole_cells(cells_of_model(folder))
    results = (read_result(place) for place in cells.values())
    result = next((result for result in results if result is not None), None)
    if result is None:
        raise UserError(
            f"{folder}: its cells are damaged. `pipeline evaluate` with this model scores them again."
        )
    provenance = result["provenance"]
    return ScoredModel(provenance["title"], provenance["tokens"], cells, run)
