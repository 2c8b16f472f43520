"""One task before those of `prepare`: find the texts in a group of files that are held out.

Reads raw files; writes the hashes of the texts. Only run files that hold out documents by name
(`validation_paths`, `prepare.validation`) or by fractions of their own need these tasks: a text
that is held out in one source may be in the training files of another.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import xxhash

from pipeline.config.kinds import SOURCE_KINDS
from pipeline.corpus.file_search import InputFile
from pipeline.corpus.held_out.held_out_folder import HeldOutFolder
from pipeline.corpus.held_out.held_out_texts import write_hashes
from pipeline.corpus.held_out.listed_ids import ids_in_lines
from pipeline.corpus.key_file import original_keys
from pipeline.corpus.raw_files import FileBroken
from pipeline.corpus.read_task import ReadSettings, split_key, with_lf
from pipeline.corpus.rows import Reject
from pipeline.corpus.source_kind import SourceKind
from pipeline.corpus.split import choose_split, hash_position
from pipeline.store.files import file_record
from pipeline.store.records import FileRecord
from pipeline.work.task import report_progress


class FoundTexts(TypedDict):
    """The result of a task."""

    files: dict[str, FileRecord]
    """Name of the file with the hashes -> size and checksum."""
    ids: list[str]
    """Listed ids that documents have."""


@dataclass(frozen=True)
class IdList:
    """The listed ids, in a file that the stage wrote for its tasks."""

    path: Path
    digest: str


def find_held_out(
    folder: HeldOutFolder,
    key: str,
    files: Sequence[InputFile],
    settings: ReadSettings,
    ids: IdList | None,
    in_parts: bool = False,
) -> FoundTexts:
    """Write the hashes of the texts that a group of files holds out by its own settings or by `ids`.

    A broken file is read up to the break: the task that makes its documents reports it. `in_parts`:
    whether the file with the hashes lies in a part of the folder.
    """
    listed: frozenset[str] = frozenset()
    if ids is not None:
        listed = ids_in_lines(ids.path, ids.digest)
    hashes: set[int] = set()
    present: set[str] = set()
    for number, file in enumerate(files):
        with contextlib.suppress(FileBroken):
            _find_in_file(file, settings, listed, hashes, present)
        report_progress((number + 1) / len(files))
    path = folder.hashes(key, in_parts)
    write_hashes(path, hashes)
    name = path.relative_to(folder.path).as_posix()
    return {"files": {name: file_record(path)}, "ids": sorted(present)}


def _find_in_file(
    file: InputFile,
    settings: ReadSettings,
    listed: frozenset[str],
    hashes: set[int],
    present: set[str],
) -> None:
    """Add the hashes of the texts that a file holds out, and the listed ids that its rows have."""
    kind: SourceKind = SOURCE_KINDS[settings.kind]
    with contextlib.closing(kind.read_rows(file.path, settings.rows)) as rows:
        for row in rows:
            if isinstance(row, Reject):
                continue
            row, _ = with_lf(row, settings)
            position = hash_position(split_key(row, file.path, settings))
            is_held_out = choose_split(position, settings.validation_fraction) == "validation"
            if listed:
                own_ids = listed.intersection(original_keys(row.meta))
                present |= own_ids
                is_held_out = is_held_out or bool(own_ids)
            if is_held_out:
                hashes.add(xxhash.xxh3_64_intdigest(row.text))
