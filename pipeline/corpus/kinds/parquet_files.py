"""The source kind `parquet`: the text and the other columns of rows, whatever types the columns
have.

A value that Python or JSON cannot hold (a year beyond 9999, an unknown time zone, NaN) becomes None
and its column is named; it costs neither the row nor the file.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.corpus.meta import exact_meta, plain_meta
from pipeline.corpus.raw_files import BLOCK_BYTES, FileBroken, check_beginning
from pipeline.corpus.recognised import why_not_parquet
from pipeline.corpus.rows import (
    EXCERPT_CHARACTERS,
    Reject,
    Row,
    excerpt_of,
    first_keys,
    why_not_document,
    why_not_text,
)
from pipeline.corpus.source_kind import RawFiles

BATCH_ROWS = 256
BATCH_BYTES = 8 * 2**20
"""Decoded at once, by the average row of the row group."""


class ParquetRow(NamedTuple):
    """A row as Python values."""

    text: Any
    """Bytes, unchecked, where the column holds strings or bytes."""
    fields: dict[str, Any]
    """The other columns."""
    nulls: tuple[str, ...]
    """Columns of which something became None."""


class ParquetFiles(RawFiles):
    """A document is a row."""

    suffixes = (".parquet",)
    has_text_field = True

    def why_unreadable(self, head: bytes) -> str | None:
        """Recognise other formats."""
        return why_not_parquet(head)

    def rows(
        self, file: Path, text_field: str, advance: Callable[[int], None]
    ) -> Iterator[Row | Reject]:
        """Yield all rows in order. Raises FileBroken where the file has no column of text, or two,
        or cannot be decoded."""
        check_beginning(file, self.why_unreadable)
        for number, row in enumerate(_parquet_rows(file, text_field, advance)):
            yield parquet_row(row, number)


def parquet_row(row: ParquetRow, number: int) -> Row | Reject:
    """Return the document of a row, or why it is none. `number`: of the row, from 0."""
    text = row.text
    if isinstance(text, str):  # of a dictionary
        text = text.encode()
    if not isinstance(text, bytes):
        keys = first_keys(row.fields) if text is None else ()
        return Reject(why_not_text(text), number, str(text)[:EXCERPT_CHARACTERS], keys)
    reason = why_not_document(text)
    if reason is not None:
        return Reject(reason, number, excerpt_of(text))
    meta = plain_meta(row.fields)
    if meta is not None:
        return Row(text, meta, number, row.nulls)
    meta, nulls = exact_meta(row.fields, {})
    return Row(text, meta, number, row.nulls + nulls)


def _parquet_rows(
    file: Path, text_field: str, advance: Callable[[int], None]
) -> Iterator[ParquetRow]:
    size = file.stat().st_size
    try:
        # With a buffer, column chunks are read as they are decoded; without one, each as a whole.
        with pq.ParquetFile(file, buffer_size=BLOCK_BYTES) as parquet:
            _check_columns(file, parquet.schema_arrow.names, text_field)
            for group in range(parquet.num_row_groups):
                described = parquet.metadata.row_group(group)
                fitting = BATCH_BYTES * described.num_rows // max(1, described.total_byte_size)
                batch_rows = min(BATCH_ROWS, max(1, fitting))
                for batch in parquet.iter_batches(
                    batch_rows, row_groups=[group], use_threads=False
                ):
                    yield from batch_rows_of(batch, text_field)
                    advance(size * batch.num_rows // parquet.metadata.num_rows)
    except MemoryError:  # Arrow's is an ArrowException, too
        raise
    except pa.ArrowException as error:
        raise FileBroken(file, f"not readable as Parquet: {str(error).splitlines()[0]}") from None


def _check_columns(file: Path, names: list[str], text_field: str) -> None:
    if not names:
        raise FileBroken(file, "has no columns")
    if text_field not in names:
        why = f"has no column {text_field!r} but {', '.join(names)}: set the source's text_field"
        raise FileBroken(file, why)
    columns = names.count(text_field)
    if columns > 1:
        raise FileBroken(
            file,
            f"has {columns} columns named {text_field!r}, and nothing says which is the text: "
            "rename the others",
        )


def batch_rows_of(batch: pa.RecordBatch, text_field: str) -> Iterator[ParquetRow]:
    """Yield the rows of a batch, which has one column of text."""
    names: list[str] = batch.schema.names
    columns_named = Counter(names)
    text = _undecoded(batch.column(names.index(text_field)))
    others = {
        name: _Values(batch.column(place))
        for place, name in enumerate(names)
        if name != text_field and columns_named[name] == 1
    }
    repeated = tuple(name for name, columns in columns_named.items() if columns > 1)
    for row in range(batch.num_rows):
        fields = dict.fromkeys(repeated) | {
            name: column.values[row] for name, column in others.items()
        }
        lost = tuple(name for name, column in others.items() if row in column.lost)
        yield ParquetRow(_text_value(text[row]), fields, repeated + lost)


def _undecoded(column: pa.Array) -> pa.Array:
    """Return strings as bytes: Parquet's writers need not check what they call a string."""
    views = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}
    return column.view(views[column.type]) if column.type in views else column


