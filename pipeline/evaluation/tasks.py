"""Writes the built-in tasks as a folder that lm-eval reads: one YAML and one or two JSON-lines
files a task.

`lm_eval run --include_path <folder> --tasks heldout_cloze --num_fewshot 5` scores the very same
questions as the stage. Reads validation documents; writes run_dir/evaluation/tasks.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.sections import Evaluation
from pipeline.corpus.documents import iterate_texts
from pipeline.evaluation.arithmetic import arithmetic
from pipeline.evaluation.cloze import heldout_cloze
from pipeline.evaluation.patterns import KINDS, patterns
from pipeline.evaluation.questions import TaskData
from pipeline.logs import warn
from pipeline.store.files import remove_unlisted, write_atomic

SEED = 20200528
"""Seed of all draws; not a setting, so that scores of different runs on the same documents are of the
same questions."""
PATTERN_TASKS = tuple(f"pattern_{kind}" for kind in KINDS)
BUILT_IN = ("heldout_cloze", "patterns", *PATTERN_TASKS, "arithmetic")
"""Few-shot tasks that this project makes; four choices each."""
BITS_PER_BYTE = "heldout_bpb_"
"""Prefix of the tasks, one a source, that measure bits per byte."""

_LOADER = Path(__file__).with_name("jsonl_task.py")


def write_tasks(
    folder: Path, documents_dir: Path, sources: Sequence[str], settings: Evaluation
) -> list[str]:
    """Write the tasks that `evaluation.tasks` asks for, and bits per byte of every source; return
    the file names.

    The same documents and settings give the same bytes. Raises DataError where the held-out text is
    too little for a few-shot task; a source without any has no task of its own.
    """
    files = {_LOADER.name: _LOADER.read_text("utf-8")}
    # lm-eval draws k of them for each question; with a pool of 4(k + 1) the draws differ.
    examples = 4 * (max(settings.shots, default=0) + 1)
    if "heldout_cloze" in settings.tasks:
        data = heldout_cloze(documents_dir, sources, settings.items, examples, SEED)
        files |= _choice_task("heldout_cloze", data, "\n\n")
    if {"patterns", *PATTERN_TASKS} & set(settings.tasks):
        for name, data in patterns(
            -(-settings.items // len(PATTERN_TASKS)), examples, SEED
        ).items():
            files |= _choice_task(name, data, "\n")
        files["patterns.yaml"] = yaml.safe_dump(_PATTERNS_GROUP, sort_keys=False)
    if "arithmetic" in settings.tasks:
        files |= _choice_task("arithmetic", arithmetic(settings.items, examples, SEED), "\n\n")
    if settings.heldout_bytes:
        for source in sources:
            files |= _rolling_task(
                source, list(_texts(documents_dir, source, settings.heldout_bytes))
            )
    for name, content in files.items():
        write_atomic(folder / name, content)
    remove_unlisted(folder, list(files), ["*"])
    return sorted(files)


_METRICS = [
    {"metric": name, "aggregation": "mean", "higher_is_better": True}
    for name in ("acc", "acc_mutual_info")
]
_PATTERNS_GROUP = {
    "group": "patterns",
    "task": list(PATTERN_TASKS),
    "aggregate_metric_list": [
        {"metric": name, "aggregation": "mean", "weight_by_size": True}
        for name in ("acc", "acc_mutual_info")
    ],
    "metadata": {"version": 1},
}


def _choice_task(name: str, data: TaskData, delimiter: str) -> dict[str, str]:
    task = {
        "task": name,
        "dataset_kwargs": {
            "splits": {"questions": f"{name}.jsonl", "examples": f"{name}.examples.jsonl"}
        },
        "output_type": "multiple_choice",
        "test_split": "questions",
        "fewshot_split": "examples",
        "doc_to_text": "context",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "target_delimiter": " ",
        "fewshot_delimiter": delimiter,
        "metric_list": _METRICS,
        "metadata": {"version": 1},
    }
    return {
        f"{name}.yaml": _task_yaml(task),
        f"{name}.jsonl": _json_lines(map(asdict, data.questions)),
        f"{name}.examples.jsonl": _json_lines(map(asdict, data.examples)),
    }


def _rolling_task(source: str, rows: list[dict[str, str]]) -> dict[str, str]:
    if not rows:  # no reason to lose the scores of a long run
        warn(
            f"source {source}: has no held-out document, so its bits per byte are not measured. "
            f"prepare.validation_fraction decides how many there are."
        )
        return {}
    name = f"{BITS_PER_BYTE}{source}"
    task = {
        "task": name,
        "dataset_kwargs": {"splits": {"documents": f"{name}.jsonl"}},
        "output_type": "loglikelihood_rolling",
        "test_split": "documents",
        "doc_to_text": "",
        "doc_to_target": "text",
        "num_fewshot": 0,
        "metric_list": [
            {"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False}
        ],
        "metadata": {"version": 1},
    }
    return {f"{name}.yaml": _task_yaml(task), f"{name}.jsonl": _json_lines(rows)}


def _texts(documents_dir: Path, source: str, limit: int) -> Iterator[dict[str, str]]:
    """Yield whole documents until `limit` bytes; the one that passes it is cut between two
    characters."""
    left = limit
    for identity, text in iterate_texts(documents_dir, source, "validation"):
        data = text.encode()[:left]
        left -= len(data)
        kept = data.decode(errors="ignore")  # drops the character that the cut went through
        if kept:
            yield {"id": identity, "text": kept}
        if left <= 0:
            return


def _task_yaml(task: dict[str, Any]) -> str:
    return f"custom_dataset: !function {_LOADER.stem}.load\n" + yaml.safe_dump(
        task, sort_keys=False
    )


def _json_lines(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
