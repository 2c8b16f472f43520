"""Contamination: which questions of a task a run has read in its training documents, and when.

A question counts as read at the first step that read a token of a passage which consists of its
n-grams (`corpus/ngram_index.py` says which): from the checkpoint of that step on it is dirty. Held-out
documents that hold a question are not trained on and do not count. Sources of token ids without text
cannot be searched.

Reads the task's questions, the documents and the order of the run; writes
`run_dir/evaluation/contamination/<task>.parquet`. Source: Brown et al. 2020 (arXiv:2005.14165),
section 4 and appendix C. There an example is dirty if any training document holds it, read or not.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import pyarrow as pa

from pipeline.config.run_config import RunConfig
from pipeline.config.run_sections import Executor
from pipeline.corpus.decontaminating.item_texts import TaskItems
from pipeline.corpus.ngram_index import FEWEST_WORDS
from pipeline.corpus.parquet_tables import read_parquet, write_parquet
from pipeline.corpus.selecting.kept_documents import kept_documents
from pipeline.corpus.text_search import (
    FoundPassage,
    SearchedTexts,
    found_passages,
    search_documents,
)
from pipeline.errors import DELETE_FIRST
from pipeline.logs import progress
from pipeline.sampling.passage_tokens import passage_tokens
from pipeline.sampling.trace import document_use
from pipeline.sampling.trace_records import TimeSeen
from pipeline.sampling.traced_run import TracedRun
from pipeline.store.contamination_files import contaminated_items_path
from pipeline.store.layout import RunFolder

ItemState: TypeAlias = Literal["clean", "dirty", "too short"]
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("hash", pa.large_string(), nullable=False),
        pa.field("words", pa.int64(), nullable=False),
        pa.field("documents", pa.int64(), nullable=False),
        pa.field("held_out", pa.int64(), nullable=False),
        pa.field("first_step", pa.int64()),
        pa.field("document", pa.string()),
    ]
)
"""Columns of the file of a task; `ItemReading` describes them."""
HELD_OUT_PREFIX = "validation_"


@dataclass(frozen=True)
class ItemReading:
    """When a run reads a question of a task."""

    id: int
    """Number of the question in the task's evaluation split."""
    hash: str
    """lm-eval's hash of the question's row."""
    words: int
    """Words of the question and its right answer."""
    documents: int
    """Training documents that hold it, read or not."""
    held_out: int
    """Held-out documents that hold it, which are not trained on."""
    first_step: int | None
    """First step of the run, done or still to come, that reads it; None if none does."""
    document: str | None
    """Id of the document that `first_step` reads."""

    def state_at(self, step: int) -> ItemState:
        """Return what the question is for the checkpoint after a step."""
        if self.words < FEWEST_WORDS:
            return "too short"
        if self.first_step is not None and self.first_step <= step:
            return "dirty"
        return "clean"


@dataclass(frozen=True)
class ItemPassage:
    """A passage of a document that holds n-grams of a question."""

    source: str
    found: FoundPassage

    @property
    def document(self) -> str:
        """Id of the document, `source/shard/row`."""
        return f"{self.source}/{self.found['shard']}/{self.found['row']}"

    @property
    def is_held_out(self) -> bool:
        """Whether the document is validation text."""
        return self.found["shard"].startswith(HELD_OUT_PREFIX)

    def tokens(self, run: TracedRun) -> tuple[int, int] | None:
        """Return the tokens `[first, end)` of the document that spell the passage.

        None for held-out text, and where the run's tokens do not have the document.
        """
        if self.is_held_out:
            return None
        return passage_tokens(
            run,
            self.source,
            (self.found["shard"], self.found["row"]),
            (self.found["start"], self.found["end"]),
            self.found["document_bytes"],
        )

    def times_read(self, run: TracedRun) -> list[TimeSeen]:
        """Return the times that the run reads a token of the passage, in the order of training."""
        tokens = self.tokens(run)
        if tokens is None:
            return []
        shard = self.found["shard"]
        return document_use(run, self.source, shard, self.found["row"], tokens)["times"]


def search_for_tasks(
    config: RunConfig, tasks: Sequence[TaskItems], executor: Executor, purpose: str
) -> None:
    """Search all documents for the questions of tasks, where that is not done yet.

    `purpose`: the command, for others who find the folder in use. Raises as `search_documents`.
    """
    texts = [task.searched for task in tasks]
    documents = kept_documents(config)
    search_documents(documents, config.sources_with_text, texts, executor, purpose)


def item_passages(config: RunConfig, texts: SearchedTexts) -> list[ItemPassage]:
    """Return the passages of all documents that hold questions of a task, source by source.

    Raises DataError where `search_for_tasks` was not called.
    """
    return [
        ItemPassage(source, found)
        for source in config.sources_with_text
        for found in found_passages(kept_documents(config), source, texts)
    ]


def read_items_of_run(run: TracedRun, task: TaskItems) -> list[ItemReading]:
    """Return when the run reads each question of a task, in the task's order.

    Raises DataError where `search_for_tasks` was not called.
    """
    # Which documents hold each question, and the first step that reads it in one of them.
    training: dict[int, set[str]] = {}
    held_out: dict[int, set[str]] = {}
    first_reads: dict[int, tuple[int, str]] = {}
    passages = item_passages(run.config, task.searched)
    with progress(f"when the run reads {task.task}", len(passages), "passages") as update:
        for done, passage in enumerate(passages, 1):
            number = passage.found["text"]
            holders = training
            if passage.is_held_out:
                holders = held_out
            holders.setdefault(number, set()).add(passage.document)
            for time in passage.times_read(run)[:1]:
                read = (time["step"], passage.document)
                first_reads[number] = min(read, first_reads.get(number, read))
            update(done, "")

    # A row for every question.
    readings: list[ItemReading] = []
    for number, (item, words) in enumerate(zip(task.items, task.words, strict=True)):
        step, document = first_reads.get(number, (None, None))
        readings.append(
            ItemReading(
                id=item["id"],
                hash=item["hash"],
                words=len(words),
                documents=len(training.get(number, ())),
                held_out=len(held_out.get(number, ())),
                first_step=step,
                document=document,
            )
        )
    return readings


def contaminated_items(run: TracedRun, task: TaskItems, step: int) -> dict[int, ItemState]:
    """Return for each question of a task, by its id, what it is for the checkpoint after a step.

    Raises DataError where `search_for_tasks` was not called.
    """
    return {item.id: item.state_at(step) for item in read_items_of_run(run, task)}


def write_read_items(run_dir: Path, task: str, items: Sequence[ItemReading]) -> None:
    """Write when a run reads the questions of a task, so that the file is whole or not there."""
    path = contaminated_items_path(RunFolder(run_dir).evaluation, task)
    write_parquet(pa.Table.from_pylist([asdict(item) for item in items], schema=SCHEMA), path)


def stored_items(run_dir: Path, task: str) -> list[ItemReading] | None:
    """Return what `write_read_items` wrote; None where it wrote nothing.

    Raises DataError for a damaged file.
    """
    path = contaminated_items_path(RunFolder(run_dir).evaluation, task)
    if not path.is_file():
        return None
    table = read_parquet(path, SCHEMA, f"{DELETE_FIRST}Run `pipeline evaluate` again.")
    return [ItemReading(**row) for row in table.to_pylist()]
