"""One task of `prepare`: a group of raw files to checked documents in Parquet, split into train and
validation.

Reads raw files; writes `<source>/<split>_*.parquet` and, where rows were rejected,
`<source>/rejected/<key>.jsonl`.
"""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.config.kinds import SOURCE_KINDS
from pipeline.corpus.documents import SPLITS, Document, ShardWriter, remove_task_outputs
from pipeline.corpus.exact_json import loads_exactly
from pipeline.corpus.file_search import InputFile
from pipeline.corpus.losses import Losses
from pipeline.corpus.raw_files import FileBroken, check_unchanged, held_unchanged
from pipeline.corpus.rows import Reject, Row
from pipeline.corpus.source_kind import SourceKind
from pipeline.corpus.split import choose_split, hash_position
from pipeline.errors import DataError
from pipeline.store.counts import DocumentCounts
from pipeline.store.files import write_atomic
from pipeline.store.layout import rejected_rows
from pipeline.store.records import FileRecord
from pipeline.work.executor import report_progress


@dataclass(frozen=True)
class ReadSettings:
    """Everything but the files that decides what a task of this source writes."""

    source: str
    kind: str
    """Name of the kind that reads the rows."""
    text_field: str
    split_by: str
    validation_fraction: float
    on_broken_file: Literal["stop", "keep-readable-rows"]
    shard_text_bytes: int
    line_ends: Literal["lf", "as-they-are"]


@dataclass
class _Task:
    """What a task has done so far."""

    settings: ReadSettings
    writers: dict[str, ShardWriter]
    total_bytes: int
    """Of its raw files."""
    read_bytes: int = 0
    reported_bytes: int = 0
    losses: Losses = field(default_factory=Losses)
    broken_files: dict[str, str] = field(default_factory=dict)
    smallest_hash: float = 1.0
    largest_hash: float = 0.0
    """Largest position of a document in the split, and `smallest_hash` the smallest: see
    `split.hash_position`."""
    crlf_line_ends: int = 0
    """Made LF."""

    def advance(self, count: int) -> None:
        self.read_bytes += count

    def report(self) -> None:
        self.reported_bytes = self.read_bytes
        report_progress(
            min(1.0, self.read_bytes / max(1, self.total_bytes)),
            documents=sum(writer.documents for writer in self.writers.values()),
            text_bytes=sum(writer.text_bytes for writer in self.writers.values()),
        )


class ReadResult(DocumentCounts):
    """What a task of `prepare` has made."""

    files: dict[str, FileRecord]
    """Path below the stage's folder -> what the file holds."""


def read_files(
    documents_dir: Path, key: str, files: Sequence[InputFile], settings: ReadSettings
) -> ReadResult:
    """Write the documents of `files` and return counts and file records; `key` stands in the names
    of the shards.

    Raises DataError, after reading every file and leaving no output, if one is broken and
    `on_broken_file` is `stop`; at once, as FileChanged, if one is not as `files` describes it
    before and after it is read; at once if a row lacks the key of `split_by`. An error of writing,
    such as a full disk, leaves as OSError.
    """
    folder = documents_dir / settings.source
    folder.mkdir(parents=True, exist_ok=True)
    rejected = rejected_rows(folder) / f"{key}.jsonl"
    remove_task_outputs(folder, key)
    rejected.unlink(missing_ok=True)
    writers = {
        split: ShardWriter(folder, split, key, settings.shard_text_bytes) for split in SPLITS
    }
    task = _Task(settings, writers, total_bytes=sum(file.size for file in files))
    problems = []
    try:
        for file in files:
            try:
                with held_unchanged(file.path, file.size, file.modified_ns):
                    _read_file(file, task)
            except FileBroken as error:
                task.broken_files[file.name] = error.why
                problems.append(f"source {settings.source}: {error}")
        for file in files:  # which may have changed after it was read, while others were
            check_unchanged(file.path, file.size, file.modified_ns)
        if problems and settings.on_broken_file == "stop":
            raise DataError("\n".join(problems))
        shards = {
            name: record for split in SPLITS for name, record in writers[split].close().items()
        }
        samples = task.losses.samples()
        if samples:
            write_atomic(rejected, samples)
    except BaseException as error:
        for writer in writers.values():
            writer.discard()
        # What it was writing has gone where it outlived its run: the shards are the next run's.
        if not isinstance(error, FileNotFoundError):
            remove_task_outputs(folder, key)
        raise
    task.report()
    return {
        "files": {f"{settings.source}/{name}": record for name, record in shards.items()},
        "documents": {split: writers[split].documents for split in SPLITS},
        "text_bytes": {split: writers[split].text_bytes for split in SPLITS},
        **task.losses.counts(),
        "broken_files": task.broken_files,
        "smallest_hash": task.smallest_hash,
        "largest_hash": task.largest_hash,
        "crlf_line_ends": task.crlf_line_ends,
    }


def _read_file(file: InputFile, task: _Task) -> None:
    settings = task.settings
    kind: SourceKind = SOURCE_KINDS[settings.kind]
    makes_lf = kind.takes_line_ends and settings.line_ends == "lf"
    with contextlib.closing(kind.read_rows(file.path, settings.text_field, task.advance)) as rows:
        for row in rows:
            if isinstance(row, Reject):
                task.losses.count_reject(row, file.name)
            else:
                task.losses.count_nulls(row)
                if makes_lf:
                    row = _with_lf(row, task)
                key = (
                    row.text
                    if settings.split_by == "text"
                    else _split_key(row, file.path, settings)
                )
                position = hash_position(key)
                task.smallest_hash = min(task.smallest_hash, position)
                task.largest_hash = max(task.largest_hash, position)
                split = choose_split(position, settings.validation_fraction)
                task.writers[split].add(Document(row.text, row.meta, file.name, row.origin_row))
                del key
            del row  # else it would live while the next is parsed
            if task.read_bytes != task.reported_bytes:
                task.report()


def _with_lf(row: Row, task: _Task) -> Row:
    """Return a row with LF in the place of CRLF, and count those."""
    line_ends = row.text.count(b"\r\n")
    task.crlf_line_ends += line_ends
    return row._replace(text=row.text.replace(b"\r\n", b"\n")) if line_ends else row


def _split_key(row: Row, path: Path, settings: ReadSettings) -> bytes:
    meta = loads_exactly(row.meta)
    if settings.split_by not in meta:
        raise DataError(
            f"sources.{settings.source}.split_by = {settings.split_by!r}: row {row.origin_row} of "
            f"{path} has no such "
            f"key in its meta, which has {', '.join(meta) or 'none'}. Name a key that every row "
            "has, or set it to text."
        )
    value = meta[settings.split_by]
    return value.encode() if isinstance(value, str) else json.dumps(value, sort_keys=True).encode()
