"""Rows of JSON that hold spans by name: `{"id": …, KEY: {NAME: [[start, end, score], …]}}`.

A row in the form that programs publish becomes arrays without an object of Python for each number,
some ten times faster than a JSON parser that makes lists. Any other row goes through lists and the
checks of each value, which name what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import orjson

from pipeline.config.urls import RawPath
from pipeline.corpus.trees.published_record import SourceDocument, SpanReader, wrong_row
from pipeline.corpus.trees.side_rows import JsonSideRows
from pipeline.corpus.trees.spans import NamedSpans, SpanColumns, Spans

DIGITS_AND_BLANKS = b"0123456789 "
SPANS_WITHOUT_DIGITS = (
    b"[,,.]",
    b"[,,]",
    b"[,,-.]",
    b"[,,null]",
    b"[,,.e-]",
    b"[,,-.e-]",
    b"[,,e-]",
)
"""What is left of a span when its digits are deleted: two natural numbers, then a score, which may be
a whole number, a fraction, null, negative or small."""
SPAN = b"x"
"""Stands for a span of one of these forms."""
Buffer: TypeAlias = Any
"""Anything with the buffer protocol; Python 3.12 has a type for it."""
SPAN_BYTES = 24
"""Size of a span as three numbers of 64 bits."""
FIRST_INEXACT = 2**53
"""Below it a float64 is the whole number that was written; this one may stand for the next, too."""


class SpanRows:
    """Rows of a file of JSON lines whose objects have spans by name under one key."""

    def __init__(self, file: RawPath, key: str) -> None:
        import simdjson

        self._rows = JsonSideRows(file)
        self._key = key
        self._begin = f'"{key}":'.encode()
        signal = rf'"[^"\\]*":\[(?:{SPAN.decode()}(?:,{SPAN.decode()})*+)?\],?'
        self._form = re.compile(rf'"[^"\\]*":\{{(?:{signal})*+\}}\}}\s*'.encode())
        self._parser = simdjson.Parser()

    @property
    def file(self) -> RawPath:
        """The file."""
        return self._rows.file

    def row(self, number: int) -> SpanRow:
        """Return a row, from 0; numbers must ascend.

        Raises DataError where the file ends before it, or the line is blank or no JSON object. Its
        spans are checked when they are asked for.
        """
        line = self._rows.line(number)
        taken = self._taken(line)
        if taken is None:
            fields = parsed_object(self.file, line, number)
            return SpanRow(self.file, self._key, line, fields, None)
        fields, flat = taken
        return SpanRow(self.file, self._key, line, fields, flat)

    def _taken(self, line: bytes | bytearray) -> tuple[dict[str, Any], FlatSpans] | None:
        """Return the fields and the spans of a row in the published form; None for other rows."""
        place = line.find(self._begin)
        if place < 0 or not line.startswith(b"{") or not self._is_published_form(line[place:]):
            return None
        try:
            row: Any = self._parser.parse(line)
        except (ValueError, RuntimeError):
            # Text that is no UTF-8, or a number that is too large, too.
            return None
        spans = row.get(self._key)
        names = list(row)
        # Of equal keys, the last one counts.
        if spans is None or len({*names}) < len(names) or len({*spans}) < len(spans):
            return None
        fields = {name: _as_python(row[name]) for name in names if name != self._key}
        return fields, _flat_spans(spans)

    def _is_published_form(self, text: bytes | bytearray) -> bool:
        """Return whether the rest of a line from the key on is nothing but signals of spans.

        Each is a list of lists of three: two natural numbers and a number or null. `text`: the rest of
        a line of valid JSON: then there is a digit where the form has none.
        """
        left = text.translate(None, DIGITS_AND_BLANKS)
        for form in SPANS_WITHOUT_DIGITS:
            left = left.replace(form, SPAN)
        # A list with a single number leaves an empty list, too.
        empty = left.count(b"[]")
        if empty and text.count(b"[]") != empty:
            return False
        return self._form.fullmatch(left) is not None


@dataclass
class FlatSpans:
    """The spans of a row as one array, signal after signal."""

    names: list[str]
    sizes: list[int]
    """Number of spans of each signal."""
    numbers: np.ndarray
    """Start, end and score of each span, `(spans, 3) float64`; nan where a score is null."""


@dataclass
class SpanRow:
    """A row whose spans have not been looked at."""

    file: RawPath
    key: str
    line: bytes | bytearray
    fields: Mapping[str, Any]
    """Its fields; with the spans where these have another form than the published one."""
    flat: FlatSpans | None

    def spans(self, document: SourceDocument) -> tuple[Mapping[str, Spans], int]:
        """Return the spans by name, each within the text, and how many were cut at its end.

        Raises DataError, with file and row, for a value that is no span.
        """
        if self.flat is not None:
            starts, ends, scores = self.flat.numbers.T
            if (starts <= ends).all() and ends.max(initial=0) < FIRST_INEXACT:
                clamped = int(np.count_nonzero(ends > document.characters))
                columns = SpanColumns(
                    np.minimum(starts, document.characters).astype(np.int64),
                    np.minimum(ends, document.characters).astype(np.int64),
                    scores,
                )
                return NamedSpans(self.flat.names, self.flat.sizes, columns), clamped
        reader = SpanReader(self.file, document)
        spans = reader.named_spans(self.key, self._as_lists(document.row).get(self.key))
        return spans, reader.clamped

    def _as_lists(self, number: int) -> Mapping[str, Any]:
        """Return the row's fields, spans included."""
        if self.flat is None:
            return self.fields
        return parsed_object(self.file, self.line, number)


def parsed_object(file: RawPath, line: bytes | bytearray, number: int) -> dict[str, Any]:
    """Return the object in a line of JSON. Raises DataError, with file and row, where it has none."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise wrong_row(file, number, f"is no valid JSON ({error})") from None
    if type(value) is not dict:
        raise wrong_row(file, number, "is no JSON object")
    return value


def _flat_spans(signals: Any) -> FlatSpans:
    """Return the spans of an object of simdjson whose values are lists of `[start, end, score]`."""
    names = list(signals)
    try:
        parts = [signals[name].as_buffer(of_type="d") for name in names]
    except TypeError:
        # Some score is null.
        parts = [_buffer_with_nan(signals[name]) for name in names]
    numbers = np.frombuffer(b"".join(parts), np.float64).reshape(-1, 3)
    return FlatSpans(names, [memoryview(part).nbytes // SPAN_BYTES for part in parts], numbers)


def _buffer_with_nan(spans: Any) -> Buffer:
    """Return the numbers of an array of simdjson as doubles, nan for null."""
    try:
        return spans.as_buffer(of_type="d")
    except TypeError:
        return np.array(spans.as_list(), np.float64).tobytes()


def _as_python(value: Any) -> Any:
    """Return a value of simdjson as one of Python."""
    as_python = getattr(value, "as_dict", getattr(value, "as_list", None))
    return value if as_python is None else as_python()
