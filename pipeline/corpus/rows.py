"""Rows of raw files: each is a text with its meta, or a reject with its reason. What all kinds of
sources share to make them; reads no file.

What is wrong with one row never hides another; what is wrong with a whole file (unreadable,
truncated, not the format its name says) is an error of the file, never a row and never silence.
"""

import codecs
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Literal, NamedTuple

from pipeline.corpus.raw_files import CONTENT_BYTES

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


def split_at(blocks: Iterable[bytes], separator: bytes | None) -> Iterator[bytes | bytearray]:
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


def first_keys(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of a row without text, at most `MOST_KEYS` of them."""
    return tuple(name[:KEY_CHARACTERS] for name in islice(fields, MOST_KEYS))


def why_not_text(text: Any) -> Reason:
    """Return why a value that is no text, or a blank one, is no document."""
    if text is None:
        return "no-text"
    if isinstance(text, str):
        return "empty-text"
    return "text-not-a-string"


def is_too_long(content: bytes | bytearray) -> bool:
    """Tell whether a row's bytes are more than a document may have."""
    return len(content) > LONGEST_BYTES


def why_not_document(content: bytes) -> Reason | None:
    """Return why bytes are no document; None where they are one."""
    if is_too_long(content):
        return "too-long"
    # In parts: a `str` of all of it may be four times its size.
    decoder = codecs.getincrementaldecoder("utf-8")()
    blank = True
    try:
        for start in range(0, len(content), CONTENT_BYTES):
            text = decoder.decode(content[start : start + CONTENT_BYTES])
            blank = blank and (not text or text.isspace())
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "invalid-utf8"
    return "empty-text" if blank else None


def excerpt_of(content: bytes | bytearray) -> str:
    """Return the first `EXCERPT_CHARACTERS` of a rejected row."""
    # A character has at most 4 bytes.
    return bytes(content[: 4 * EXCERPT_CHARACTERS]).decode(errors="replace")[:EXCERPT_CHARACTERS]
