"""Raw files, read as bytes, to rows: each row is a text with its meta, or a reject with its reason.

What is wrong with one row never hides another; what is wrong with a whole file (unreadable, truncated, not the
format its name says) is an error of the file, never a row and never silence.
"""

import codecs
import json
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpus.raw_files import BLOCK_BYTES, CONTENT_BYTES, FileBroken, check_beginning, content_blocks
from pipeline.corpus.recognised import Kind

Reason = Literal[
    "broken-json", "invalid-utf8", "not-an-object", "no-text", "text-not-a-string", "empty-text", "too-long"
]

LONGEST_BYTES = 2**29
"""A line, text file or Parquet text beyond is rejected: it is no document but a file with other separators. Memory grows
with the longest, and a page of Parquet ends at 2 GiB."""
PARQUET_BATCH_ROWS = 256
PARQUET_BATCH_BYTES = 8 * 2**20
"""Decoded at once, by the average row of the row group."""
EXCERPT_CHARACTERS = 300


class Row(NamedTuple):
    """A document as it stands in a raw file. Bytes, as they are hashed and written; a `str` would be one more copy."""

    text: bytes
    """UTF-8, valid."""
    meta: bytes
    """JSON object: the row's `meta`, and every other key except the text."""
    origin_row: int
    """Counted from 0: the line (blank ones count too), the Parquet row, or 0 for a text file."""


class Reject(NamedTuple):
    """A row that is no document."""

    reason: Reason
    origin_row: int
    excerpt: str
    """At most `EXCERPT_CHARACTERS` of it."""


def read_rows(
    file: Path, kind: Kind, text_field: str, advance: Callable[[int], None] = lambda count: None
) -> Generator[Row | Reject]:
    """Yield a file's rows in order; raises FileBroken at the point where it cannot be read on.

    `advance` is called with the number of raw bytes read since its last call. While a row is parsed it takes up to six
    times its size: the line, the parser's copy, and a `str`, of four bytes a character where one is rare.
    """
    try:
        if kind == "parquet":
            yield from _parquet_rows(file, text_field, advance)
        elif kind == "text":
            yield _text_row(bytes(next(_lines(content_blocks(file, kind, advance), separator=None))))
        else:
            number = -1
            for line in _lines(content_blocks(file, kind, advance)):
                number += 1  # no `enumerate`, which holds on to a line until it has the next
                if line and not line.isspace():
                    yield _json_row(line, number, text_field)
    except OSError as error:  # the file's own: what the caller does between rows is not raised in here
        raise FileBroken(file, f"cannot be read: {error.strerror or error}") from None


def _lines(blocks: Iterable[bytes], separator: bytes | None = b"\n") -> Iterator[bytes | bytearray]:
    """Yield what stands between separators, or all of it; of more than `LONGEST_BYTES` only little more than them."""
    # Of a line longer than a block. Grown in place: a list of its blocks would leave as much in the allocator's hands.
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
        return Reject("broken-json" if _is_utf8(line) else "invalid-utf8", number, _excerpt(line))
    if type(fields) is not dict:
        return Reject("not-an-object", number, _excerpt(line))
    text = fields.pop(text_field, None)
    if type(text) is str and text and not text.isspace():
        return Row(text.encode(), _meta(fields), number)
    return Reject(_text_problem(text), number, _excerpt(line))


def _text_row(content: bytes) -> Row | Reject:
    reason = _content_problem(content)
    return Reject(reason, 0, _excerpt(content)) if reason else Row(content, b"{}", 0)


def _parquet_rows(file: Path, text_field: str, advance: Callable[[int], None]) -> Iterator[Row | Reject]:
    check_beginning(file, "parquet")
    size, number = file.stat().st_size, 0
    try:
        # With a buffer, column chunks are read as they are decoded; without one, each as a whole.
        with pq.ParquetFile(file, buffer_size=BLOCK_BYTES) as parquet:
            columns = parquet.schema_arrow.names
            if text_field not in columns:
                why = f"has no column {text_field!r} but {', '.join(columns)}: set the source's text_field"
                raise FileBroken(file, why)
            for group in range(parquet.num_row_groups):
                described = parquet.metadata.row_group(group)
                fitting = PARQUET_BATCH_BYTES * described.num_rows // max(1, described.total_byte_size)
                batch_rows = min(PARQUET_BATCH_ROWS, max(1, fitting))
                for batch in parquet.iter_batches(batch_rows, row_groups=[group], use_threads=False):
                    for row in range(batch.num_rows):
                        yield _parquet_row(batch, row, number, text_field)
                        number += 1
                    advance(size * batch.num_rows // parquet.metadata.num_rows)
    except pa.ArrowException as error:
        raise FileBroken(file, f"not readable as Parquet: {str(error).splitlines()[0]}") from None


def _parquet_row(batch: pa.RecordBatch, row: int, number: int, text_field: str) -> Row | Reject:
    try:
        text = _undecoded(batch[text_field])[row].as_py()
        fields = {name: batch[name][row].as_py() for name in batch.schema.names if name != text_field}
    except UnicodeDecodeError as error:  # Parquet's writers need not check what they call a string
        return Reject("invalid-utf8", number, _excerpt(error.object))
    if isinstance(text, str):  # of a dictionary
        text = text.encode()
    if not isinstance(text, bytes):
        return Reject(_text_problem(text), number, str(text)[:EXCERPT_CHARACTERS])
    if reason := _content_problem(text):
        return Reject(reason, number, _excerpt(text))
    return Row(text, _meta(fields), number)


def _undecoded(column: pa.Array) -> pa.Array:
    views = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}
    return column.view(views[column.type]) if column.type in views else column


def _text_problem(text: Any) -> Reason:
    """Say why a value that is no text, or a blank one, is no document."""
    if text is None:
        return "no-text"
    return "empty-text" if isinstance(text, str) else "text-not-a-string"


def _content_problem(content: bytes) -> Reason | None:
    if len(content) > LONGEST_BYTES:
        return "too-long"
    decoder = codecs.getincrementaldecoder("utf-8")()  # a `str` of all of it may be four times its size
    blank = True
    try:
        for start in range(0, len(content), CONTENT_BYTES):
            text = decoder.decode(content[start : start + CONTENT_BYTES])
            blank = blank and (not text or text.isspace())
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "invalid-utf8"
    return "empty-text" if blank else None


def _meta(fields: dict[str, Any]) -> bytes:
    """Join `meta` (an object, or a string that holds one) with the other fields; of a key in both, meta's stays."""
    meta = fields.get("meta")
    if isinstance(meta, str):
        try:
            meta = orjson.loads(meta)
        except orjson.JSONDecodeError:
            meta = None
    if isinstance(meta, dict):
        others = len(fields) > 1  # of RedPajama v1's rows none has
        fields = {**meta, **{k: v for k, v in fields.items() if k not in meta and k != "meta"}} if others else meta
    try:
        # A copy, as orjson's own result, cut from a buffer of some kilobytes, keeps the allocator from using the rest.
        return memoryview(orjson.dumps(fields, default=str)).tobytes()
    except TypeError:  # nested more than 254 deep; orjson reads up to 1024
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(limit + 10_000)  # else it would depend on the caller's own depth how much is written
        try:
            return json.dumps(fields, default=str).encode()
        finally:
            sys.setrecursionlimit(limit)


def _is_utf8(content: bytes | bytearray) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _excerpt(content: bytes | bytearray) -> str:
    # A character has at most 4 bytes.
    return bytes(content[: 4 * EXCERPT_CHARACTERS]).decode(errors="replace")[:EXCERPT_CHARACTERS]
