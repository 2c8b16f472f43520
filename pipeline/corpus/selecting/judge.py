"""The first round of `select`: what is said of each document alone, by rules and spans.

Reads documents and annotations of a group of shards; writes a draft of the verdicts on each shard.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.curation.annotated_columns import PUBLISHED_DUPLICATE
from pipeline.config.curation.select_section import SpanCut
from pipeline.corpus.annotating.annotation_file import ANNOTATE_AGAIN, read_annotations
from pipeline.corpus.annotating.pii import PersonalSpan, replacement
from pipeline.corpus.decontaminating.decontaminate import read_contaminated
from pipeline.corpus.documents import open_shard
from pipeline.corpus.near_duplicates.shard_inputs import CUT_OUT
from pipeline.corpus.parquet_tables import text_lengths, write_parquet
from pipeline.corpus.rows import is_blank
from pipeline.corpus.selecting.judged_shards import JudgedShard
from pipeline.corpus.selecting.rule_values import SCORE, compared_columns, failed_rules
from pipeline.corpus.selecting.verdicts import SPAN, Cut, apply_cuts, joined_cuts
from pipeline.errors import DataError
from pipeline.store.records import FileRecord
from pipeline.work.task import report_progress

REASONS = pa.list_(pa.string())
DRAFT = pa.schema(
    [
        ("size", pa.int64()),
        ("reasons", REASONS),
        ("spans", pa.list_(SPAN)),
        CUT_OUT,
    ]
)
"""Columns of a draft: bytes of the text, reasons to remove the document, parts to replace, and
which characters are gone then: replaced personal data leave their paragraph what it is."""
PII = "pii"
PERSONAL_DATA = "personal-data"
EMPTY = "empty-after-cuts"
TEXT_HASH = "text_hash"
"""Column of annotations: xxh3_128 of the text's UTF-8, 16 bytes big-endian."""
CONTAMINATED = "contaminated"


@dataclass(frozen=True)
class JudgeSettings:
    """The settings by which a document is judged alone."""

    rules: Mapping[str, str]
    pii: str
    takes_published: bool
    cut_spans: Sequence[SpanCut] = ()

    @property
    def columns(self) -> list[str]:
        """Columns of annotations that are read."""
        columns = compared_columns(self.rules)
        if self.pii != "keep":
            columns += [PII, TEXT_HASH]
        if self.takes_published:
            columns.append(PUBLISHED_DUPLICATE)
        columns += [cut.column for cut in self.cut_spans]
        return list(dict.fromkeys(columns))


class JudgedShards(TypedDict):
    """Result of the work item of one group of shards."""

    files: Mapping[str, FileRecord]
    """Path below the folder of the round -> size and checksum of a draft."""
    documents: int
    clamped: int
    """Spans that were clamped to their text."""


def judge_shards(
    folders: Mapping[str, Path],
    shards: Sequence[JudgedShard],
    settings: JudgeSettings,
    contaminated: Mapping[str, Path],
) -> JudgedShards:
    """Write a draft of the verdicts on each shard.

    `folders`: those of `documents`, `annotations` and `drafts`. `contaminated`: by the path of a
    shard, which of its documents hold questions of tasks; empty where none are searched for. Raises
    DataError where documents or annotations are damaged, or do not belong to each other.
    """
    files: dict[str, FileRecord] = {}
    documents = 0
    clamped = 0
    for number, shard in enumerate(shards, 1):
        found = _Found()
        if shard.name in contaminated:
            found.add_contamination(read_contaminated(contaminated[shard.name]))
        draft, clamped_here = _judge_shard(folders, shard, settings, found)
        files[shard.name] = write_parquet(draft, folders["drafts"] / shard.name)
        documents += draft.num_rows
        clamped += clamped_here
        report_progress(number / len(shards), documents=documents)
    return {"files": files, "documents": documents, "clamped": clamped}


@dataclass
class _Found:
    """What is found of the documents of a shard, by row."""

    reasons: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    personal: dict[int, _PersonalData] = field(default_factory=dict)
    cuts: dict[int, list[Cut]] = field(default_factory=dict[int, list[Cut]])
    annotated: int = 0
    """Rows of annotations."""

    def add_contamination(self, table: pa.Table) -> None:
        """Add the documents of a shard that hold questions of tasks."""
        for row in table.to_pylist():
            if not row["keep"]:
                self.reasons.setdefault(row["row"], []).append(CONTAMINATED)
            for span in row["spans"]:
                cut: Cut = {
                    "start": span["start"],
                    "end": span["end"],
                    "replacement": "",
                    "reason": CONTAMINATED,
                }
                self.cuts.setdefault(row["row"], []).append(cut)

    def cut_out(self, row: int) -> list[dict[str, int]]:
        """Return the characters of a document that are cut, in any order."""
        return [{"start": cut["start"], "end": cut["end"]} for cut in self.cuts.get(row, ())]

    def cuts_of(self, row: int, text: str) -> list[Cut]:
        """Return the parts of a document to replace, in any order."""
        cuts = list(self.cuts.get(row, ()))
        if row in self.personal:
            cuts += self.personal[row].cuts(text)
        return cuts


