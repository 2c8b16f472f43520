"""Writes the built-in tasks as a folder that lm-eval reads.

Each task is one YAML file and one or two JSON-lines files. `lm_eval run --include_path <folder>
--tasks heldout_cloze --num_fewshot 5` scores the same questions as the stage `evaluate`. Reads
validation documents; writes run_dir/evaluation/tasks.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import yaml

from pipeline.config.evaluation_section import Evaluation
from pipeline.corpus.selecting.kept_documents import KeptDocuments
from pipeline.errors import ConfigError
from pipeline.evaluation.asked_tasks import BITS_PER_BYTE, AskedTasks
from pipeline.evaluation.built_in.arithmetic import arithmetic_questions
from pipeline.evaluation.built_in.cloze import heldout_cloze, refuse_too_few_questions
from pipeline.evaluation.built_in.patterns import PATTERN_KINDS, pattern_questions
from pipeline.evaluation.built_in.questions import TaskData
from pipeline.logs import warn
from pipeline.store.files import remove_unlisted, write_atomic
from pipeline.store.records import Json

SEED = 20200528
"""Seed of all draws. It is no setting, so that all runs on the same documents are scored on the
same questions."""
PATTERN_TASKS = tuple(f"pattern_{kind}" for kind in PATTERN_KINDS)
"""Members of the group `patterns`."""
BUILT_IN = ("heldout_cloze", "patterns", *PATTERN_TASKS, "arithmetic")
"""Few-shot tasks that this package makes; their questions have four choices."""
QUESTIONS = 200
"""Questions that a built-in task asks where `evaluation.limit` is not set."""
MOST_QUESTIONS = 2_000
"""Questions that are made for each task, or fewer where there are no more. `evaluation.limit` takes
the first of them, so that it does not decide which they are."""
EXAMPLES = 128
"""Solved examples that are made for each task, or fewer where there are no more. lm-eval draws k of
them for each question."""

_LOADER = Path(__file__).with_name("jsonl_task.py")


def write_tasks(
    folder: Path,
    documents: KeptDocuments,
    sources: Sequence[str],
    asked: AskedTasks,
    settings: Evaluation,
) -> list[str]:
    """Write the tasks that are made here; return the names of the files.

    These are the built-in ones of `asked`, and one for the bits per byte of each source with
    held-out text. The same documents give the same questions and examples, whatever the limit and
    the numbers of shots.
    Raises DataError where there is too little held-out text for a few-shot task; ConfigError where
    more examples are to be shown than there are.
    """
    files = {_LOADER.name: _LOADER.read_text("utf-8")}
    problems = too_many_examples(asked)
    if problems:
        raise ConfigError(problems)

    # Few-shot tasks.
    if "heldout_cloze" in asked:
        data = heldout_cloze(documents, sources, MOST_QUESTIONS, EXAMPLES, SEED)
        shots = max(asked["heldout_cloze"], default=0)
        refuse_too_few_questions(data, documents, settings.limit or QUESTIONS, shots)
        files |= _choice_task("heldout_cloze", data, "\n\n")
    if {"patterns", *PATTERN_TASKS} & asked.keys():
        of_each = math.ceil(MOST_QUESTIONS / len(PATTERN_TASKS))
        for name, data in pattern_questions(of_each, EXAMPLES, SEED).items():
            files |= _choice_task(name, data, "\n")
        files["patterns.yaml"] = yaml.safe_dump(_PATTERNS_GROUP, sort_keys=False)
    if "arithmetic" in asked:
        data = arithmetic_questions(MOST_QUESTIONS, EXAMPLES, SEED)
        files |= _choice_task("arithmetic", data, "\n\n")

    # Bits per byte of each source.
    if settings.heldout_bytes:
        for source in sources:
            texts = list(_texts(documents, source, settings.heldout_bytes))
            files |= _bits_per_byte_task(source, texts)

    # Files of tasks that are no longer asked for are removed.
    for name, content in files.items():
        write_atomic(folder / name, content)
    remove_unlisted(folder, list(files), ["*"])
    return sorted(files)


def too_many_examples(asked: AskedTasks) -> list[str]:
    """Describe each built-in task that is to show more solved examples than are made."""
    return [
        f"evaluation.shots: {max(asked[name])} is more than the {EXAMPLES} solved examples of "
        f"{name}; ask for {EXAMPLES} or fewer"
        for name in BUILT_IN
        if max(asked.get(name, ()), default=0) > EXAMPLES
    ]


def questions_to_ask(task: str, limit: int | None) -> int | None:
    """Return how many questions of a single task are asked, the first ones; None for all.

    `limit`: `evaluation.limit`. The pattern tasks share it.
    """
    if task.startswith(BITS_PER_BYTE):
        return None
    if task not in BUILT_IN:
        return limit
    questions = limit or QUESTIONS
    if task in PATTERN_TASKS:
        return math.ceil(questions / len(PATTERN_TASKS))
    return questions


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
    """Return the files of a task with choices, by name; `delimiter` stands between examples."""
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


def _bits_per_byte_task(source: str, rows: list[dict[str, str]]) -> dict[str, str]:
    """Return the files of the task that measures a source's bits per byte, by name.

    Warns where there is no held-out text: the other scores of a long run must not be lost.
    """
    if not rows:
        warn(
            f"source {source}: has no held-out document, so its bits per byte are not measured. "
            "Raise prepare.validation_fraction to hold out more documents."
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


def _texts(documents: KeptDocuments, source: str, limit: int) -> Iterator[dict[str, str]]:
    """Yield whole documents, `limit` bytes of text in all.

    The last one is cut between two characters where it would exceed the limit.
    """
    left = limit
    for identity, text in documents.iterate_texts(source, "validation"):
        data = text.encode()[:left]
        left -= len(data)
        kept = data.decode(errors="ignore")  # without the character that the limit falls into
        if kept:
            yield {"id": identity, "text": kept}
        if left <= 0:
            return


def _task_yaml(task: Mapping[str, Json]) -> str:
    return f"custom_dataset: !function {_LOADER.stem}.load\n" + yaml.safe_dump(
        task, sort_keys=False
    )


def _json_lines(rows: Iterable[Mapping[str, Json]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
