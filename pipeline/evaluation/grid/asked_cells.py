"""The grid of cells that a run file asks for: models x tasks x numbers of shots x seeds.

Imports lm-eval. Reads and writes nothing.
"""

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lm_eval.api.group import Group

from pipeline.evaluation.built_in.built_in_tasks import BITS_PER_BYTE, BUILT_IN
from pipeline.evaluation.known_tasks import BuiltTasks
from pipeline.evaluation.models_to_score import ModelToScore
from pipeline.store.files import fingerprint
from pipeline.store.scores_folder import CellPlace, ScoresFolder

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


def asked_cells(
    built: BuiltTasks,
    identities: Mapping[str, str],
    shots: Mapping[str, Sequence[int]],
    seeds: Sequence[int],
    limit: int | None,
) -> list[AskedCell]:
    """Return the cells of all tasks for any one model, task by task.

    `shots`: numbers of solved examples by the name that was asked for, a task's or a group's.
    A task that fixes its number of examples at 0 has one cell, and so has a task at k = 0, where no
    example is chosen. Built-in tasks have as many questions as were asked for: they have no limit.
    """
    cells: list[AskedCell] = []
    shots_of_task = {task: shots.get(asked, (0,)) for task, asked in _asked_names(built).items()}
    for name, task in built.single.items():
        limit_of_task = limit
        if name in BUILT_IN or name.startswith(BITS_PER_BYTE):
            limit_of_task = None
        numbers = shots_of_task[name]
        if task.get_config("num_fewshot") == 0:
            numbers = (0,)
        for number in numbers:
            seeds_of_number = seeds
            if number == 0:
                seeds_of_number = seeds[:1]
            cells += [
                AskedCell(name, number, seed, limit_of_task, identities[name])
                for seed in seeds_of_number
            ]
    return cells


def _asked_names(built: BuiltTasks) -> dict[str, str]:
    """Return by task the name that was asked for: its own, or its group's."""
    names = {name: name for name in built.single}
    for asked in built.asked:
        if isinstance(asked, Group):
            names |= {task.task_name: asked.name for task in asked.get_all_tasks()}
    return names