class _PersonalData(NamedTuple):
    """Spans of a document that may identify a person."""

    spans: Sequence[PersonalSpan]
    text_hash: bytes

    def cuts(self, text: str) -> list[Cut]:
        """Return what replaces them; it depends on the document alone."""
        return [
            {
                "start": span.start,
                "end": span.end,
                "replacement": replacement(span.kind, text[span.start : span.end], self.text_hash),
                "reason": PERSONAL_DATA,
            }
            for span in self.spans
        ]


def _judge_shard(
    folders: Mapping[str, Path], shard: JudgedShard, settings: JudgeSettings, found: _Found
) -> tuple[pa.Table, int]:
    """Return the draft of a shard, and the number of spans that were clamped."""
    # What the annotations say, without the documents.
    path = folders["annotations"] / shard.name
    if settings.columns:
        for table in read_annotations(path, shard.documents, settings.columns):
            _add_personal_data(found, table, settings)
            for cut in settings.cut_spans:
                _add_spans(found, table[cut.column].combine_chunks(), cut)
            _add_reasons(found, table, settings)
            found.annotated += table.num_rows

    # Sizes of the texts, and the texts that have parts to replace. What files hold out
    # as a whole stays as it is.
    if shard.always_stays:
        found = _Found(annotated=found.annotated)
    rows_with_cuts = {*found.cuts, *found.personal}
    sizes: list[np.ndarray] = [np.zeros(0, np.int64)]
    spans: dict[int, list[Cut]] = {}
    clamped = 0
    first = 0
    for texts in _text_groups(folders["documents"] / shard.name):
        sizes.append(text_lengths(texts))
        for row in sorted(rows_with_cuts & {*range(first, first + len(texts))}):
            text: str = texts[row - first].as_py()
            spans[row], clamped_here = joined_cuts(found.cuts_of(row, text), len(text))
            clamped += clamped_here
            if is_blank(apply_cuts(text, spans[row])):
                found.reasons.setdefault(row, []).append(EMPTY)
        first += len(texts)
    if settings.columns and found.annotated != first:
        raise DataError(
            f"{path}: has {found.annotated:,} rows, and its documents {first:,}. {ANNOTATE_AGAIN}"
        )
    draft = {
        "size": np.concatenate(sizes),
        "reasons": pa.array([found.reasons.get(row, []) for row in range(first)], REASONS),
        "spans": pa.array([spans.get(row, []) for row in range(first)], pa.list_(SPAN)),
        CUT_OUT.name: pa.array([found.cut_out(row) for row in range(first)], CUT_OUT.type),
    }
    return pa.table(draft, schema=DRAFT), clamped


def _add_reasons(found: _Found, table: pa.Table, settings: JudgeSettings) -> None:
    """Add the reasons to remove each document, in the order of the rules."""
    failed = {f"rule:{name}": wrong for name, wrong in failed_rules(settings.rules, table).items()}
    if settings.takes_published:
        listed = table[PUBLISHED_DUPLICATE].fill_null(False)
        failed["listed-duplicate"] = listed.to_numpy().astype(bool)
    if settings.pii == "remove":
        failed[PERSONAL_DATA] = _span_counts(table) > 0
    for reason, wrong in failed.items():
        for row in np.flatnonzero(wrong).tolist():
            found.reasons.setdefault(found.annotated + row, []).append(reason)


def _span_counts(table: pa.Table) -> np.ndarray:
    counts = pc.call_function("list_value_length", [table[PII].combine_chunks()])
    return counts.fill_null(0).to_numpy()


def _add_personal_data(found: _Found, table: pa.Table, settings: JudgeSettings) -> None:
    """Add the spans of personal data, where they are to be replaced."""
    if settings.pii != "replace":
        return
    for row in np.flatnonzero(_span_counts(table)).tolist():
        spans = [PersonalSpan(**span) for span in table[PII][row].as_py()]
        text_hash: bytes = table[TEXT_HASH][row].as_py()
        found.personal[found.annotated + row] = _PersonalData(spans, text_hash)


def _add_spans(found: _Found, column: pa.Array, cut: SpanCut) -> None:
    """Add the spans of a column of annotations whose scores are high enough."""
    counts = pc.call_function("list_value_length", [column]).fill_null(0).to_numpy()
    for row in np.flatnonzero(counts).tolist():
        for span in column[row].as_py():
            score = span[SCORE]
            if cut.at_least is not None and (score is None or not score >= cut.at_least):
                continue
            part: Cut = {
                "start": span["start"],
                "end": span["end"],
                "replacement": cut.replacement,
                "reason": cut.column,
            }
            found.cuts.setdefault(found.annotated + row, []).append(part)


def _text_groups(shard: Path) -> Iterator[pa.ChunkedArray]:
    with open_shard(shard) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=["text"], use_threads=False)["text"]
