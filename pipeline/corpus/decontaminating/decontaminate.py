"""Find the documents that hold questions of public tasks, and say what is to be done with them.

Reads the documents and the column `contamination` of their annotations. Steps, each a list of work items:
n-grams of questions by shard; those that many texts of a source hold, by source; evidence and verdicts
by shard. All lies in one folder.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import pyarrow as pa

from pipeline.config.curation.decontaminate_section import Decontaminate
from pipeline.corpus.annotating.part import list_of
from pipeline.corpus.decontaminating.common_grams import (
    CommonGrams,
    HeldGrams,
    read_common_grams,
    write_common_grams,
    write_held_grams,
)
from pipeline.corpus.decontaminating.cutting import Span, spans_to_cut
from pipeline.corpus.decontaminating.decontamination_folder import DecontaminationFolder
from pipeline.corpus.decontaminating.searched_tasks import SearchedTasks
from pipeline.corpus.decontaminating.shared_grams import (
    HeldQuestion,
    SharedGram,
    held_questions,
)
from pipeline.corpus.near_duplicates.compared_shards import (
    ComparedShard,
    compared,
    read_comparison,
)
from pipeline.corpus.near_duplicates.comparison_steps import ComparisonSteps, digest_of
from pipeline.corpus.parquet_tables import read_parquet, write_parquet
from pipeline.store import versions
from pipeline.store.curation.selection_folder import SELECT_AGAIN
from pipeline.store.files import fingerprint, output_digest
from pipeline.store.records import FileRecord
from pipeline.work.executor import run_tasks
from pipeline.work.task import Task
from pipeline.work.workers import Workers

EVIDENCE = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("item", pa.int64(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("gram", pa.large_string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("end", pa.int64(), nullable=False),
    ]
)
"""A row of the shard; a question that it holds (task, and position in the split that is scored); whether
13-grams or all of its words were found; the first n-gram of the passage; the passage's characters."""
CONTAMINATED = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("keep", pa.bool_(), nullable=False),
        pa.field("spans", list_of(pa.struct([("start", pa.int64()), ("end", pa.int64())]))),
    ]
)
"""A row of the shard that holds a question; whether it is kept; the characters to cut, ascending."""
LEFT_OUT = pa.schema(
    [
        pa.field("task", pa.string(), nullable=False),
        pa.field("item", pa.int64(), nullable=False),
    ]
)
"""A question that a document of the shard holds in common phrases alone, each once, sorted."""


class DecontaminatedShard(TypedDict):
    """Result of the work item of one shard."""

    documents: int
    """Documents that hold a question."""
    removed: int
    cut: int
    left_out: int
    """Documents that hold a question in common phrases alone."""
    files: Mapping[str, FileRecord]


@dataclass(frozen=True)
class Decontaminated:
    """What a decontamination has found."""

    paths: Mapping[str, Path]
    """`source~stem` of each shard -> the Parquet file of schema `CONTAMINATED`."""
    evidence: Mapping[str, Path]
    """`source~stem` of each shard -> the Parquet file of schema `EVIDENCE`."""
    common: Mapping[str, Path]
    """Source -> the Parquet file of the n-grams that are left out, of schema `COMMON_GRAMS`."""
    digests: Mapping[str, str]
    """`source~stem` of each shard -> hash of its files."""
    documents: int
    """Documents that hold a question, kept or not."""
    removed: int
    cut: int
    common_grams: int
    """n-grams that are left out, over all sources."""
    left_out: int
    """Documents that hold a question in common phrases alone, which does not count there."""
    left_out_questions: int
    """Different questions that do not count in such a document."""


def decontaminate(
    shards: Sequence[ComparedShard],
    folder: Path,
    crew: Workers,
    section: Decontaminate,
    tasks: SearchedTasks,
) -> Decontaminated:
    """Say for each shard which documents hold a question, by the section's rules.

    `folder`: of this decontamination alone. `tasks`: those whose questions the annotations know.
    Raises DataError where documents, annotations or files of `folder` are damaged (TasksFailed with
    all messages).
    """
    comparison = compared(shards)
    steps = ComparisonSteps(comparison, folder, crew)
    files = DecontaminationFolder(folder)
    known = [versions.DECONTAMINATE, *tasks.decides]

    # What documents share with questions, and what too many texts of a source share.
    shared = {"tasks": tasks, "limit": section.common_documents, "folder": folder}
    held: dict[int, HeldGrams] = steps.by_shard(
        write_held_grams, shared, [*known, section.common_documents], files.grams.path, "questions"
    )
    common = _common_grams(steps, held, shared, crew)

    # What counts, and what is done.
    digests = {source: output_digest(result["files"]) for source, result in common.items()}
    judged: dict[int, DecontaminatedShard] = steps.by_shard(
        judge_contamination,
        {"tasks": tasks, "action": section.action, "folder": folder},
        [*known, section.action, digests],
        files.evidence.path,
        "contaminated documents",
    )
    names = [shard.name for shard in comparison.shards]
    return Decontaminated(
        paths={name: files.contaminated.of_shard(name) for name in names},
        evidence={name: files.evidence.of_shard(name) for name in names},
        common={source: files.common_of_source(source) for source in common},
        digests={names[number]: output_digest(each["files"]) for number, each in judged.items()},
        documents=sum(result["documents"] for result in judged.values()),
        removed=sum(result["removed"] for result in judged.values()),
        cut=sum(result["cut"] for result in judged.values()),
        common_grams=sum(result["common"] for result in common.values()),
        left_out=sum(result["left_out"] for result in judged.values()),
        left_out_questions=len(
            {
                (row["task"], row["item"])
                for name in names
                for row in read_parquet(
                    files.left_out.of_shard(name), LEFT_OUT, SELECT_AGAIN
                ).to_pylist()
            }
        ),
    )


