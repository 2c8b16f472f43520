"""Cells of scores: one model, one task, one number of shots; a row for each question.

A cell is two files: `k<shots>.parquet` with the rows, and `k<shots>.json` with lm-eval's own result
and where it came from. The JSON file is written last and names the cell's key, a hash of everything
that decides the scores: a cell with the same key is never made again, unless its files are damaged.
Both files have checksums in the JSON file.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar, cast

import pyarrow as pa

from pipeline.corpus.parquet_tables import read_parquet, write_parquet
from pipeline.errors import DataError, first_items
from pipeline.evaluation.results import CellResult, TaskKind, is_result_of
from pipeline.logs import warn
from pipeline.store.files import file_record, fingerprint, read_json, write_json
from pipeline.store.records import FileRecord
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
NAMED_DAMAGES = 5
"""Damaged cells that are named; the others are counted."""


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


REMEDY = "`pipeline evaluate` with its model and task scores it again."
"""What to do about a damaged cell."""
NameT = TypeVar("NameT")


@dataclass(frozen=True)
class _StoredResult:
    """The content of a cell's JSON file."""

    result: CellResult
    rows: FileRecord | None
    """Size and checksum of the Parquet file; None in a cell that was written without checksums."""


def write_cell(place: CellPlace, cell: Cell) -> None:
    """Write a cell, so that it is whole or not there."""
    place.result.unlink(missing_ok=True)
    # A map is written as a list of pairs.
    rows = [{**item, "metrics": list(item["metrics"].items())} for item in cell.items]
    record = write_parquet(pa.Table.from_pylist(rows, schema=SCHEMA), place.rows)
    content = {**cell.result, "rows": record}
    write_json(place.result, {**content, "checksum": _checksum_of(content)})


def read_cell(place: CellPlace) -> Cell:
    """Return the content of a cell. Raises DataError where it is missing or damaged."""
    stored = _read_stored(place)
    if stored is None:
        raise DataError(f"{place.result}: is missing. {REMEDY}")
    return Cell(_read_rows(place, stored), stored.result)


def stored_scores(folder: ScoresFolder) -> Iterator[tuple[CellPlace, Cell]]:
    """Yield all cells of a run, sorted by path; damaged ones are named at the end, passed over."""
    damages: list[str] = []
    for place in folder.stored_cells():
        try:
            cell = read_cell(place)
        except DataError as error:
            damages.append(str(error))
            continue
        yield place, cell
    _warn_of_passed_over(damages)


def whole_cells(cells: Mapping[NameT, CellPlace]) -> dict[NameT, CellPlace]:
    """Return the cells that are not damaged; the others are named and passed over."""
    whole: dict[NameT, CellPlace] = {}
    damages: list[str] = []
    for name, place in cells.items():
        damage = damage_of(place)
        if damage is None:
            whole[name] = place
        else:
            damages.append(damage)
    _warn_of_passed_over(damages)
    return whole


def _warn_of_passed_over(damages: Sequence[str]) -> None:
    for line in first_items(damages, NAMED_DAMAGES, "damaged cells"):
        warn(f"passed over: {line}")


def warn_of_damaged_cells(places: Iterable[CellPlace]) -> None:
    """Name damaged cells, before they are scored again."""
    damages = [damage_of(place) for place in places]
    named = [damage for damage in damages if damage is not None]
    for line in first_items(named, NAMED_DAMAGES, "damaged cells"):
        warn(f"{line.removesuffix(REMEDY).rstrip()} It is scored again now.")


def read_result(place: CellPlace) -> CellResult | None:
    """Return lm-eval's result of a cell; None where the cell is missing, or its JSON damaged."""
    try:
        stored = _read_stored(place)
    except DataError:
        return None
    if stored is None:
        return None
    return stored.result


def holds_cell(place: CellPlace, key: str) -> bool:
    """Tell whether a cell with this key is complete and undamaged on disk."""
    result = read_result(place)
    if result is None or result["provenance"]["key"] != key:
        return False
    return damage_of(place) is None


def damage_of(place: CellPlace) -> str | None:
    """Return a message about a damaged cell, with its remedy; None where it is whole or not there.

    Reads the whole cell.
    """
    try:
        stored = _read_stored(place)
        if stored is not None:
            _check_rows(place, stored)
    except DataError as error:
        return str(error)
    return None


def _read_stored(place: CellPlace) -> _StoredResult | None:
    """Return the content of a cell's JSON file; None where it is missing.

    Raises DataError where it is damaged. A file without checksums counts if it has the entries of a
    cell.
    """
    try:
        content: Any = read_json(place.result)
    except DataError:
        raise DataError(f"{place.result}: is damaged (no valid JSON). {REMEDY}") from None
    if content is None and not place.result.exists():
        return None
    if not isinstance(content, dict):
        raise DataError(f"{place.result}: is damaged (it holds no cell). {REMEDY}")
    stored = cast("dict[str, Any]", content)
    checksum = stored.pop("checksum", None)
    if checksum is None and "rows" not in stored:
        if not is_result_of(place.rows.parent.name, stored):
            raise DataError(f"{place.result}: is damaged (it holds no cell). {REMEDY}")
        return _StoredResult(cast("CellResult", stored), None)
    if checksum != _checksum_of(stored):
        raise DataError(f"{place.result}: is damaged (its checksum differs). {REMEDY}")
    rows: FileRecord = stored.pop("rows")
    return _StoredResult(cast("CellResult", stored), rows)


def _checksum_of(content: Mapping[str, object]) -> str:
    """Return a checksum of JSON content that is the same before it is written and after."""
    return fingerprint(json.loads(json.dumps(content)))


def _check_rows(place: CellPlace, stored: _StoredResult) -> None:
    """Raise DataError where the Parquet file of a cell is missing or damaged.

    Without a checksum it is read, which finds most damage.
    """
    if stored.rows is None:
        _read_rows(place, stored)
        return
    try:
        record = file_record(place.rows)
    except FileNotFoundError:
        raise DataError(f"{place.rows}: is missing. {REMEDY}") from None
    except OSError as error:
        raise DataError(f"{place.rows}: cannot be read ({error.strerror}). {REMEDY}") from None
    if record != stored.rows:
        raise DataError(f"{place.rows}: is damaged (its checksum differs). {REMEDY}")


def _read_rows(place: CellPlace, stored: _StoredResult) -> list[Item]:
    if stored.rows is not None:
        _check_rows(place, stored)
    table = read_parquet(place.rows, SCHEMA, REMEDY)
    expected = stored.result["provenance"]["items"]
    if table.num_rows != expected:
        raise DataError(
            f"{place.rows}: is damaged ({table.num_rows} rows, not {expected}). {REMEDY}"
        )
    return [cast("Item", {**row, "metrics": dict(row["metrics"])}) for row in table.to_pylist()]
