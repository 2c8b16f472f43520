"""Folders of small public tasks for tests: rows of our own in the schemas that lm-eval reads."""

from pathlib import Path

import pyarrow as pa

from pipeline.evaluation.task_data.source_records import (
    FORMAT,
    SourceRecord,
    write_questions,
)
from pipeline.store.files import write_json
from pipeline.store.records import Json
from pipeline.store.tasks_folder import TasksFolder

COPA = [
    {
        "premise": f"The lamp number {number} fell.",
        "choice1": f"It broke into {number} parts.",
        "choice2": "It flew away.",
        "question": "effect",
        "idx": number,
        "label": number % 2,
    }
    for number in range(12)
]
"""Questions in the schema of SuperGLUE's COPA, all different."""
ARC = [
    {
        "id": f"own_{number}",
        "question": f"What is {number} plus one?",
        "choices": {
            "text": [str(number + 1), str(number + 2), "nothing"],
            "label": ["A", "B", "C"],
        },
        "answerKey": "A",
    }
    for number in range(9)
]
"""Questions in the schema of ARC."""
HELLASWAG = [
    {
        "ind": number,
        "activity_label": "Cooking",
        "ctx_a": f"A cook takes {number} eggs [title] slowly.",
        "ctx_b": "he",
        "ctx": "not used",
        "endings": ["breaks  them.", "[substeps] sings.", "runs away.", "sleeps."],
        "source_id": f"own~{number}",
        "split": "val",
        "split_type": "indomain",
        "label": str(number % 4),
    }
    for number in range(8)
]
"""Questions in the schema of HellaSwag, whose task processes them before they are asked."""
WINOGRANDE = [
    {
        "sentence": f"Ann gave Eve {number} pears because _ was hungry.",
        "option1": "Ann",
        "option2": "Eve",
        "answer": "2",
    }
    for number in range(7)
]
"""Questions in the schema of Winogrande, where the context differs between the answers."""


def write_task(
    tasks: TasksFolder, name: str, definition: str | None, splits: dict[str, list[dict[str, Json]]]
) -> SourceRecord:
    """Write the files of a task as `fetch` does, without the texts of its questions."""
    files = {
        split: write_questions(tasks.split(name, split), pa.Table.from_pylist(rows))
        for split, rows in splits.items()
    }
    record: SourceRecord = {
        "format": FORMAT,
        "task": name,
        "origin": "made by a test",
        "licence": "CC0",
        "licence_source": "",
        "definition": definition,
        "files": files,
        "items": write_questions(tasks.items(name), pa.table({"id": [0]})),
        "scored_split": next(iter(splits)),
        "examples_from": "",
        "harness": "",
    }
    write_json(tasks.source(name), record)
    return record


def write_small_tasks(folder: Path) -> TasksFolder:
    """Write four tasks in four schemas."""
    tasks = TasksFolder(folder)
    write_task(tasks, "copa", "super_glue/copa", {"validation": COPA})
    write_task(tasks, "arc_easy", "arc", {"test": ARC[:5], "validation": ARC[5:]})
    write_task(tasks, "hellaswag", "hellaswag", {"validation": HELLASWAG})
    write_task(tasks, "winogrande", "winogrande", {"validation": WINOGRANDE})
    return tasks
