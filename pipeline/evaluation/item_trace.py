"""`pipeline trace --item`: the documents that hold a question, and the steps that read them.

Reads the task's questions, the documents and the order of the run. Searches all documents for the
questions of the task, if that was not done yet, and keeps what it finds in data_dir.
"""

from itertools import groupby
from typing import TypedDict

from pipeline.config.run_config import RunConfig
from pipeline.config.run_sections import Executor
from pipeline.corpus.decontaminating.item_texts import TaskItems, right_answer
from pipeline.corpus.documents import shard_path
from pipeline.corpus.ngram_index import FEWEST_WORDS
from pipeline.corpus.selecting.kept_documents import kept_documents
from pipeline.errors import UserError
from pipeline.evaluation.built_in.built_in_tasks import BUILT_IN
from pipeline.evaluation.contamination import ItemPassage, item_passages, search_for_tasks
from pipeline.evaluation.task_items import read_task_items
from pipeline.sampling.trace import document_origin
from pipeline.sampling.trace_records import DocumentOrigin, TimeSeen
from pipeline.sampling.traced_run import TracedRun


class TracedPassage(TypedDict):
    """A passage of a document that consists of n-grams of the question."""

    start: int
    """First byte of the passage in the document's text."""
    end: int
    """Byte after the last one of the passage."""
    text: str
    grams: int
    """Number of different n-grams of the question in the passage."""
    tokens: tuple[int, int] | None
    """Tokens `[first, end)` of the document that spell the passage; None where the run has none."""
    times: list[TimeSeen]
    """Times that the run reads one of these tokens."""


class TracedHolder(DocumentOrigin):
    """A document that holds the question."""

    id: str
    """`source/shard/row`."""
    held_out: bool
    """Whether the document is validation text."""
    passages: list[TracedPassage]


class TracedItem(TypedDict):
    """A question, and when a run reads it."""

    run: str
    """The run's folder."""
    completed_steps: int
    task: str
    id: int
    hash: str
    text: str
    """Prompt and right answer."""
    words: int
    """Words that are searched for: of prompt and right answer, without what all prompts share."""
    is_searched: bool
    """Whether there are enough words to tell."""
    first_step: int | None
    """First step, done or still to come, that reads the question; None if none does."""
    documents: list[TracedHolder]


def trace_item(run: TracedRun, key: str) -> TracedItem:
    """Return the documents that hold a question, and the steps that read them.

    `key`: `TASK/ID`. Raises UserError for a task or question that does not exist, or where the run
    file names no folder of questions.
    """
    # The question, and the documents that hold it.
    name, _, number = key.rpartition("/")
    task = _items_of_task(run.config, name, key)
    place = _place_of_item(task, number, key)
    item = task.items[place]
    search_for_tasks(run.config, [task], Executor(), "pipeline trace")
    passages = [
        passage
        for passage in item_passages(run.config, task.searched)
        if passage.found["text"] == place
    ]

    # When the run reads them.
    holders = [
        _traced_holder(run, list(of_document))
        for _, of_document in groupby(passages, key=lambda passage: passage.document)
    ]
    steps = [
        time["step"]
        for holder in holders
        for passage in holder["passages"]
        for time in passage["times"]
    ]
    words = len(task.words[place])
    return {
        "run": str(run.config.paths.run_dir),
        "completed_steps": run.completed,
        "task": name,
        "id": item["id"],
        "hash": item["hash"],
        "text": item["prompt"] + right_answer(item),
        "words": words,
        "is_searched": words >= FEWEST_WORDS,
        "first_step": min(steps, default=None),
        "documents": holders,
    }


def _items_of_task(config: RunConfig, task: str, key: str) -> TaskItems:
    if not task:
        raise UserError(f"--item {key}: give TASK/ID, for example hellaswag/17")
    if task in BUILT_IN:
        raise UserError(
            f"--item {key}: {task} is a built-in task, whose questions are made for each run and "
            "are not searched for in documents; give a question of a public task"
        )
    if config.evaluation.tasks_dir is None:
        raise UserError(
            f"--item {key}: evaluation.tasks_dir is not set; add evaluation.tasks_dir=FOLDER, the "
            "folder that `pipeline tasks fetch` has written"
        )
    return read_task_items(config.evaluation.tasks_dir, task)


def _place_of_item(task: TaskItems, number: str, key: str) -> int:
    """Return the index of a question among the task's, given its id or lm-eval's hash."""
    for place, item in enumerate(task.items):
        if number in (str(item["id"]), item["hash"]):
            return place
    raise UserError(
        f"--item {key}: {task.task} has no question {number}; its ids are "
        f"{task.items[0]['id']} to {task.items[-1]['id']}"
    )


def _traced_holder(run: TracedRun, passages: list[ItemPassage]) -> TracedHolder:
    """Return a document with its passages that hold the question."""
    first = passages[0]
    shard = first.found["shard"]
    row = first.found["row"]
    documents = kept_documents(run.config)
    path = shard_path(documents.folder, first.source, shard)
    (document,) = documents.read(path, [row], ["text"])
    content = document["text"].encode()
    return {
        **document_origin(run, first.source, shard, row),
        "id": first.document,
        "held_out": first.is_held_out,
        "passages": [
            {
                "start": passage.found["start"],
                "end": passage.found["end"],
                "text": content[passage.found["start"] : passage.found["end"]].decode(),
                "grams": passage.found["grams"],
                "tokens": passage.tokens(run),
                "times": passage.times_read(run),
            }
            for passage in passages
        ],
    }
