"""One task of `prepare`: turn a group of raw files into documents, split into train and validation.

Reads the raw files; writes `<source>/<split>_<key>_PPP.parquet` with its `.keys` files and, if rows
were rejected, samples of them in `<source>/rejected/<key>.jsonl`.
"""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import xxhash

from pipeline.config.kinds import SOURCE_KINDS
from pipeline.config.run_config import RunConfig
from pipeline.config.urls import RawPath
from pipeline.corpus.documents import SPLITS, ShardWriter, document_shard, shard_folder
from pipeline.corpus.exact_json import loads_exactly
from pipeline.corpus.file_search import InputFile
from pipeline.corpus.held_out.held_out_texts import HeldOutTexts, read_held_out_texts
from pipeline.corpus.key_file import keys_path
from pipeline.corpus.losses import Losses
from pipeline.corpus.raw_files import FileBroken, check_unchanged, held_unchanged
from pipeline.corpus.row_settings import RowSettings, row_settings
from pipeline.corpus.rows import Reject, Row
from pipeline.corpus.source_kind import SourceKind, source_kind
from pipeline.corpus.split import choose_split, hash_position
from pipeline.errors import DataError
from pipeline.store.counts import DocumentCounts
from pipeline.store.files import write_atomic
from pipeline.store.layout import REJECTED
from pipeline.store.manifests.shard_places import placed
from pipeline.store.records import FileRecord, Json
from pipeline.work.task import report_progress

SAMPLES_SUFFIX = ".jsonl"
"""Suffix of the files with samples of rejected rows."""


@dataclass(frozen=True)
class ReadSettings:
    """The settings that decide what a task writes, besides the files that it reads."""

    source: str
    kind: str
    """Name of the source kind that reads the rows."""
    rows: RowSettings
    split_by: str
    validation_fraction: float
    on_broken_file: Literal["stop", "keep-readable-rows"]
    shard_text_bytes: int
    line_ends: Literal["lf", "as-they-are"]
    held_out: str | None = None
    """Digest of the texts that are held out whatever their hash; None where there are none."""

    @property
    def makes_lf(self) -> bool:
        """Whether CRLF in a text becomes LF."""
        return SOURCE_KINDS[self.kind].takes_line_ends and self.line_ends == "lf"

    @property
    def inputs(self) -> dict[str, Json]:
        """What enters the fingerprint of a task."""
        values: dict[str, Json] = asdict(self)
        del values["rows"]
        if self.held_out is None:
            del values["held_out"]
        return values | self.rows.inputs


def read_settings(config: RunConfig, name: str, is_validation: bool) -> ReadSettings:
    """Return the settings of the tasks that read the training or the validation files of a source."""
    source = config.sources[name]
    chosen = config.prepare
    fraction = source.held_out_fraction(chosen.validation_fraction)
    split_by = source.split_by
    if is_validation:
        # Every position is below 1.
        fraction = 1.0
        split_by = "text"
    return ReadSettings(
        source=name,
        kind=source_kind(source).row_kind or source.kind,
        rows=row_settings(source),
        split_by=split_by,
        validation_fraction=fraction,
        on_broken_file=chosen.on_broken_file,
        shard_text_bytes=chosen.shard_text_bytes,
        line_ends=source.line_ends or "lf",
    )


@dataclass
class _Task:
    """The progress and the counts of a task."""

    settings: ReadSettings
    writers: dict[str, ShardWriter]
    total_bytes: int
    """Raw bytes of all its files."""
    held_out: HeldOutTexts | None = None
    """Texts that are held out whatever their hash."""
    read_bytes: int = 0
    """Raw bytes read so far."""
    reported_bytes: int = 0
    """Raw bytes read at the last progress report."""
    losses: Losses = field(default_factory=Losses)
    broken_files: dict[str, str] = field(default_factory=dict)
    smallest_hash: float = 1.0
    largest_hash: float = 0.0
    """Smallest and largest position of a document in the split: see `split.hash_position`."""
    crlf_line_ends: int = 0
    """CRLF line ends that became LF."""
    held_out_elsewhere: int = 0
    """Documents that are held out only because their text is held out by name or in another source."""

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
    """The files and counts of one task of `prepare`."""

    files: dict[str, FileRecord]
    """Logical name of a file (`store/manifests/shard_places.py`) -> size and checksum."""


