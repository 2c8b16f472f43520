"""Names the files below `evaluation.tasks_dir`, the questions of public tasks.

No other module spells these names. Reads and writes nothing.
"""

from dataclasses import dataclass
from pathlib import Path

SOURCE_OF_TASK = "source.json"
"""Name of the file that is written last into the folder of a public task's questions."""
TRAIN = "train"
VALIDATION = "validation"
TEST = "test"
DEV = "dev"
SPLITS_OF_TASKS = (TRAIN, VALIDATION, TEST, DEV)
"""Splits that a public task may have; `dev` is MMLU's five solved examples."""


@dataclass(frozen=True)
class TasksFolder:
    """`evaluation.tasks_dir`: the questions of public tasks, fetched once, shared by many runs."""

    path: Path

    def task(self, name: str) -> Path:
        """Return the folder of one task."""
        return self.path / name

    def split(self, name: str, split: str) -> Path:
        """Return the Parquet file with the rows of a split, in the schema that lm-eval reads."""
        return self.task(name) / f"{split}.parquet"

    def splits(self, name: str) -> dict[str, Path]:
        """Return the files of the splits that exist, by split."""
        paths = {split: self.split(name, split) for split in SPLITS_OF_TASKS}
        return {split: path for split, path in paths.items() if path.exists()}

    def source(self, name: str) -> Path:
        """Return the JSON file that says where the questions come from; it is written last."""
        return self.task(name) / SOURCE_OF_TASK

    def items(self, name: str) -> Path:
        """Return the Parquet file with a row for each scored question, as text."""
        return self.task(name) / "items.parquet"

    def names(self) -> list[str]:
        """Return the tasks whose questions are complete, sorted."""
        return sorted(path.parent.name for path in self.path.glob(f"*/{SOURCE_OF_TASK}"))

    @property
    def hub_revisions(self) -> Path:
        """JSON file of the hub's data sets, each with the revision that is fetched into the folder."""
        return self.path / "hub_revisions.json"

    @property
    def downloads(self) -> Path:
        """Folder of archives that are being fetched; removed when all their tasks are written."""
        return self.path / ".downloads"