def _common_grams(
    steps: ComparisonSteps,
    held: Mapping[int, HeldGrams],
    arguments: Mapping[str, Any],
    crew: Workers,
) -> dict[str, CommonGrams]:
    """Write the n-grams that too many texts hold, source by source.

    `arguments`: those of `write_common_grams`, besides the table and the source.
    """
    by_source: dict[str, dict[int, HeldGrams]] = {}
    for number, result in held.items():
        by_source.setdefault(steps.shards[number].source, {})[number] = result
    tasks: SearchedTasks = arguments["tasks"]
    known = [versions.DECONTAMINATE, *tasks.decides, arguments["limit"]]
    items = [
        Task(
            name=source,
            function=write_common_grams,
            arguments={"table": steps.table, "source": source, **arguments},
            fingerprint=fingerprint([*known, digest_of(results)]),
        )
        for source, results in by_source.items()
    ]
    folder = DecontaminationFolder(arguments["folder"]).common
    return run_tasks(items, folder, crew, "common n-grams", "sources")


def read_contaminated(path: Path) -> pa.Table:
    """Return the documents of a shard that hold a question, of schema `CONTAMINATED`.

    Raises DataError for a damaged file.
    """
    return read_parquet(path, CONTAMINATED, SELECT_AGAIN)


def read_evidence(path: Path) -> pa.Table:
    """Return the passages of a shard that count, of schema `EVIDENCE`. Raises DataError for damage."""
    return read_parquet(path, EVIDENCE, SELECT_AGAIN)


def judge_contamination(
    table: Path, shard: int, tasks: SearchedTasks, action: str, folder: Path
) -> DecontaminatedShard:
    """Write the evidence of one shard, and what is done with its documents."""
    own = read_comparison(table).shards[shard]
    files = DecontaminationFolder(folder)
    common = {*read_common_grams(files.common_of_source(own.source))["gram"].to_pylist()}
    evidence: list[dict[str, object]] = []
    rows: list[dict[str, object]] = []
    left_out: set[tuple[str, int]] = set()
    left_out_documents = 0
    removed = 0
    cut = 0
    for text, held in held_questions(own, tasks):
        passages = [
            (question, passage)
            for question in held
            for passage in passages_of([gram for gram in question.grams if gram.gram not in common])
        ]
        not_counted = {question.key for question in held}
        not_counted -= {question.key for question, _ in passages}
        left_out |= not_counted
        left_out_documents += bool(not_counted)
        if not passages:
            continue
        evidence += [_evidence(question, passage) for question, passage in passages]

        # What is done with the document.
        spans: list[Span] | None = []
        if own.always_stays:
            pass
        elif action == "remove":
            spans = None
        elif action == "cut":
            spans = spans_to_cut([(first.start, end) for _, (first, end) in passages], len(text))
        removed += spans is None
        cut += bool(spans)
        listed = [{"start": start, "end": end} for start, end in spans or ()]
        rows.append({"row": held[0].row, "keep": spans is not None, "spans": listed})

    evidence_path = files.evidence.of_shard(own.name)
    rows_path = files.contaminated.of_shard(own.name)
    left_out_path = files.left_out.of_shard(own.name)
    questions = [{"task": task, "item": item} for task, item in sorted(left_out)]
    found = pa.Table.from_pylist(evidence, schema=EVIDENCE)
    judged = pa.Table.from_pylist(rows, schema=CONTAMINATED)
    return {
        "documents": len(rows),
        "removed": removed,
        "cut": cut,
        "left_out": left_out_documents,
        "files": {
            files.evidence.name(evidence_path): write_parquet(found, evidence_path),
            files.contaminated.name(rows_path): write_parquet(judged, rows_path),
            files.left_out.name(left_out_path): write_parquet(
                pa.Table.from_pylist(questions, schema=LEFT_OUT), left_out_path
            ),
        },
    }


def passages_of(grams: Sequence[SharedGram]) -> Iterator[tuple[SharedGram, int]]:
    """Yield the first n-gram and the end of each passage of n-grams that overlap or follow each other."""
    first: SharedGram | None = None
    last: SharedGram | None = None
    for gram in grams:
        if (
            first is not None
            and last is not None
            and gram.first_word > last.first_word + last.words
        ):
            yield first, last.end
            first = None
        first = first or gram
        last = gram
    if first is not None and last is not None:
        yield first, last.end


def _evidence(question: HeldQuestion, passage: tuple[SharedGram, int]) -> dict[str, object]:
    """Return a passage as a row of `EVIDENCE`."""
    first, end = passage
    return {
        "row": question.row,
        "task": question.passage.task,
        "item": question.passage.item,
        "kind": question.passage.kind,
        "gram": first.gram,
        "start": first.start,
        "end": end,
    }