def read_files(
    documents_dir: Path,
    key: str,
    files: Sequence[InputFile],
    settings: ReadSettings,
    held_out: Path | None = None,
    in_parts: bool = False,
) -> ReadResult:
    """Write the documents of `files`; `key` is part of the names of the shards.

    `held_out`: the file of texts with the digest in the settings. `in_parts`: whether the source's
    files lie in parts of its folder.

    After any error no output is left. Raises DataError after reading every file if a file is broken
    and `on_broken_file` is `stop`; FileChanged at once if a file is not as `files` describes it
    before and after it is read; DataError at once if a row lacks the key of `split_by`. Raises
    OSError for an error of writing, such as a full disk.
    """
    # Remove what an earlier attempt has left.
    folder = documents_dir / settings.source
    rejected = documents_dir / placed(rejected_file(settings.source, key), in_parts)
    make_empty_place(folder, key, in_parts)
    rejected.unlink(missing_ok=True)

    writers = {
        split: ShardWriter(folder, split, key, settings.shard_text_bytes, in_parts)
        for split in SPLITS
    }
    task = _Task(settings, writers, total_bytes=sum(file.size for file in files))
    if held_out is not None:
        task.held_out = read_held_out_texts(held_out)
    problems = []
    try:
        # Read every file even if one is broken, so that one message names all broken files.
        for file in files:
            try:
                with held_unchanged(file.path, file.size, file.version):
                    _read_file(file, task)
            except FileBroken as error:
                task.broken_files[file.name] = error.why
                problems.append(f"source {settings.source}: {error}")

        # A file may have changed after it was read, while others were being read.
        for file in files:
            check_unchanged(file.path, file.size, file.version)
        if problems and settings.on_broken_file == "stop":
            raise DataError("\n".join(problems))

        # Complete the shards, and keep samples of the rejected rows.
        shards = {
            name: record for split in SPLITS for name, record in writers[split].close().items()
        }
        samples = task.losses.samples()
        if samples:
            write_atomic(rejected, samples)
    except BaseException as error:
        for writer in writers.values():
            writer.discard()
        # If the file being written is gone, this worker has outlived its run, and the shards belong
        # to the next run.
        if not isinstance(error, FileNotFoundError):
            remove_task_outputs(folder, key, in_parts)
        raise

    task.report()
    result: ReadResult = {
        "files": {f"{settings.source}/{name}": record for name, record in shards.items()},
        "documents": {split: writers[split].documents for split in SPLITS},
        "text_bytes": {split: writers[split].text_bytes for split in SPLITS},
        **task.losses.counts(),
        "broken_files": task.broken_files,
        "smallest_hash": task.smallest_hash,
        "largest_hash": task.largest_hash,
        "crlf_line_ends": task.crlf_line_ends,
    }
    if task.held_out_elsewhere:
        result["held_out_elsewhere"] = task.held_out_elsewhere
    return result


def rejected_file(source: str, key: str) -> str:
    """Return the logical name of the file with samples of a task's rejected rows."""
    return f"{source}/{REJECTED}/{key}{SAMPLES_SUFFIX}"


def make_empty_place(source_folder: Path, key: str, in_parts: bool) -> None:
    """Make the folders of a task's shards, and delete those that an earlier attempt has left."""
    remove_task_outputs(source_folder, key, in_parts)
    for split in SPLITS:
        folder = shard_folder(source_folder, f"{split}_{key}_000", in_parts)
        folder.mkdir(parents=True, exist_ok=True)


