"""Questions in a JSONL file of one's own: three shapes, and lm-eval's definition for each.

The shapes are those of llm-foundry's local_data: `choices` {"query", "choices", "gold"}, `schema`
{"context_options", "continuation", "gold"}, `continuation` {"context", "continuation"}. Reads JSONL
files; imports no lm-eval.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import orjson
import pyarrow as pa

from pipeline.errors import DataError, one_line
from pipeline.store.records import Json

Shape = Literal["choices", "schema", "continuation"]
SCHEMAS: dict[Shape, pa.Schema] = {
    "choices": pa.schema(
        [("query", pa.string()), ("choices", pa.list_(pa.string())), ("gold", pa.int64())]
    ),
    "schema": pa.schema(
        [
            ("context_options", pa.list_(pa.string())),
            ("continuation", pa.string()),
            ("gold", pa.int64()),
        ]
    ),
    "continuation": pa.schema([("context", pa.string()), ("continuation", pa.string())]),
}
"""Columns of a Parquet file of each shape; other keys of a line are left out."""
_LISTS: dict[Shape, str | None] = {
    "choices": "choices",
    "schema": "context_options",
    "continuation": None,
}
SUFFIX = ".jsonl"


@dataclass(frozen=True)
class AskedAs:
    """How questions of a shape are put to the model."""

    shape: Shape
    delimiter: str
    """Text between question and answer."""
    example_delimiter: str
    """Text between two solved examples."""
    fixed_examples: int | None
    """Solved examples that each question contains already; then no others are added."""


def read_questions(path: Path) -> tuple[Shape, pa.Table]:
    """Read a JSONL file of questions; its first line decides the shape.

    Raises DataError naming the line that is no question of that shape, and for an empty file.
    """
    rows: list[dict[str, Json]] = []
    shape: Shape | None = None
    for number, row in _lines(path):
        if shape is None:
            shape = _shape_of(row, f"{path}, line {number}")
        rows.append(_checked(row, shape, f"{path}, line {number}"))
    if shape is None:
        raise DataError(f"{path}: holds no question. Give a file with one question a line.")
    return shape, pa.Table.from_pylist(rows, SCHEMAS[shape])


def definition_of_shape(name: str, asked: AskedAs) -> dict[str, Json]:
    """Return lm-eval's definition of a task whose questions have one of the shapes.

    A question that already contains solved examples is always asked with none (`num_fewshot: 0`).
    """
    # Columns in lm-eval's words.
    fields: dict[Shape, dict[str, Json]] = {
        "choices": {"doc_to_text": "query", "doc_to_choice": "choices", "doc_to_target": "gold"},
        "schema": {
            "doc_to_text": "gold",
            "doc_to_choice": "context_options",
            "doc_to_target": "continuation",
        },
        "continuation": {"doc_to_text": "context", "doc_to_target": "continuation"},
    }

    # Metrics: without a choice of texts there is no length to divide by.
    metrics = ["acc", "acc_norm"]
    output_type = "multiple_choice"
    if asked.shape == "schema":
        metrics = ["acc"]
    if asked.shape == "continuation":
        metrics = ["acc", "perplexity"]
        output_type = "loglikelihood"
    definition: dict[str, Json] = {}
    if asked.fixed_examples is not None:
        definition["num_fewshot"] = 0
    return definition | {
        "task": name,
        "output_type": output_type,
        "test_split": "test",
        "training_split": "train",
        "validation_split": "validation",
        **fields[asked.shape],
        "target_delimiter": asked.delimiter,
        "fewshot_delimiter": asked.example_delimiter,
        "metric_list": [{"metric": metric} for metric in metrics],
        "metadata": {"version": 1},
    }


def stripped(table: pa.Table) -> pa.Table:
    """Return questions without white space around their texts; texts in lists stay as they are."""
    rows = [
        {name: value.strip() if isinstance(value, str) else value for name, value in row.items()}
        for row in table.to_pylist()
    ]
    return pa.Table.from_pylist(rows, table.schema)


def joined(shape: Shape, table: pa.Table, delimiter: str) -> tuple[pa.Table, str]:
    """Return the questions and the delimiter with which lm-eval joins them as they are meant.

    Where every answer begins with a space, nothing stands between it and the question. lm-eval puts
    no delimiter before the answer of a `continuation`, so there it becomes part of the answer.
    """
    rows = table.to_pylist()
    answers = [answer for row in rows for answer in _answers(row, shape)]
    if delimiter.isspace() and all(answer[:1].isspace() for answer in answers):
        return table, ""
    if shape != "continuation":
        return table, delimiter
    joined_rows = [{**row, "continuation": delimiter + row["continuation"]} for row in rows]
    return pa.Table.from_pylist(joined_rows, table.schema), ""


def _answers(row: Mapping[str, Json], shape: Shape) -> Sequence[str]:
    if shape == "choices":
        choices = row["choices"]
        assert isinstance(choices, list)
        return [str(choice) for choice in choices]
    return [str(row["continuation"])]


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Json]]]:
    """Yield the number and the object of each line that is not blank."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}). Give a JSONL file of questions."
        ) from None
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise DataError(
                f"{path}, line {number}: is no JSON ({one_line(error)}). Mend or remove the line."
            ) from None
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: is no JSON object. {_RULE}")
        yield number, row


def _is_text(value: Json) -> bool:
    return isinstance(value, str) and value != ""


_RULE = (
    'A question is {"query": text, "choices": [texts], "gold": number from 0}, or '
    '{"context_options": [texts], "continuation": text, "gold": number}, or {"context": text, '
    '"continuation": text}.'
)


def _shape_of(row: Mapping[str, Json], where: str) -> Shape:
    for shape, schema in SCHEMAS.items():
        if set(schema.names) <= row.keys():
            return shape
    keys = ", ".join(sorted(row)) or "no keys"
    raise DataError(f"{where}: has {keys}. {_RULE}")


def _checked(row: Mapping[str, Json], shape: Shape, where: str) -> dict[str, Json]:
    """Return the fields of a shape. Raises DataError where one is missing or wrong."""
    names = SCHEMAS[shape].names
    missing = [name for name in names if name not in row]
    if missing:
        raise DataError(f"{where}: lacks {missing[0]}, which the first line has. {_RULE}")
    for name in names:
        value = row[name]
        if name in ("choices", "context_options"):
            is_right = isinstance(value, list) and len(value) > 1 and all(map(_is_text, value))
        elif name == "gold":
            is_right = isinstance(value, int) and not isinstance(value, bool)
        else:
            # The beginning of a text may be empty, what follows may not.
            is_right = isinstance(value, str) and (value != "" or name in ("query", "context"))
        if not is_right:
            raise DataError(f"{where}: {name} = {str(value)[:80]!r} is not allowed. {_RULE}")
    list_name = _LISTS[shape]
    if list_name is not None:
        options = row[list_name]
        gold = row["gold"]
        assert isinstance(options, list)
        assert isinstance(gold, int)
        if not 0 <= gold < len(options):
            raise DataError(
                f"{where}: gold = {gold}, but there are {len(options)} answers, counted from 0."
            )
    return {name: row[name] for name in names}
