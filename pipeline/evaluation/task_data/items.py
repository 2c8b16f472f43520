"""The content of `items.parquet`: each scored question as lm-eval asks it without examples.

Other programs of this package read these texts, such as the search for questions in the training
data. Imports lm-eval.
"""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from lm_eval.api.task import Task
from lm_eval.utils import handle_non_serializable, hash_string

from pipeline.corpus.decontaminating.item_texts import ITEMS
from pipeline.evaluation.task_data.stored_tasks import StoredTask
from pipeline.logs import progress


def items_of(task: StoredTask) -> pa.Table:
    """Return a row of ITEMS for each question of the split that is scored."""
    documents = task.eval_docs
    rows: list[dict[str, Any]] = []
    with progress(f"{task.task_name}: texts of questions", len(documents), "questions") as update:
        for position, document in enumerate(documents):
            assert isinstance(document, dict)
            rows.append({"id": position, **item_of(task, document)})
            update(position + 1, "")
    return pa.Table.from_pylist(rows, ITEMS)


def item_of(task: StoredTask, document: dict[str, Any]) -> dict[str, Any]:
    """Return a question as `items.parquet` holds it, without its position."""
    context = task.fewshot_context(document, 0, gen_prefix=task.doc_to_prefix(document))
    requests = task.construct_requests(
        doc=document, ctx=context, metadata=(task.task_name, 0, task.config.repeats)
    )
    if not isinstance(requests, list):
        requests = [requests]
    arguments = [request.arguments for request in requests]
    right = sorted(set(right_answers(task, document)))
    prompt = ""
    if task.OUTPUT_TYPE == "generate_until":
        prompt = str(context)
        answers = right_texts(task, document)[:1]
        right = [0]
    elif task.OUTPUT_TYPE == "loglikelihood_rolling":
        answers = [str(arguments[0][0])]
        right = [0]
    else:
        # What follows the answers repeats them without the question (acc_mutual_info).
        if task.OUTPUT_TYPE == "multiple_choice":
            arguments = arguments[: len(task.doc_to_choice(document))]
        if isinstance(context, str):
            prompt = context
            answers = [str(answer) for _, answer in arguments]
        else:
            answers = [f"{before}{answer}" for before, answer in arguments]
    return {
        "hash": document_hash(document),
        "prompt": prompt,
        "answers": answers,
        "right": right,
    }


def right_answers(task: Task, document: Mapping[str, Any]) -> list[int]:
    """Return the positions of the right answers, as lm-eval counts them; 0 without choices.

    A right answer that is none of the choices is left out.
    """
    if task.OUTPUT_TYPE != "multiple_choice":
        return [0]
    target: Any = task.doc_to_target(document)
    if getattr(task, "multiple_input", 0):
        target = task.doc_to_text(document)
    choices = list(task.doc_to_choice(document))  # pyright: ignore[reportAttributeAccessIssue]
    targets = target
    if not isinstance(target, list):
        targets = [target]
    return [
        choices.index(one) if isinstance(one, str) else int(one)
        for one in targets
        if not isinstance(one, str) or one in choices
    ]


def right_texts(task: StoredTask, document: dict[str, Any]) -> list[str]:
    """Return the right texts of a question that the model answers by writing."""
    right = task.doc_to_target(document)
    if task.config.doc_to_choice is not None and isinstance(right, int):
        right = task.doc_to_choice(document)[right]
    if isinstance(right, list):
        return [str(text) for text in right]
    return [str(right)]


def document_hash(document: dict[str, Any]) -> str:
    """Return lm-eval's `doc_hash` of a question. Source: `lm_eval/evaluator.py`."""
    text = json.dumps(document, indent=2, default=handle_non_serializable, ensure_ascii=False)
    return hash_string(text)
