"""The first round of `select`: what is said of each document alone, by rules and spans.

Reads documents and annotations of a group of shards; writes a draft of the verdicts on each shard.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.corpus.annotating.annotation_file import ANNOTATE_AGAIN, read_annotations
from pipeline.corpus.documents import open_shard, text_lengths
from pipeline.corpus.parquet_tables import write_parquet
from pipeline.corpus.selecting.judged_shards import JudgedShard
from pipeline.corpus.selecting.rule_values import compared_columns, failed_rules
from pipeline.corpus.selecting.verdicts import SPAN, Cut, apply_cuts, joined_cuts
from pipeline.errors import DataError
from pipeline.store.records import FileRecord
from pipeline.work.task import report_progress

DRAFT = pa.schema(
    [
        ("size", pa.int64()),
        ("reasons", pa.list_(pa.string())),
        ("spans", pa.list_(SPAN)),
    ]
)
"""Columns of a draft: bytes of the text, reasons to remove the document, parts to replace."""
PII = "pii"
PUBLISHED = "published_duplicate"
"""Column of annotations that says which documents a published list names as duplicates."""
PLACEHOLDERS = {
    "email": "|||EMAIL_ADDRESS|||",
    "phone": "|||PHONE_NUMBER|||",
    "ip": "|||IP_ADDRESS|||",
}
"""Kind of personal data -> text in its place. Source: Soldaini et al. 2024 (arXiv:2402.00159)."""


@dataclass(frozen=True)
class JudgeSettings:
    """The settings by which a document is judged alone."""

    rules: Mapping[str, str]
    pii: str
    takes_published: bool

    @property
    def columns(self) -> list[str]:
        """Columns of annotations that are read."""
        columns = compared_columns(self.rules)
        if self.pii != "keep":
            columns.append(PII)
        if self.takes_published:
            columns.append(PUBLISHED)
        return list(dict.fromkeys(columns))


class JudgedShards(TypedDict):
    """Result of the work item of one group of shards."""

    files: Mapping[str, FileRecord]
    """Path below the folder of the round -> size and checksum of a draft."""
    documents: int
    clamped: int
    """Spans that were clamped to their text."""


def judge_shards(
    documents_dir: Path,
    annotations_dir: Path,
    round_dir: Path,
    shards: Sequence[JudgedShard],
    settings: JudgeSettings,
) -> JudgedShards:
    """Write a draft of the verdicts on each shard.

    Raises DataError where documents or annotations are damaged, or do not belong to each other.
    """
    files: dict[str, FileRecord] = {}
    documents = 0
    clamped = 0
    for number, shard in enumerate(shards, 1):
        draft, clamped_here = _judge_shard(documents_dir, annotations_dir, shard, settings)
        files[shard.name] = write_parquet(draft, round_dir / shard.name)
        documents += draft.num_rows
        clamped += clamped_here
        report_progress(number / len(shards), documents=documents)
    return {"files": files, "documents": documents, "clamped": clamped}


def _judge_shard(
    documents_dir: Path, annotations_dir: Path, shard: JudgedShard, settings: JudgeSettings
) -> tuple[pa.Table, int]:
    """Return the draft of a shard, and the number of spans that were clamped."""
    # What the annotations say, without the documents.
    reasons: list[list[str]] = []
    cuts: dict[int, list[Cut]] = {}
    if settings.columns:
        path = annotations_dir / shard.name
        for table in read_annotations(path, shard.documents, settings.columns):
            cuts |= _personal_data(table, settings, len(reasons))
            reasons += _reasons_in(table, settings)

    # Sizes of the texts, and the texts that have parts to replace.
    sizes: list[np.ndarray] = []
    spans: dict[int, list[Cut]] = {}
    clamped = 0
    first = 0
    for texts in _text_groups(documents_dir / shard.name):
        sizes.append(text_lengths(texts))
        for row in range(first, first + len(texts)):
            if row not in cuts or shard.always_stays:
                continue
            text: str = texts[row - first].as_py()
            spans[row], clamped_here = joined_cuts(cuts[row], len(text))
            clamped += clamped_here
            if not apply_cuts(text, spans[row]).strip():
                reasons[row].append("empty-after-cuts")
        first += len(texts)
    if not settings.columns:
        reasons = [[] for _ in range(first)]
    if len(reasons) != first:
        raise DataError(
            f"{annotations_dir / shard.name}: has {len(reasons):,} rows, and its documents "
            f"{first:,}. {ANNOTATE_AGAIN}"
        )

    # Nothing removes what `validation_paths` holds out.
    if shard.always_stays:
        reasons = [[] for _ in range(first)]
    draft = {
        "size": np.concatenate([np.zeros(0, np.int64), *sizes]),
        "reasons": pa.array(reasons, pa.list_(pa.string())),
        "spans": pa.array([spans.get(row, []) for row in range(first)], pa.list_(SPAN)),
    }
    return pa.table(draft, schema=DRAFT), clamped


def _reasons_in(table: pa.Table, settings: JudgeSettings) -> list[list[str]]:
    """Return the reasons to remove each document, in the order of the rules."""
    failed = {f"rule:{name}": wrong for name, wrong in failed_rules(settings.rules, table).items()}
    if settings.takes_published:
        listed = table[PUBLISHED].fill_null(False)
        failed["listed-duplicate"] = listed.to_numpy().astype(bool)
    if settings.pii == "remove":
        failed["personal-data"] = _span_counts(table) > 0
    reasons: list[list[str]] = [[] for _ in range(table.num_rows)]
    for reason, wrong in failed.items():
        for row in np.flatnonzero(wrong).tolist():
            reasons[row].append(reason)
    return reasons


def _span_counts(table: pa.Table) -> np.ndarray:
    counts = pc.call_function("list_value_length", [table[PII].combine_chunks()])
    return counts.fill_null(0).to_numpy()


def _personal_data(
    table: pa.Table, settings: JudgeSettings, first_row: int
) -> dict[int, list[Cut]]:
    """Return row -> parts of a document to replace, for the documents that have any."""
    if settings.pii != "replace":
        return {}
    cuts: dict[int, list[Cut]] = {}
    for row in np.flatnonzero(_span_counts(table)).tolist():
        cuts[first_row + row] = [
            {
                "start": span["start"],
                "end": span["end"],
                "replacement": PLACEHOLDERS.get(span["kind"], "|||PII|||"),
                "reason": "personal-data",
            }
            for span in table[PII][row].as_py()
        ]
    return cuts


def _text_groups(shard: Path) -> Iterator[pa.ChunkedArray]:
    with open_shard(shard) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=["text"], use_threads=False)["text"]
