"""The source kind `parquet`: the text and the other columns of rows, whatever their types.

A value that Python or JSON cannot hold (a year beyond 9999, an unknown time zone, NaN) becomes
None, and its column is named; it costs neither the row nor the file.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import isfinite
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.config.urls import RawPath
from pipeline.corpus.kinds.parquet_columns import ColumnPath, Columns, text_columns
from pipeline.corpus.kinds.text_fields import MISSING, TakenText, field_names, join_fields
from pipeline.corpus.meta import exact_meta, plain_meta
from pipeline.corpus.raw_files import (
    FileBroken,
    check_beginning,
    open_for_library,
    request_bytes,
    size_of,
)
from pipeline.corpus.recognised import why_not_parquet
from pipeline.corpus.row_settings import RowSettings
from pipeline.corpus.rows import (
    EXCERPT_CHARACTERS,
    Reject,
    Row,
    first_keys,
    reject_content,
    why_not_document,
    why_not_text,
)
from pipeline.corpus.source_kind import RawFiles

BATCH_ROWS = 256
"""Maximum number of rows that are decoded at once."""
BATCH_BYTES = 8 * 2**20
"""Maximum size of the rows that are decoded at once, if each has the average size of its row group."""


class ParquetRow(NamedTuple):
    """A row as Python values."""

    texts: tuple[Any, ...]
    """Value of each text column: unchecked bytes where it holds strings or bytes; else of any type."""
    fields: dict[str, Any]
    """Values of the other columns."""
    nulls: tuple[str, ...]
    """Columns with values that became None."""


class ParquetFiles(RawFiles):
    """Source kind in which a row is a document."""

    suffixes = (".parquet",)
    has_text_field = True

    def why_unreadable(self, head: bytes) -> str | None:
        """Recognise other formats."""
        return why_not_parquet(head)

    def rows(
        self, file: RawPath, settings: RowSettings, advance: Callable[[int], None]
    ) -> Iterator[Row | Reject]:
        """Yield all rows in order.

        Raises FileBroken where the file has no text column, or two, or cannot be decoded.
        """
        check_beginning(file, self.why_unreadable)
        for number, row in enumerate(_parquet_rows(file, settings, advance)):
            yield parquet_row(row, number, settings)


def parquet_row(row: ParquetRow, number: int, settings: RowSettings) -> Row | Reject:
    """Return the document of a row, or the reject. `number`: the row's, from 0."""
    text: Any = row.texts[0]
    blank_fields: tuple[str, ...] = ()
    if len(row.texts) > 1:
        text, blank_fields = _joined(row.texts, settings)
    if isinstance(text, str):
        # Values of a dictionary-encoded column are decoded already.
        text = text.encode()
    if not isinstance(text, bytes):
        keys: tuple[str, ...] = ()
        if text is None:
            keys = first_keys(field_names(row.fields, settings))
        return Reject(why_not_text(text), number, str(text)[:EXCERPT_CHARACTERS], keys)
    reason = why_not_document(text)
    if reason is not None:
        return reject_content(reason, number, text)
    meta = plain_meta(row.fields)
    if meta is not None:
        return Row(text, meta, number, row.nulls, blank_fields)
    meta, nulls = exact_meta(row.fields, {})
    return Row(text, meta, number, row.nulls + nulls, blank_fields)


def _joined(values: Sequence[Any], settings: RowSettings) -> TakenText:
    """Join the text columns of a row; the text is bytes, which may be no UTF-8."""
    texts = [
        value.decode(errors="surrogateescape") if isinstance(value, bytes) else value
        for value in values
    ]
    text, blank_fields = join_fields(texts, settings)
    if text is MISSING:
        text = None
    if isinstance(text, str):
        text = text.encode(errors="surrogateescape")
    return text, blank_fields


