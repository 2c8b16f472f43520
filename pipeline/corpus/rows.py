"""Rows of raw files: a row is a document, or a reject with its reason. Reads no file.

All kinds of sources share these functions. A bad row never hides another row. An error of a whole
file (unreadable, truncated, not the format that its suffix says) is raised; it never becomes a row,
and is never ignored.
"""

import codecs
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal, NamedTuple

from pipeline.corpus.raw_files import CONTENT_BYTES
from pipeline.errors import first_of
from pipeline.store.records import Json

Reason = Literal[
    "broken-json",
    "invalid-utf8",
    "not-an-object",
    "no-text",
    "text-not-a-string",
    "empty-text",
    "too-long",
    "wrong-columns",
]

LONGEST_BYTES = 2**29
"""Maximum size of a line, text file or Parquet text. A longer one is rejected: it is probably a file
with different separators. Memory grows with the longest row, and a page of Parquet holds at most
2 GiB."""
EXCERPT_CHARACTERS = 300
"""Maximum length of the excerpt of a rejected row, in characters."""
MOST_KEYS = 20
"""Maximum number of keys that are listed for a row, or columns for a file, without text."""
KEY_CHARACTERS = 60
"""Maximum number of characters that are shown of a key or column."""


class Row(NamedTuple):
    """A document as it stands in a raw file.

    Its text stays bytes, which are hashed and written: a `str` would be one more copy.
    """

    text: bytes
    """Valid UTF-8."""
    meta: bytes
    """JSON object: the row's `meta`, and every other key except the text."""
    origin_row: int
    """Line of JSON (blank lines count, too), row of a table, or part of a text file, from 0."""
    nulls: tuple[str, ...] = ()
    """Keys of meta with values that became null because JSON or Python cannot hold them."""
    blank_fields: tuple[str, ...] = ()
    """Fields of several that make the text which are missing, null or blank in this row."""


class Reject(NamedTuple):
    """A row that is not a document."""

    reason: Reason
    origin_row: int
    excerpt: str
    """Beginning of the row, at most `EXCERPT_CHARACTERS`."""
    keys: tuple[str, ...] = ()
    """Keys of an object without text, at most `MOST_KEYS`."""
    byte: int | None = None
    """First byte of the row that is not UTF-8, from 0, where that is the reason."""


def split_at(blocks: Iterable[bytes], separator: bytes | None) -> Iterator[bytes | bytearray]:
    """Yield the parts between separators, or all content as one part where there is no separator.

    A part longer than `LONGEST_BYTES` is cut a little after that many bytes.
    """
    # Holds the beginning of a part that is longer than a block. Grown in place: a list of blocks
    # would leave as much memory again with the allocator.
    waiting = bytearray()
    for block in blocks:
        parts = [block]
        if separator is not None:
            parts = block.split(separator)
        first, *others = parts
        if len(waiting) <= LONGEST_BYTES:
            waiting += first
        if others:
            yield waiting
            waiting = bytearray(others.pop())
            yield from others
    yield waiting


def first_keys(names: Iterable[str]) -> tuple[str, ...]:
    """Return the first keys of a row without text, at most `MOST_KEYS`, each cut if it is long."""
    return tuple(name[:KEY_CHARACTERS] for name in islice(names, MOST_KEYS))


def columns_in_words(names: Sequence[str]) -> str:
    """Return the columns of a file for a message: the first `MOST_KEYS`, each cut if it is long."""
    return first_of([_cut_name(name) for name in names], MOST_KEYS)


def _cut_name(name: str) -> str:
    if len(name) <= KEY_CHARACTERS:
        return name
    return f"{name[:KEY_CHARACTERS]}..."


def why_not_text(text: Json) -> Reason:
    """Return the reason to reject a value that is not a string, or is a blank one."""
    if text is None:
        return "no-text"
    if isinstance(text, str):
        return "empty-text"
    return "text-not-a-string"


def is_blank(text: str) -> bool:
    """Return whether a text is empty: it has nothing but Unicode's white space (`str.isspace`).

    That is what `prepare` rejects and what `select` calls empty after cuts. U+2028 and the ideographic
    space are white space; U+200B and U+FEFF, which have no width, are not.
    """
    return not text or text.isspace()


def is_too_long(content: bytes | bytearray) -> bool:
    """Return whether a row has more bytes than a document may have."""
    return len(content) > LONGEST_BYTES


def why_not_document(content: bytes) -> Reason | None:
    """Return the reason to reject the bytes of a text; None where they are a document."""
    if is_too_long(content):
        return "too-long"
    # Decoded in parts: a `str` of the whole text may take four times its size.
    decoder = codecs.getincrementaldecoder("utf-8")()
    blank = True
    try:
        for start in range(0, len(content), CONTENT_BYTES):
            text = decoder.decode(content[start : start + CONTENT_BYTES])
            blank = blank and is_blank(text)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "invalid-utf8"
    if blank:
        return "empty-text"
    return None


def reject_content(reason: Reason, number: int, content: bytes | bytearray) -> Reject:
    """Return the reject of a row that is no document. `content`: the text, or the row itself."""
    byte = None
    if reason == "invalid-utf8":
        byte = _first_odd_byte(content)
    return Reject(reason, number, excerpt_of(content), byte=byte)


def _first_odd_byte(content: bytes | bytearray) -> int | None:
    """Return the place of the first byte that is not UTF-8."""
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return error.start
    return None


def excerpt_of(content: bytes | bytearray) -> str:
    """Return the first `EXCERPT_CHARACTERS` of a rejected row."""
    # A character takes at most 4 bytes.
    return bytes(content[: 4 * EXCERPT_CHARACTERS]).decode(errors="replace")[:EXCERPT_CHARACTERS]
