"""One task of `prepare`: a group of raw files to checked documents in Parquet, split into train and validation.

Reads raw files; writes `<source>/<split>_*.parquet` and, where rows were rejected, `<source>/rejected/<task>.jsonl`.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson
import xxhash

from pipeline.artifacts import file_record, write_atomic
from pipeline.corpus.documents import SPLITS, Document, ShardWriter, remove_task_outputs
from pipeline.corpus.rows import FileBroken, Kind, Reject, Row, read_rows
from pipeline.errors import DataError

SAMPLES_PER_REASON = 20
"""Rejected rows that a task keeps of each reason; all are counted."""


@dataclass(frozen=True)
class ReadSettings:
    """Everything but the files that decides what a task of this source writes."""

    source: str
    kind: Kind
    text_field: str
    split_by: str
    validation_fraction: float
    on_broken_file: Literal["stop", "keep-readable-rows"]
    shard_text_bytes: int


@dataclass
class _Tally:
    """What a task has seen so far."""

    documents: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(SPLITS, 0)))
    text_bytes: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(SPLITS, 0)))
    rejected: Counter[str] = field(default_factory=Counter)
    samples: list[bytes] = field(default_factory=list)
    broken_files: dict[str, str] = field(default_factory=dict)


def read_files(
    documents_dir: Path, task: int, files: Sequence[tuple[Path, str]], settings: ReadSettings
) -> dict[str, Any]:
    """Write the documents of `files`, pairs of path and name, and return counts and file records.

    Raises DataError, after reading every file and leaving no output, if one is broken and `on_broken_file` is `stop`;
    at once if a row lacks the key of `split_by`.
    """
    folder = documents_dir / settings.source
    folder.mkdir(parents=True, exist_ok=True)
    rejected = folder / "rejected" / f"{task:05d}.jsonl"
    remove_task_outputs(folder, task)
    rejected.unlink(missing_ok=True)
    writers = {split: ShardWriter(folder, split, task, settings.shard_text_bytes) for split in SPLITS}
    tally = _Tally()
    problems = []
    try:
        for path, name in files:
            try:
                _read_file(path, name, settings, writers, tally)
            except FileBroken as error:
                tally.broken_files[name] = error.why
                problems.append(f"source {settings.source}: {error}")
        if problems and settings.on_broken_file == "stop":
            raise DataError("\n".join(problems))
        shards = [path for split in SPLITS for path in writers[split].close()]
    except BaseException:
        remove_task_outputs(folder, task)
        raise
    if tally.samples:
        write_atomic(rejected, b"\n".join([*tally.samples, b""]))
    return {
        "files": {path.relative_to(documents_dir).as_posix(): file_record(path) for path in shards},
        "documents": dict(tally.documents),
        "text_bytes": dict(tally.text_bytes),
        "rejected": dict(sorted(tally.rejected.items())),
        "broken_files": tally.broken_files,
    }


def _read_file(path: Path, name: str, settings: ReadSettings, writers: dict[str, ShardWriter], tally: _Tally) -> None:
    for row in read_rows(path, settings.kind, settings.text_field):
        if isinstance(row, Reject):
            tally.rejected[row.reason] += 1
            if tally.rejected[row.reason] <= SAMPLES_PER_REASON:
                sample = {"file": name, "row": row.origin_row, "reason": row.reason, "excerpt": row.excerpt}
                tally.samples.append(orjson.dumps(sample))
            continue
        text = row.text.encode()
        key = text if settings.split_by == "text" else _split_key(row, path, settings)
        split = choose_split(key, settings.validation_fraction)
        writers[split].add(Document(row.text, row.meta, name, row.origin_row), len(text))
        tally.documents[split] += 1
        tally.text_bytes[split] += len(text)


def choose_split(key: bytes, validation_fraction: float) -> str:
    """Return `validation` for that fraction of all keys, whatever stands before or after them."""
    return "validation" if xxhash.xxh3_64_intdigest(key) / 2**64 < validation_fraction else "train"


def _split_key(row: Row, path: Path, settings: ReadSettings) -> bytes:
    meta = orjson.loads(row.meta)
    if settings.split_by not in meta:
        raise DataError(
            f"sources.{settings.source}.split_by = {settings.split_by!r}: row {row.origin_row} of {path} has no such "
            f"key in its meta, which has {', '.join(meta) or 'none'}. Name a key that every row has, or set it to text."
        )
    value = meta[settings.split_by]
    return value.encode() if isinstance(value, str) else json.dumps(value, sort_keys=True).encode()
