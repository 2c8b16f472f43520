"""Task files for lm-eval as a user would write them, with a few questions each."""

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from pipeline.evaluation.built_in import jsonl_task

QUESTIONS = [
    {
        "question": f"Is {i} odd?",
        "choices": ["yes", "no", "never"][: 2 + i % 2],
        "answer": 1 - i % 2,
    }
    for i in range(6)
]
"""Three of two choices and three of three."""


def write_task(folder: Path, name: str, **changes: Any) -> None:
    """Write a multiple-choice task over QUESTIONS, whose data are beside it; `changes` are entries
    of its YAML."""
    folder.mkdir(exist_ok=True)
    shutil.copy(str(jsonl_task.__file__), folder / "jsonl_task.py")
    (folder / "questions.jsonl").write_text(
        "".join(json.dumps(question) + "\n" for question in QUESTIONS)
    )
    task = {
        "task": name,
        "dataset_kwargs": {"splits": {"questions": "questions.jsonl"}},
        "output_type": "multiple_choice",
        "test_split": "questions",
        "fewshot_split": "questions",
        "doc_to_text": "question",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    loader = "" if "dataset_path" in changes else "custom_dataset: !function jsonl_task.load\n"
    (folder / f"{name}.yaml").write_text(
        loader + yaml.safe_dump({**task, **changes}, sort_keys=False)
    )


GENERATION = {
    "output_type": "generate_until",
    "doc_to_choice": None,
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}
"""Changes that have the model write its answer, at most 8 tokens."""