def _parquet_rows(
    file: RawPath, settings: RowSettings, advance: Callable[[int], None]
) -> Iterator[ParquetRow]:
    size = size_of(file)
    try:
        # With a buffer, a column chunk is read as it is decoded; without one, as a whole.
        with (
            open_for_library(file) as source,
            pq.ParquetFile(source, buffer_size=request_bytes(file)) as parquet,
        ):
            paths = text_columns(file, parquet.schema_arrow, settings.text_fields)
            for group in range(parquet.num_row_groups):
                described = parquet.metadata.row_group(group)
                fitting = BATCH_BYTES * described.num_rows // max(1, described.total_byte_size)
                batch_rows = min(BATCH_ROWS, max(1, fitting))
                for batch in parquet.iter_batches(
                    batch_rows, row_groups=[group], use_threads=False
                ):
                    yield from batch_rows_of(batch, paths)
                    advance(size * batch.num_rows // parquet.metadata.num_rows)
    except MemoryError:
        # Arrow's MemoryError is an ArrowException, too.
        raise
    except pa.ArrowException as error:
        raise FileBroken(file, f"not readable as Parquet: {str(error).splitlines()[0]}") from None


def batch_rows_of(batch: pa.RecordBatch, paths: Sequence[ColumnPath]) -> Iterator[ParquetRow]:
    """Yield the rows of a batch that has each text column at its path, as `text_columns` finds it."""
    columns = Columns(batch)
    texts = [_undecoded(columns.take(path)) for path in paths]
    columns_named = Counter(columns.names)
    others = {
        name: _Values(column)
        for name, column in zip(columns.names, columns.arrays, strict=True)
        if columns_named[name] == 1
    }
    repeated = tuple(name for name, columns in columns_named.items() if columns > 1)
    for row in range(batch.num_rows):
        fields = dict.fromkeys(repeated) | {
            name: column.values[row] for name, column in others.items()
        }
        lost = tuple(name for name, column in others.items() if row in column.lost)
        values = tuple(_text_value(text[row]) for text in texts)
        yield ParquetRow(values, fields, repeated + lost)


def _undecoded(column: pa.Array) -> pa.Array:
    """Return strings as bytes, as Parquet writers need not check that a string is UTF-8."""
    views = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}
    if column.type not in views:
        return column
    return column.view(views[column.type])


def _text_value(scalar: pa.Scalar) -> Any:
    """Return a value of the text column: bytes where it is not UTF-8, None for what Python lacks."""
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:
        # A string of a dictionary or of a view, which cannot be viewed as bytes.
        return bytes(error.object)
    except MemoryError:
        raise
    except Exception:
        # Some other type whose value Python cannot hold.
        return _value(scalar).value


class Converted(NamedTuple):
    """A value as Python and JSON can have it."""

    value: Any
    is_lost: bool
    """Whether the value, or a part of it, became None."""


LOST = Converted(None, is_lost=True)
"""A value that became None."""


class _Values:
    """A column as Python values, and the rows with values that became None."""

    def __init__(self, column: pa.Array) -> None:
        self.lost: set[int] = set()
        self.values: list[Any] = self._plain(column)
        if self.values or not len(column):
            return
        for row, scalar in enumerate(column):
            converted = _value(scalar)
            self.values.append(converted.value)
            if converted.is_lost:
                self.lost.add(row)

    @staticmethod
    def _plain(column: pa.Array) -> list[Any]:
        """Return all values at once; no values where Python or JSON cannot hold one of them."""
        try:
            if _are_finite(column):
                return column.to_pylist()
        except MemoryError:
            raise
        except Exception:
            # ValueError, OverflowError, KeyError for a time zone, errors of Arrow's own.
            pass
        return []


def _are_finite(column: pa.Array) -> bool:
    """Return whether all numbers in a column are finite; False for types that are not known here."""
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


def _value(scalar: pa.Scalar) -> Converted:
    """Return a value with None for each part that Python or JSON cannot hold."""
    try:
        return _finite(scalar.as_py())
    except MemoryError:
        raise
    except Exception:
        pass
    if isinstance(scalar, pa.StructScalar):
        return _struct(scalar)
    if isinstance(scalar, pa.MapScalar):
        pairs = _together(_struct(pair) for pair in scalar.values)
        return pairs._replace(value=[list(pair.values()) for pair in pairs.value])
    if isinstance(scalar, pa.ListScalar):
        return _together(_value(part) for part in scalar.values)
    # An extension or dictionary type holds a scalar of another type.
    inner = getattr(scalar, "value", None)
    if isinstance(inner, pa.Scalar):
        return _value(inner)
    return LOST


def _struct(scalar: pa.StructScalar) -> Converted:
    """Return a struct as a dictionary; a name that two fields have becomes None."""
    fields: dict[str, Any] = {}
    is_lost = False
    for place in range(scalar.type.num_fields):
        name = scalar.type.field(place).name
        converted = LOST
        if name not in fields:
            converted = _value(scalar[place])
        fields[name] = converted.value
        is_lost = is_lost or converted.is_lost
    return Converted(fields, is_lost)


def _finite(value: Any) -> Converted:
    """Return a value with None for each number in it that is not finite."""
    if isinstance(value, float) and not isfinite(value):
        return LOST
    if isinstance(value, dict):
        values = _together(map(_finite, value.values()))
        return values._replace(value=dict(zip(value, values.value, strict=True)))
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return _together(map(_finite, value))
    return Converted(value, is_lost=False)


def _together(parts: Iterable[Converted]) -> Converted:
    """Return the values of the parts as one list, which is lost in part if any of them is."""
    converted = list(parts)
    return Converted([part.value for part in converted], any(part.is_lost for part in converted))
