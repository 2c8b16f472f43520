"""Folders of questions and documents that hold them, for tests of decontamination."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from pipeline.corpus.decontaminating.item_texts import ITEMS
from pipeline.corpus.parquet_tables import write_parquet
from pipeline.store.tasks_folder import TasksFolder


def words(prefix: str, count: int) -> str:
    """Return a text of different words with one prefix."""
    return " ".join(f"{prefix}{number}" for number in range(count))


def write_questions(tasks_dir: Path, task: str, texts: Sequence[str]) -> None:
    """Write the questions of a task, each with an empty answer."""
    rows = [
        {"id": 100 + number, "hash": "", "prompt": text, "answers": [""], "right": [0]}
        for number, text in enumerate(texts)
    ]
    write_parquet(pa.Table.from_pylist(rows, schema=ITEMS), TasksFolder(tasks_dir).items(task))
