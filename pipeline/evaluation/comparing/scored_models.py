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
from pipeline.evaluation.models_to_score import folder_identity
from pipeline.logs import elapsed
from pipeline.store.layout import RunFolder, checkpoint_folders, checkpoint_step
from pipeline.store.pretrained_folders import is_model_folder
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


def find_scored_model(name: str, beside: Sequence[str] = ()) -> ScoredModel:
    """Return the model that a command names: RUN, RUN@STEP, a transformers folder, or one of cells.

    RUN is a run's folder or its run file; without a step, its last scored checkpoint is taken.
    `beside`: names of the other models; the cells of a transformers folder lie in one of their
    runs. Raises UserError where nothing has been scored there.
    """
    place, step = split_step(name)
    if step is None and cells_of_model(place):
        return _scored_model(place, [])
    if step is None and is_model_folder(place):
        return _scored_folder(place, [other for other in beside if other != name])

    # A run's checkpoint.
    cells = _cells_of_run(place)
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


def _cells_of_run(place: Path) -> Path:
    """Return the folder of cells of a run, which is given by its folder or its run file.

    Raises UserError where nothing is there.
    """
    if not place.exists():
        raise UserError(
            f"{place}: no such file or folder. Give the folder of a run, its run file, or a model's "
            "folder of cells."
        )
    run_dir = place
    if not place.is_dir():
        run_dir = load(place).paths.run_dir
    return ScoresFolder(RunFolder(run_dir).evaluation).cells


def _scored_folder(folder: Path, beside: Sequence[str]) -> ScoredModel:
    """Return the model of a transformers folder with its cells in the runs of other models.

    They are found by the weights and the tokenizer that they record, wherever the folder was then.
    """
    # Where cells can lie.
    places: list[Path] = []
    for name in beside:
        place, step = split_step(name)
        if step is None and cells_of_model(place):
            places.append(place.parent)
        elif step is not None or not is_model_folder(place):
            places.append(_cells_of_run(place))
    if not places:
        raise UserError(
            f"{folder}: is a transformers folder, and no run is named beside it. Name one in which "
            "it was scored: `pipeline compare RUN FOLDER`."
        )

    # Those of this model.
    with elapsed(f"{folder}: reading weights"):
        identity = folder_identity(folder)
    cells: dict[CellName, CellPlace] = {}
    title = str(folder)
    for model in sorted({model for place in places for model in place.glob("*")}):
        for name, place in cells_of_model(model).items():
            result = read_result(place)
            if result is not None and identity.items() <= result["provenance"].items():
                cells.setdefault(name, place)
                title = result["provenance"]["title"]
    if not cells:
        listed = first_of([str(place) for place in dict.fromkeys(places)], MOST_LISTED)
        raise UserError(
            f"{folder}: has no scores in {listed}. Add the folder to evaluation.models of that run "
            "and run `pipeline evaluate`; an exported checkpoint is named RUN@STEP."
        )
    return ScoredModel(title, None, cells, [])


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
