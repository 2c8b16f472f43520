"""Raw files, read as bytes, to rows: each row is a text with its meta, or a reject with its reason.

What is wrong with one row never hides another; what is wrong with a whole file (unreadable,
truncated, not the format its name says) is an error of the file, never a row and never silence.
"""

import codecs
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson

from pipeline.corpus.exact_json import is_utf8, parse
from pipeline.corpus.meta import exact_meta, plain_meta
from pipeline.corpus.parquet_rows import ParquetRow, parquet_rows
from pipeline.corpus.raw_files import CONTENT_BYTES, FileBroken, content_blocks
from pipeline.corpus.recognised import Kind
from pipeline.errors import UserError

Reason = Literal[
    "broken-json",
    "invalid-utf8",
    "not-an-object",
    "no-text",
    "text-not-a-string",
    "empty-text",
    "too-long",
]

LONGEST_BYTES = 2**29
"""A line, text file or Parquet text beyond is rejected: it is no document but a file with other
separators. Memory grows with the longest, and a page of Parquet ends at 2 GiB."""
EXCERPT_CHARACTERS = 300
MOST_KEYS = 20
KEY_CHARACTERS = 60
"""Keys that are named of a row without text, and characters of each."""
_MISSING = object()


class Row(NamedTuple):
    """A document as it stands in a raw file. Bytes, as they are hashed and written; a `str` would
    be one more copy."""

    text: bytes
    """UTF-8, valid."""
    meta: bytes
    """JSON object: the row's `meta`, and every other key except the text."""
    origin_row: int
    """Counted from 0: the line (blank ones count too), the Parquet row, or 0 for a text file."""
    nulls: tuple[str, ...] = ()
    """Keys of meta of which something became null because JSON or Python cannot hold it."""


class Reject(NamedTuple):
    """A row that is no document."""

    reason: Reason
    origin_row: int
    excerpt: str
    """At most `EXCERPT_CHARACTERS` of it."""
    keys: tuple[str, ...] = ()
    """What an object without text has in its stead; at most `MOST_KEYS` of them."""


def read_rows(
    file: Path, kind: Kind, text_field: str, advance: Callable[[int], None] = lambda count: None
) -> Generator[Row | Reject]:
    """Yield a file's rows in order; raises FileBroken at the point where it cannot be read on.

    `advance` is called with the number of raw bytes read since its last call. While a row is parsed
    it takes up to six times its size: the line, the parser's copy, and a `str`, of four bytes a
    character where one is rare.
    """
    try:
        if kind == "parquet":
            for number, row in enumerate(parquet_rows(file, text_field, advance)):
                yield _parquet_row(row, number)
        elif kind == "text":
            yield _text_row(
                bytes(next(_lines(content_blocks(file, kind, advance), separator=None)))
            )
        else:
            number = -1
            for line in _lines(content_blocks(file, kind, advance)):
                number += 1  # no `enumerate`, which holds on to a line until it has the next
                if line and not line.isspace():
                    yield _json_row(line, number, text_field)
    except (
        OSError
    ) as error:  # the file's own: what the caller does between rows is not raised in here
        raise FileBroken(file, f"cannot be read: {error.strerror or error}") from None
    except (MemoryError, UserError):
        raise
    except Exception as error:  # one file that nobody has thought of ends no stage
        raise FileBroken(file, f"cannot be read: {type(error).__name__}: {error}") from None


def _lines(blocks: Iterable[bytes], separator: bytes | None = b"\n") -> Iterator[bytes | bytearray]:
    """Yield what stands between separators, or all of it; of more than `LONGEST_BYTES` only little
    more than them."""
    # Of a line longer than a block. Grown in place: a list of its blocks would leave as much in the
    # allocator's hands.
    waiting = bytearray()
    for block in blocks:
        first, *others = block.split(separator) if separator else (block,)
        if len(waiting) <= LONGEST_BYTES:
            waiting += first
        if others:
            yield waiting
            waiting = bytearray(others.pop())
            yield from others
    yield waiting


def _json_row(line: bytes | bytearray, number: int, text_field: str) -> Row | Reject:
    if len(line) > LONGEST_BYTES:
        return Reject("too-long", number, _excerpt(line))
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError:
        return _odd_json_row(line, number, text_field)
    if type(fields) is not dict:
        return Reject("not-an-object", number, _excerpt(line))
    text = fields.pop(text_field, _MISSING)
    if type(text) is str and text and not text.isspace():
        meta = plain_meta(fields)
        return (
            _odd_json_row(line, number, text_field)
            if meta is None
            else Row(text.encode(), meta, number)
        )
    return _without_text(text, fields, line, number)


def _odd_json_row(line: bytes | bytearray, number: int, text_field: str) -> Row | Reject:
    """Return the row of a line with values that orjson refuses, or does not keep as they are."""
    try:
        fields, stand_ins = parse(bytes(line))
    except orjson.JSONDecodeError:
        return Reject("broken-json" if is_utf8(line) else "invalid-utf8", number, _excerpt(line))
    if type(fields) is not dict:
        return Reject("not-an-object", number, _excerpt(line))
    text = fields.pop(text_field, _MISSING)
    if type(text) is str and text in stand_ins:
        return Reject(stand_ins[text].problem, number, _excerpt(line))
    if type(text) is str and text and not text.isspace():
        meta, nulls = exact_meta(fields, stand_ins)
        return Row(text.encode(), meta, number, nulls)
    return _without_text(text, fields, line, number)


def _without_text(
    text: Any, others: dict[str, Any], line: bytes | bytearray, number: int
) -> Reject:
    if text is _MISSING or text is None:
        return Reject("no-text", number, _excerpt(line), _first_keys(others))
    return Reject(_text_problem(text), number, _excerpt(line))


def _first_keys(fields: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name[:KEY_CHARACTERS] for name in islice(fields, MOST_KEYS))


def _text_row(content: bytes) -> Row | Reject:
    reason = _content_problem(content)
    return Reject(reason, 0, _excerpt(content)) if reason else Row(content, b"{}", 0)


def _parquet_row(row: ParquetRow, number: int) -> Row | Reject:
    text = row.text.encode() if isinstance(row.text, str) else row.text  # of a dictionary
    if not isinstance(text, bytes):
        keys = _first_keys(row.fields) if text is None else ()
        return Reject(_text_problem(text), number, str(text)[:EXCERPT_CHARACTERS], keys)
    if reason := _content_problem(text):
        return Reject(reason, number, _excerpt(text))
    plain = plain_meta(row.fields)
    meta, nulls = exact_meta(row.fields, {}) if plain is None else (plain, ())
    return Row(text, meta, number, row.nulls + nulls)


def _text_problem(text: Any) -> Reason:
    """Say why a value that is no text, or a blank one, is no document."""
    if text is None:
        return "no-text"
    return "empty-text" if isinstance(text, str) else "text-not-a-string"


def _content_problem(content: bytes) -> Reason | None:
    if len(content) > LONGEST_BYTES:
        return "too-long"
    decoder = codecs.getincrementaldecoder(
        "utf-8"
    )()  # a `str` of all of it may be four times its size
    blank = True
    try:
        for start in range(0, len(content), CONTENT_BYTES):
            text = decoder.decode(content[start : start + CONTENT_BYTES])
            blank = blank and (not text or text.isspace())
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "invalid-utf8"
    return "empty-text" if blank else None


def _excerpt(content: bytes | bytearray) -> str:
    # A character has at most 4 bytes.
    return bytes(content[: 4 * EXCERPT_CHARACTERS]).decode(errors="replace")[:EXCERPT_CHARACTERS]
