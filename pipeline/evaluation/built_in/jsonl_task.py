"""Loads a task's questions for lm-eval. A copy of this file stands beside the task files it serves.

lm-eval finds the function through `!function jsonl_task.load`, relative to the task file: so the folder can be moved,
and no cache of `datasets` is written. It imports nothing of this package.
"""

import json
from pathlib import Path
from typing import Any

import datasets


def load(splits: dict[str, str], **_: Any) -> datasets.DatasetDict:
    """Read `{split: file name}` from this folder; lm-eval adds its own metadata, which is not needed."""
    folder = Path(__file__).parent
    rows = {
        split: [json.loads(line) for line in (folder / name).read_text("utf-8").split("\n") if line]
        for split, name in splits.items()
    }
    return datasets.DatasetDict({split: datasets.Dataset.from_list(items) for split, items in rows.items()})
