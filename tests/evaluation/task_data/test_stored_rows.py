"""Rows that are processed when they are read equal those of `datasets`, and no others are read."""

import datasets
import pyarrow as pa
import pytest

from pipeline.evaluation.task_data.stored_rows import BATCH_ROWS, Row, StoredRows

ROWS = [
    {"text": f"row {n}", "number": n, "names": ["a", str(n)], "pair": {"left": n, "right": None}}
    for n in range(3 * BATCH_ROWS // 2)
]
TABLE = pa.Table.from_pylist(ROWS)


def doubled(row: Row) -> Row:
    return {"number": 2 * row["number"], "added": row["text"].upper()}


def test_all_rows_equal_those_of_datasets() -> None:
    reference = datasets.Dataset.from_list(ROWS).map(doubled)
    ours = StoredRows(TABLE).map(doubled)
    assert list(ours) == list(reference)
    assert list(ours.features) == list(reference.features) == ours.column_names
    assert len(ours) == len(reference)
    assert ours[3] == reference[3]
    assert ours[-1] == reference[-1]
    assert ours[1:3] == [reference[1], reference[2]]
    assert ours["added"] == reference["added"]


def test_only_the_rows_that_are_read_are_processed() -> None:
    seen: list[int] = []

    def watched(row: Row) -> Row:
        seen.append(row["number"])
        return row

    rows = StoredRows(TABLE).map(watched)
    assert seen == []
    assert rows[70]["number"] == 70
    assert seen == [70]


def test_what_is_not_here_is_asked_of_datasets() -> None:
    rows = StoredRows(TABLE).map(doubled)
    assert list(rows.filter(lambda row: row["number"] > 180)["number"]) == [182, 184, 186, 188, 190]
    assert rows.select([0])[0]["added"] == "ROW 0"
    assert rows.map(doubled, remove_columns=["text"]).column_names == [
        *("number", "names", "pair", "added"),
    ]


def test_a_position_beyond_the_end_is_refused() -> None:
    with pytest.raises(IndexError):
        StoredRows(TABLE)[len(ROWS)]
