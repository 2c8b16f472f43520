"""Small Parquet files: a byte that flips in them is found."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.corpus import parquet_tables
from pipeline.corpus.annotating.annotation_file import ANNOTATE_AGAIN
from pipeline.corpus.parquet_tables import (
    column_numbers,
    read_parquet,
    row_numbers,
    string_column,
    text_column,
    write_parquet,
)
from pipeline.errors import DataError
from pipeline.store.curation.selection_folder import SELECT_AGAIN

# Of random numbers zstd makes nothing smaller, so it finds no damage in them either.
TABLE = pa.table({"number": np.random.default_rng(1).integers(0, 2**62, 2000)})


def test_a_flipped_byte_of_numbers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "numbers.parquet"
    write_parquet(TABLE, path)
    assert read_parquet(path, TABLE.schema, "Make it again.").equals(TABLE)
    content = path.read_bytes()
    for place in range(len(content) // 4, 3 * len(content) // 4, 997):
        flipped = content[place] ^ 1
        path.write_bytes(content[:place] + bytes([flipped]) + content[place + 1 :])
        with pytest.raises(DataError, match=r"numbers\.parquet: is damaged .*Make it again\."):
            read_parquet(path, TABLE.schema, "Make it again.")


def test_a_flipped_compression_is_damage_and_no_bug(tmp_path: Path) -> None:
    path = tmp_path / "numbers.parquet"
    write_parquet(TABLE, path)
    content = path.read_bytes()
    for place in range(len(content) - 250, len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        # Some bytes of the footer say nothing about the table.
        try:
            read_parquet(path, TABLE.schema, "Make it again.")
        except DataError as error:
            assert "numbers.parquet: is damaged" in str(error)


def test_files_without_checksums_are_read(tmp_path: Path) -> None:
    path = tmp_path / "numbers.parquet"
    pq.write_table(TABLE, path)
    assert read_parquet(path, TABLE.schema, "Make it again.").equals(TABLE)


@pytest.mark.parametrize("remedy", [SELECT_AGAIN, ANNOTATE_AGAIN])
def test_only_a_file_that_is_there_is_to_be_deleted(tmp_path: Path, remedy: str) -> None:
    path = tmp_path / "numbers.parquet"
    with pytest.raises(
        DataError, match=r"numbers\.parquet: is missing\. `pipeline \w+` with"
    ) as refused:
        read_parquet(path, TABLE.schema, remedy)
    assert "elete" not in str(refused.value)
    path.write_bytes(b"garbage")
    with pytest.raises(DataError, match=r"is damaged .*Delete it first, or .* counts as done"):
        read_parquet(path, TABLE.schema, remedy)
    with pytest.raises(DataError, match=r"`pipeline inspect RUN\.YAML --verify`"):
        read_parquet(path, TABLE.schema, remedy)


@pytest.mark.parametrize("rows", [[], [3], [7, 0, 7], np.arange(10)[::-3], np.array([2], np.int32)])
def test_row_numbers_take_rows_in_the_order_asked_for(rows: Sequence[int] | np.ndarray) -> None:
    table = pa.table({"square": [number**2 for number in range(10)]})
    taken = table.take(row_numbers(rows))
    assert taken["square"].to_pylist() == [int(row) ** 2 for row in rows]


@pytest.mark.parametrize("texts", [[], [""], ["a"], ["", "ä", "", "日本", "x" * 1000]])
def test_columns_of_bytes_are_those_of_pyarrow(texts: Sequence[str]) -> None:
    as_bytes = [text.encode() for text in texts]
    assert string_column(as_bytes).equals(pa.array(texts, pa.string()))
    assert text_column(as_bytes).equals(pa.array(texts, pa.large_string()))
    for column in (string_column(as_bytes), text_column(as_bytes)):
        column.validate(full=True)
        assert column.null_count == 0


def test_more_than_an_offset_can_hold_is_no_column(monkeypatch: pytest.MonkeyPatch) -> None:
    """`string` has offsets of 32 bits, which would begin anew at 2 GiB."""
    end = np.array([0, 2**31], np.int64)
    monkeypatch.setattr(parquet_tables, "_offsets", lambda values: end)
    with pytest.raises(AssertionError, match="32 bits"):
        string_column([b"a text that counts as 2 GiB"])


@pytest.mark.parametrize(
    "column",
    [
        pa.array([], pa.float64()),
        pa.array([1.5, None, float("nan"), -2.0]),
        pa.array([None, None], pa.float32()),
        pa.array([3, None, 2**40, 4, None, 6, 7, 8, 9]).slice(1, 7),
        pa.array([True, None, False]),
    ],
)
def test_numbers_of_a_column_are_those_of_pyarrow(column: pa.Array) -> None:
    expected = column.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)
    numbers = column_numbers(column)
    np.testing.assert_array_equal(numbers, expected)
    assert numbers.dtype == np.float64 and numbers.flags.writeable
