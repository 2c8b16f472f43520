"""Cells of scores: one model, one task, one number of shots; a row for each question.

A cell is two files: `k<shots>.parquet` with the rows, and `k<shots>.json` with lm-eval's own result
and where it came from. The JSON file is written last and names the cell's key, a hash of everything
that decides the scores: a cell with the same key is never made again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict, cast

import pyarrow as pa

from pipeline.corpus.parquet_tables import parquet_rows, read_parquet, write_parquet
from pipeline.errors import DataError
from pipeline.evaluation.results import CellResult, TaskKind
from pipeline.logs import warn
from pipeline.store.files import read_json, write_json
from pipeline.store.scores_folder import CellPlace, ScoresFolder

ANSWER = pa.struct(
    [
        pa.field("log_likelihood", pa.float64(), nullable=False),
        pa.field("is_greedy", pa.bool_(), nullable=False),
        pa.field("characters", pa.int32(), nullable=False),
        pa.field("bytes", pa.int32(), nullable=False),
        pa.field("tokens", pa.int32(), nullable=False),
        pa.field("unconditional", pa.float64()),
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("hash", pa.large_string(), nullable=False),
        pa.field("answers", pa.list_(ANSWER), nullable=False),
        pa.field("right", pa.list_(pa.int32()), nullable=False),
        pa.field("cut", pa.bool_(), nullable=False),
        pa.field("written", pa.large_string()),
        pa.field("metrics", pa.map_(pa.string(), pa.float64()), nullable=False),
    ]
)
"""Columns of a cell; `Item` and `Answer` describe them."""


class Answer(TypedDict):
    """One answer of a question, as the model sees it."""

    log_likelihood: float
    """Nats, given the question."""
    is_greedy: bool
    """Whether the model's most likely tokens, one by one, are this answer."""
    characters: int
    """Characters of the answer, without the delimiter before it."""
    bytes: int
    """Bytes of the answer in UTF-8, without the delimiter before it."""
    tokens: int
    """Tokens that were predicted, the delimiter included."""
    unconditional: float | None
    """Nats without the question; None where the task's answers are not what differs."""


class Item(TypedDict):
    """One question."""

    id: int
    """Number of the question in the task's evaluation split, from 0."""
    hash: str
    """lm-eval's hash of the question's row."""
    answers: list[Answer]
    """The choices; the one answer; the whole text. Empty where the model writes."""
    right: list[int]
    """Positions of the right answers."""
    cut: bool
    """Whether a sequence was longer than the model's context and lost its beginning."""
    written: str | None
    """Text that the model wrote; None where it chooses."""
    metrics: dict[str, float]
    """lm-eval's own metrics of this question, where they are single numbers."""


@dataclass(frozen=True)
class Cell:
    """The content of a cell."""

    items: Sequence[Item]
    result: CellResult

    @property
    def kind(self) -> TaskKind:
        return self.result["kind"]


def write_cell(place: CellPlace, cell: Cell) -> None:
    """Write a cell, so that it is whole or not there."""
    place.result.unlink(missing_ok=True)
    # A map is written as a list of pairs.
    rows = [{**item, "metrics": list(item["metrics"].items())} for item in cell.items]
    write_parquet(pa.Table.from_pylist(rows, schema=SCHEMA), place.rows)
    write_json(place.result, cell.result)


def read_cell(place: CellPlace) -> Cell:
    """Return the content of a cell. Raises DataError where it is missing or damaged."""
    result = read_result(place)
    if result is None:
        raise DataError(f"{place.result}: is missing or damaged; run `pipeline evaluate` again")
    remedy = "Delete it and run `pipeline evaluate` again."
    table = read_parquet(place.rows, SCHEMA, remedy)
    items = [cast("Item", {**row, "metrics": dict(row["metrics"])}) for row in table.to_pylist()]
    return Cell(items, result)


def stored_scores(folder: ScoresFolder) -> Iterator[tuple[CellPlace, Cell]]:
    """Yield all cells of a run, sorted by path; a damaged one is named and passed over."""
    for place in folder.stored_cells():
        try:
            cell = read_cell(place)
        except DataError as error:
            warn(f"passed over: {error}")
            continue
        yield place, cell


def read_result(place: CellPlace) -> CellResult | None:
    """Return lm-eval's result of a cell; None where the cell is missing, or its JSON damaged."""
    try:
        return read_json(place.result)
    except DataError:
        return None


def holds_cell(place: CellPlace, key: str) -> bool:
    """Tell whether a cell with this key is complete on disk."""
    result = read_result(place)
    if result is None or result.get("provenance", {}).get("key") != key:
        return False
    return parquet_rows(place.rows) == result["provenance"]["items"]