def remove_task_outputs(source_folder: Path, key: str, in_parts: bool = False) -> None:
    """Delete the finished shards of one task.

    Asks for the files by name, without listing the folder, which may hold shards of thousands of
    tasks.
    """
    for split in SPLITS:
        folder = shard_folder(source_folder, f"{split}_{key}_000", in_parts)
        parts = 0
        while any(path.exists() for path in _shard_files(folder, split, key, parts)):
            parts += 1
        # From the last part down: if this is interrupted, the parts left still begin with 0.
        for part in reversed(range(parts)):
            for path in _shard_files(folder, split, key, part):
                path.unlink(missing_ok=True)


def _shard_files(folder: Path, split: str, key: str, part: int) -> list[Path]:
    shard = document_shard(folder, f"{split}_{key}_{part:03d}")
    return [shard, keys_path(shard)]


def _read_file(file: InputFile, task: _Task) -> None:
    """Give each document of a file to the writer of its split; count rejects and losses."""
    settings = task.settings
    kind: SourceKind = SOURCE_KINDS[settings.kind]
    makes_lf = settings.makes_lf
    origin_file = file.name.encode()
    with contextlib.closing(kind.read_rows(file.path, settings.rows, task.advance)) as rows:
        for row in rows:
            if isinstance(row, Reject):
                task.losses.count_reject(row, file.name)
            else:
                # Most rows lose nothing, and most kinds keep line ends: short documents pay for a call.
                if row.nulls or row.blank_fields:
                    task.losses.count_incomplete(row)
                if makes_lf:
                    row, line_ends = with_lf(row, settings)
                    task.crlf_line_ends += line_ends
                writer = task.writers[_split_of(row, file, task)]
                writer.add(row.text, row.meta, origin_file, row.origin_row)
            # Otherwise this row would stay in memory while the next one is parsed.
            del row
            if task.read_bytes != task.reported_bytes:
                task.report()


def _split_of(row: Row, file: InputFile, task: _Task) -> str:
    """Choose the split of a document, and count what decides it."""
    settings = task.settings
    position = hash_position(split_key(row, file.path, settings))
    if position < task.smallest_hash:
        task.smallest_hash = position
    if position > task.largest_hash:
        task.largest_hash = position
    split = choose_split(position, settings.validation_fraction)
    if task.held_out is not None and split == "train" and _is_held_out(row, task.held_out):
        split = "validation"
        task.held_out_elsewhere += 1
    return split


def _is_held_out(row: Row, held_out: HeldOutTexts) -> bool:
    """Return whether the text of a row is held out by name, or in another source."""
    return xxhash.xxh3_64_intdigest(row.text) in held_out


def with_lf(row: Row, settings: ReadSettings) -> tuple[Row, int]:
    """Return a row with each CRLF replaced by LF if the settings say so, and their number."""
    line_ends = 0
    if settings.makes_lf:
        line_ends = row.text.count(b"\r\n")
    if line_ends:
        row = row._replace(text=row.text.replace(b"\r\n", b"\n"))
    return row, line_ends


def split_key(row: Row, path: RawPath, settings: ReadSettings) -> bytes:
    """Return the bytes whose hash decides the split: the text, or a value of meta.

    Raises DataError where meta lacks the key of `split_by`.
    """
    if settings.split_by == "text":
        return row.text
    meta = loads_exactly(row.meta)
    if settings.split_by not in meta:
        raise DataError(
            f"sources.{settings.source}.split_by = {settings.split_by!r}: row {row.origin_row} of "
            f"{path} has no such key in its meta, whose keys are: {', '.join(meta) or 'none'}. Name "
            "a key that every row has, or set split_by to text."
        )
    value = meta[settings.split_by]
    if not isinstance(value, str):
        value = json.dumps(value, sort_keys=True)
    return value.encode()
