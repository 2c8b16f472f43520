"""Raw files, read as bytes, to rows: each row is a text with its meta, or a reject with its reason.

What is wrong with one row never hides another; what is wrong with a whole file (unreadable, truncated, not the
format its name says) is an error of the file, never a row and never silence.
"""

import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from pipeline.errors import DataError

Kind = Literal["jsonl", "parquet", "text"]
Reason = Literal["broken-json", "invalid-utf8", "not-an-object", "no-text", "text-not-a-string", "empty-text"]

BLOCK_BYTES = 128 * 2**10
"""Compressed bytes taken at once; highly repetitive text grows a thousandfold from them."""
PARQUET_BATCH_ROWS = 256
EXCERPT_CHARACTERS = 300
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Row:
    """A document as it stands in a raw file."""

    text: str
    meta: str
    """JSON object: the row's `meta`, and every other key except the text."""
    origin_row: int
    """Counted from 0: the line (blank ones count too), the Parquet row, or 0 for a text file."""


@dataclass(frozen=True)
class Reject:
    """A row that is no document."""

    reason: Reason
    origin_row: int
    excerpt: str
    """At most `EXCERPT_CHARACTERS` of it."""


class FileBroken(DataError):
    """A file cannot be read to its end."""

    def __init__(self, file: Path, why: str) -> None:
        self.file, self.why = file, why
        super().__init__(f"{file}: {why}")


def read_rows(file: Path, kind: Kind, text_field: str) -> Iterator[Row | Reject]:
    """Yield a file's rows in order; raises FileBroken at the point where it cannot be read on."""
    try:
        if kind == "parquet":
            yield from _parquet_rows(file, text_field)
        elif kind == "text":
            yield _text_row(b"".join(_blocks(file)))
        else:
            for number, line in enumerate(_lines(_blocks(file))):
                if line and not line.isspace():
                    yield _json_row(line, number, text_field)
    except OSError as error:  # the file's own: what the caller does between rows is not raised in here
        raise FileBroken(file, f"cannot be read: {error.strerror or error}") from None


def _blocks(file: Path) -> Iterator[bytes]:
    """Yield a file's content, decompressed as its name says, without a byte order mark."""
    suffix = file.suffix.lower()
    raw = _raw_blocks(file)
    if suffix == ".gz":
        content = _decompressed(file, raw, lambda: zlib.decompressobj(wbits=31))  # 16 + 15: gzip, largest window
    elif suffix in (".zst", ".zstd"):
        # 2 GiB: what `zstd --long=31`, as used for large dumps, needs for reading.
        content = _decompressed(file, raw, zstandard.ZstdDecompressor(max_window_size=2**31).decompressobj)
    else:
        content = raw
    head = b""
    for block in content:
        head += block
        if len(head) >= len(BYTE_ORDER_MARK):
            yield head.removeprefix(BYTE_ORDER_MARK)
            break
    else:
        yield head
    yield from content


def _raw_blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while block := opened.read(BLOCK_BYTES):
            yield block


def _decompressed(file: Path, blocks: Iterable[bytes], new_decompressor: Callable[[], Any]) -> Iterator[bytes]:
    """Yield the content of concatenated frames; the end of the file within a frame is an error."""
    decompressor = None
    position = frames = 0
    for block in blocks:
        position += len(block)
        while block:
            decompressor = decompressor or new_decompressor()
            try:
                content = decompressor.decompress(block)
            except (zlib.error, zstandard.ZstdError) as error:
                where = f"the frame before byte {position:,}" if position > BLOCK_BYTES or frames else "its beginning"
                raise FileBroken(file, f"not valid {file.suffix} data in {where} ({error})") from None
            if content:
                yield content
            block = b""
            if decompressor.eof:
                block, decompressor, frames = decompressor.unused_data, None, frames + 1
    if position == 0:
        raise FileBroken(file, f"is empty, which no {file.suffix} file is")
    if decompressor is not None:
        raise FileBroken(file, f"is truncated: its {file.suffix} data ends after {position:,} bytes within a frame")


def _lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    parts: list[bytes] = []  # of a line longer than a block; joined once, as adding would copy it for every block
    for block in blocks:
        first, *others = block.split(b"\n")
        parts.append(first)
        if others:
            yield b"".join(parts)
            yield from others[:-1]
            parts = [others[-1]]
    yield b"".join(parts)


def _json_row(line: bytes, number: int, text_field: str) -> Row | Reject:
    def reject(reason: Reason) -> Reject:
        return Reject(reason, number, _excerpt(line))

    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError:
        return reject("broken-json" if _decoded(line) is not None else "invalid-utf8")
    if not isinstance(fields, dict):
        return reject("not-an-object")
    text = fields.pop(text_field, None)
    reason = _text_problem(text)
    return reject(reason) if reason else Row(text, _meta(fields), number)


def _text_row(content: bytes) -> Row | Reject:
    text = _decoded(content)
    if text is None:
        return Reject("invalid-utf8", 0, _excerpt(content))
    reason = _text_problem(text)
    return Reject(reason, 0, _excerpt(content)) if reason else Row(text, "{}", 0)


def _parquet_rows(file: Path, text_field: str) -> Iterator[Row | Reject]:
    try:
        with pq.ParquetFile(file) as parquet:
            columns = parquet.schema_arrow.names
            if text_field not in columns:
                why = f"has no column {text_field!r} but {', '.join(columns)}: set the source's text_field"
                raise FileBroken(file, why)
            number = 0
            for batch in parquet.iter_batches(PARQUET_BATCH_ROWS):
                for row in range(batch.num_rows):
                    yield _parquet_row(batch, row, number, text_field)
                    number += 1
    except pa.ArrowException as error:
        raise FileBroken(file, f"not readable as Parquet: {str(error).splitlines()[0]}") from None


def _parquet_row(batch: pa.RecordBatch, row: int, number: int, text_field: str) -> Row | Reject:
    try:
        fields = {name: batch[name][row].as_py() for name in batch.schema.names}
    except UnicodeDecodeError as error:  # Parquet's writers need not check what they call a string
        return Reject("invalid-utf8", number, _excerpt(error.object))
    text = fields.pop(text_field)
    if isinstance(text, bytes):
        decoded = _decoded(text)
        if decoded is None:
            return Reject("invalid-utf8", number, _excerpt(text))
        text = decoded
    if reason := _text_problem(text):
        return Reject(reason, number, str(text)[:EXCERPT_CHARACTERS])
    return Row(text, _meta(fields), number)


def _text_problem(text: Any) -> Reason | None:
    if text is None:
        return "no-text"
    if not isinstance(text, str):
        return "text-not-a-string"
    return "empty-text" if not text or text.isspace() else None


def _meta(fields: dict[str, Any]) -> str:
    """Join `meta` (an object, or a string that holds one) with the other fields; of a key in both, meta's stays."""
    meta = fields.get("meta")
    if isinstance(meta, str):
        try:
            meta = orjson.loads(meta)
        except orjson.JSONDecodeError:
            meta = None
    if isinstance(meta, dict):
        fields = {**meta, **{key: value for key, value in fields.items() if key not in meta and key != "meta"}}
    try:
        return orjson.dumps(fields, default=str).decode()
    except TypeError:  # nested more than 254 deep, which orjson reads and does not write
        return json.dumps(fields, default=str)


def _decoded(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def _excerpt(content: bytes | bytearray) -> str:
    # A character has at most 4 bytes.
    return bytes(content[: 4 * EXCERPT_CHARACTERS]).decode(errors="replace")[:EXCERPT_CHARACTERS]
