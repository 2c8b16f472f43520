"""The grid of cells that a run file asks for: models x tasks x numbers of shots x seeds.

Imports lm-eval. Reads which cells are on disk; writes nothing.
"""

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.config.evaluation_section import Evaluation
from pipeline.errors import first_of
from pipeline.evaluation.asked_tasks import AskedTasks
from pipeline.evaluation.built_in.built_in_tasks import questions_to_ask
from pipeline.evaluation.cells import holds_cell, read_result
from pipeline.evaluation.known_tasks import BuiltTasks
from pipeline.evaluation.models_to_score import ModelToScore
from pipeline.logs import counted_noun
from pipeline.store.files import fingerprint
from pipeline.store.scores_folder import CellPlace, ScoresFolder

MOST_NAMED = 5
"""Maximum number of models that a line names."""
CELL_FORMAT = 1
"""Increased when the content of cells changes, so that older ones are made again."""


@dataclass(frozen=True)
class AskedCell:
    """One cell that the run file asks for."""

    task: str
    shots: int
    """Solved examples before each question."""
    seed: int
    """Seed of the choice of examples."""
    limit: int | None
    """Maximum number of questions; None for all."""
    identity: str
    """Hash of the task's definition, its code and its data."""

    def key(self, model: ModelToScore) -> str:
        """Return the hash of everything that decides a model's scores in this cell."""
        return fingerprint(
            {
                "format": CELL_FORMAT,
                "model": dict(model.identity),
                "task": self.identity,
                "shots": self.shots,
                "seed": self.seed,
                "limit": self.limit,
                "harness": importlib.metadata.version("lm_eval"),
            }
        )

    def place(self, folder: ScoresFolder, model: ModelToScore) -> CellPlace:
        """Return the files of this cell for a model."""
        return folder.cell(model.name, self.task, self.shots, self.seed)

    def is_held(self, folder: ScoresFolder, model: ModelToScore) -> bool:
        """Tell whether a model's cell is on disk, with these questions or more of the same.

        A small `limit`, to try something, must not cost the scores of all questions.
        """
        place = self.place(folder, model)
        if holds_cell(place, self.key(model)):
            return True
        stored = read_result(place)
        if self.limit is None or stored is None:
            return False
        limit = stored["provenance"]["limit"]
        has_more = limit is None or limit > self.limit
        return has_more and holds_cell(place, replace(self, limit=limit).key(model))


def asked_cells(
    built: BuiltTasks, identities: Mapping[str, str], asked: AskedTasks, settings: Evaluation
) -> list[AskedCell]:
    """Return the cells of all tasks for any one model, task by task.

    At k = 0, where no example is chosen, a task has one cell.
    """
    cells: list[AskedCell] = []
    for name, shots in built.shots_of_tasks(asked).items():
        limit = questions_to_ask(name, settings.limit)
        for number in shots:
            seeds = settings.shots_seeds
            if number == 0:
                seeds = seeds[:1]
            cells += [AskedCell(name, number, seed, limit, identities[name]) for seed in seeds]
    return cells


def kept_of_other_scorer(
    folder: ScoresFolder,
    models: Sequence[ModelToScore],
    cells: Sequence[AskedCell],
    asked: Literal["sharing", "harness"],
) -> list[str]:
    """Return a line about cells that are kept although `evaluation.scorer` asks for the other scorer.

    A model whose architecture cannot share contexts is scored by the harness as it was asked for.
    """
    other = {"sharing": "harness", "harness": "sharing"}[asked]
    titles: list[str] = []
    for model in models:
        for cell in cells:
            result = read_result(cell.place(folder, model))
            if result is not None and result["provenance"]["scorer"] == other:
                titles.append(model.title)
    if not titles:
        return []
    names = first_of(list(dict.fromkeys(titles)), MOST_NAMED)
    return [
        f"scorer: kept {counted_noun(len(titles), 'cell')} of {names} that {other} has made, not "
        f"{asked} as evaluation.scorer asks for now; the scores differ by rounding only. To score "
        f"them again, delete them below {folder.cells}"
    ]
