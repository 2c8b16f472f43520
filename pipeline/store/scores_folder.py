"""Names the files of scores in a run folder.

No other module spells these names. Reads and writes nothing.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.store.layout import checkpoint_name

FIRST_SEED = 1234
"""lm-eval's own seed of the choice of examples; cells with it have no seed in their names."""

MERGE_PREFIX = "merge-"
"""Beginning of the names of models that are means of the run's own checkpoints."""
MERGE_RECORD = "merge.json"
"""Name of the file in a model's folder that names the checkpoints of which it is the mean."""


def own_step(model: str, step: int | None) -> int | None:
    """Return the step of a model that is a checkpoint of the run itself, else None.

    `model`: name of the folder of its cells.
    """
    if step is not None and model == checkpoint_name(step):
        return step
    return None


def is_own_merge(model: str) -> bool:
    """Tell whether the name of a folder of cells is that of a mean of the run's own checkpoints."""
    return model.startswith(MERGE_PREFIX) and "@" not in model


@dataclass(frozen=True)
class CellPlace:
    """The files of a cell: one model, one task, one number of shots."""

    rows: Path
    """Parquet file, a row for each question."""

    @property
    def result(self) -> Path:
        """JSON file with lm-eval's result and its provenance, written last."""
        return self.rows.with_suffix(".json")

    @property
    def parts(self) -> Path:
        """Folder of the parts of the cell that workers have scored, until the cell is complete."""
        return self.rows.with_suffix(".parts")

    def part(self, number: int, count: int) -> Path:
        """Return the JSON file of a part."""
        return self.parts / f"{number}-of-{count}.json"


@dataclass(frozen=True, order=True)
class CellName:
    """The scores of one model that a cell holds."""

    task: str
    shots: int
    """Solved examples before each question."""
    seed: int
    """Seed of the choice of examples."""


def cells_of_model(folder: Path) -> dict[CellName, CellPlace]:
    """Return the complete cells in a model's folder, sorted by name; empty for any other folder."""
    cells: dict[CellName, CellPlace] = {}
    for path in folder.glob("*/k*.json"):
        match = re.fullmatch(r"k(\d+)(?:-(\d+))?", path.stem)
        if match is not None:
            seed = int(match[2] or FIRST_SEED)
            name = CellName(path.parent.name, int(match[1]), seed)
            cells[name] = CellPlace(path.with_suffix(".parquet"))
    return dict(sorted(cells.items()))


@dataclass(frozen=True)
class ScoresFolder:
    """`run_dir/evaluation`: the scores of a run's checkpoints, and of models beside them."""

    path: Path

    @property
    def cells(self) -> Path:
        """Folder of the cells, `<model>/<task>/k<shots>.parquet` and `.json`."""
        return self.path / "cells"

    def cell(self, model: str, task: str, shots: int, seed: int) -> CellPlace:
        """Return the files of a cell."""
        name = f"k{shots}"
        if seed != FIRST_SEED:
            name = f"{name}-{seed}"
        return CellPlace(self.cells / model / task / f"{name}.parquet")

    @property
    def table(self) -> Path:
        """JSON lines: a line for each metric of each task, model and number of shots."""
        return self.path / "scores.jsonl"

    @property
    def suite(self) -> Path:
        """JSON file with the score of each model in the suite of the run file."""
        return self.path / "suite.json"

    def stored_cells(self) -> list[CellPlace]:
        """Return all cells that are complete, sorted by path."""
        paths = sorted(self.cells.glob("*/*/k*.json"))
        return [CellPlace(path.with_suffix(".parquet")) for path in paths]