def _text_value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:  # of a dictionary, or a view
        return bytes(error.object)
    except MemoryError:
        raise
    except Exception:  # no text, whatever it is
        return _value(scalar)[0]


class _Values:
    """A column as Python values, and the rows of which something became None."""

    def __init__(self, column: pa.Array) -> None:
        self.lost: set[int] = set()
        self.values: list[Any] = self._plain(column)
        if self.values or not len(column):
            return
        for row, scalar in enumerate(column):
            value, is_lost = _value(scalar)
            self.values.append(value)
            if is_lost:
                self.lost.add(row)

    @staticmethod
    def _plain(column: pa.Array) -> list[Any]:
        """Return all values at once; none where one of them is not as Python and JSON can have
        it."""
        try:
            return column.to_pylist() if _are_finite(column) else []
        except MemoryError:
            raise
        except (
            Exception
        ):  # of many kinds: ValueError, OverflowError, KeyError of a time zone, Arrow's own
            return []


def _are_finite(column: pa.Array) -> bool:
    """Tell whether all numbers in a column are finite; false, to be on the safe side, for types
    that are not known here."""
    kind = column.type
    types = pa.types
    if types.is_floating(kind):
        if types.is_float16(kind):
            column = column.cast(pa.float32())
        return pc.all(pc.is_finite(column)).as_py() is not False  # pyright: ignore[reportAttributeAccessIssue]
    if kind.num_fields == 0:
        return not isinstance(kind, pa.BaseExtensionType)
    if types.is_struct(kind):
        return all(map(_are_finite, column.flatten()))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _are_finite(column.flatten())
    return False


def _value(scalar: pa.Scalar) -> tuple[Any, bool]:
    """Return a value as Python and JSON can have it, and whether it, or a part of it, became
    None."""
    try:
        return _finite(scalar.as_py())
    except MemoryError:
        raise
    except Exception:
        pass
    if isinstance(scalar, pa.StructScalar):
        return _struct(scalar)
    if isinstance(scalar, pa.MapScalar):
        pairs = [_struct(pair) for pair in scalar.values]
        return [list(pair.values()) for pair, _ in pairs], any(is_lost for _, is_lost in pairs)
    if isinstance(scalar, pa.ListScalar):  # of every kind
        parts = [_value(part) for part in scalar.values]
        return [value for value, _ in parts], any(is_lost for _, is_lost in parts)
    inner = getattr(scalar, "value", None)
    return _value(inner) if isinstance(inner, pa.Scalar) else (None, True)


def _struct(scalar: pa.StructScalar) -> tuple[dict[str, Any], bool]:
    fields: dict[str, Any] = {}
    is_lost = False
    for place in range(scalar.type.num_fields):
        name = scalar.type.field(place).name
        value, value_is_lost = (None, True) if name in fields else _value(scalar[place])
        fields[name] = value
        is_lost = is_lost or value_is_lost
    return fields, is_lost


def _finite(value: Any) -> tuple[Any, bool]:
    """Return a value with None for every number in it that is not finite, and whether there is
    one."""
    if isinstance(value, float):
        return (value, False) if isfinite(value) else (None, True)
    if isinstance(value, dict):
        parts = {name: _finite(part) for name, part in value.items()}
        return {name: part for name, (part, _) in parts.items()}, any(
            is_lost for _, is_lost in parts.values()
        )
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        parts = [_finite(part) for part in value]
        return [part for part, _ in parts], any(is_lost for _, is_lost in parts)
    return value, False
