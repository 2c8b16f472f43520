"""Small Parquet files that are read and written whole; documents have readers of their own.

Also columns to and from memory without pandas, which pyarrow imports for its own conversions.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DELETE_FIRST, DataError, one_line
from pipeline.store.checksummed_file import ChecksummedFile
from pipeline.store.files import temporary_path
from pipeline.store.records import FileRecord


def write_parquet(table: pa.Table, path: Path) -> FileRecord:
    """Write a file so that readers find the old file, the whole new one or none.

    Its pages have checksums: nothing else finds a byte of numbers that flips. Returns its size and
    checksum, computed while it is written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        with ChecksummedFile(temporary) as file:
            pq.write_table(table, file, compression="zstd", write_page_checksum=True)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return file.record()


def read_parquet(path: Path, schema: pa.Schema, remedy: str) -> pa.Table:
    """Return the columns of `schema` of a file.

    Raises DataError, which ends with `remedy`, where it is missing, damaged or of other columns. Of a
    missing file nobody is told to delete it: a `DELETE_FIRST` at its beginning is left out.
    """
    try:
        table = _whole_table(path, schema.names)
        return table.select(schema.names).cast(schema)
    except FileNotFoundError:
        raise DataError(f"{path}: is missing. {remedy.removeprefix(DELETE_FIRST)}") from None
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise DataError(f"{path}: is damaged ({one_line(error)}). {remedy}") from None


def table_of_bytes(content: bytes, path: Path, remedy: str) -> pa.Table:
    """Return the table in the bytes of a file, all its columns.

    Raises DataError, which ends with `remedy`, where they are no Parquet file.
    """
    try:
        return _whole_table(io.BytesIO(content))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{path}: is damaged ({one_line(error)}). {remedy}") from None


def _whole_table(source: Path | io.BytesIO, columns: Sequence[str] | None = None) -> pa.Table:
    """Return these columns of a file, or all; one that the file lacks is left out.

    Not by `pq.read_table`, which imports `pyarrow.dataset` and, with it, pandas.
    """
    with pq.ParquetFile(source, page_checksum_verification=True) as file:
        return file.read(columns)


def parquet_rows(path: Path) -> int | None:
    """Return the number of rows of a file; None where it is missing or damaged."""
    try:
        return pq.read_metadata(path).num_rows
    except (OSError, ValueError):
        return None


def row_numbers(rows: Sequence[int] | np.ndarray) -> pa.Int64Array:
    """Return row numbers for `Table.take`, `(rows,) int64`.

    Not by `pa.array`: on its first call pyarrow imports pandas, for which commands that look at a few
    documents would wait longer than for the documents.
    """
    numbers = np.asarray(rows, dtype=np.int64)
    values = pa.py_buffer(np.ascontiguousarray(numbers))
    return pa.Int64Array.from_buffers(pa.int64(), len(numbers), [None, values])


def text_column(texts: Sequence[bytes]) -> pa.Array:
    """Return texts as `large_string`. A single huge text is not copied: `join` returns it itself."""
    buffers = [None, pa.py_buffer(_offsets(texts)), pa.py_buffer(b"".join(texts))]
    return pa.Array.from_buffers(pa.large_string(), len(texts), buffers)


def string_column(values: Sequence[bytes]) -> pa.Array:
    """Return UTF-8 values of less than 2 GiB in all as `string`, without pandas."""
    offsets = _offsets(values)
    assert offsets[-1] < 2**31, "offsets of this type have 32 bits"
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(b"".join(values))]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)


def _offsets(values: Sequence[bytes]) -> np.ndarray:
    """Return where each value begins when all are joined, and the end, `(values + 1,) int64`."""
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, values), np.int64, len(values)), out=offsets[1:])
    return offsets


def column_numbers(column: pa.Array) -> np.ndarray:
    """Return the numbers of a column, `(rows,) float64`, nan for null, without pandas."""
    numbers = column.cast(pa.float64())
    if not len(numbers):
        return np.zeros(0)
    is_valid, content = numbers.buffers()
    assert content is not None, "the column has rows"
    first = numbers.offset
    values = np.frombuffer(content, np.float64, len(numbers), 8 * first).copy()
    if is_valid is not None:
        bits = np.unpackbits(np.frombuffer(is_valid, np.uint8), bitorder="little")
        values[bits[first : first + len(numbers)] == 0] = np.nan
    return values


def text_lengths(texts: pa.ChunkedArray) -> np.ndarray:
    """Return the length of each text in bytes of UTF-8, `(texts,) int64`."""
    # Those who write documents need no kernels, whose import takes as long as a thousand documents.
    import pyarrow.compute as pc

    return pc.call_function("binary_length", [texts]).to_numpy().astype(np.int64)
