"""The source kind `jsonl`: files with one JSON object a line, plain or compressed."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson

from pipeline.config.urls import RawPath
from pipeline.corpus.exact_json import is_utf8, parse_with_stand_ins
from pipeline.corpus.kinds.text_fields import MISSING, field_names, take_text
from pipeline.corpus.meta import exact_meta, plain_meta
from pipeline.corpus.raw_files import COMPRESSIONS, content_blocks
from pipeline.corpus.recognised import why_not_json_lines
from pipeline.corpus.row_settings import RowSettings
from pipeline.corpus.rows import (
    Reject,
    Row,
    excerpt_of,
    first_keys,
    is_blank,
    is_too_long,
    reject_content,
    split_at,
    why_not_text,
)
from pipeline.corpus.source_kind import RawFiles

FORMS = (".jsonl", ".json", ".ndjson")
"""Suffixes of plain files."""


class JsonLines(RawFiles):
    """Source kind in which a line is a document."""

    suffixes = tuple(f"{form}{packed}" for form in FORMS for packed in ("", *COMPRESSIONS))
    has_text_field = True
    takes_layout = True
    takes_encoding = True

    def why_unreadable(self, head: bytes) -> str | None:
        """Recognise other formats, and JSON that does not stand one object a line."""
        return why_not_json_lines(head)

    def rows(
        self, file: RawPath, settings: RowSettings, advance: Callable[[int], None]
    ) -> Iterator[Row | Reject]:
        """Yield a row for each line that is not blank; blank lines count in the rows' numbers."""
        number = -1
        blocks = content_blocks(file, self.why_unreadable, advance, settings.encoding)
        for line in split_at(blocks, b"\n"):
            # Not `enumerate`, which keeps a line in memory until it has the next one.
            number += 1
            if line and not line.isspace():
                yield json_row(line, number, settings)


def json_row(line: bytes | bytearray, number: int, settings: RowSettings) -> Row | Reject:
    """Return the document of a line, or the reject. `number`: the line's, from 0."""
    if is_too_long(line):
        return Reject("too-long", number, excerpt_of(line))
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError:
        return _odd_json_row(line, number, settings)
    if type(fields) is not dict:
        return Reject("not-an-object", number, excerpt_of(line))
    # Most rows have the one field that is asked for: short documents pay for two calls and a tuple.
    blank_fields: tuple[str, ...] = ()
    if settings.text_field in fields:
        text = fields.pop(settings.text_field)
    else:
        text, blank_fields = take_text(fields, settings)
    if type(text) is str and not is_blank(text):
        meta = plain_meta(fields)
        if meta is None:
            return _odd_json_row(line, number, settings)
        return Row(text.encode(), meta, number, (), blank_fields)
    return _without_text(text, field_names(fields, settings), line, number)


def _odd_json_row(line: bytes | bytearray, number: int, settings: RowSettings) -> Row | Reject:
    """Return the row of a line with values that orjson refuses, or does not keep exactly."""
    try:
        fields, stand_ins = parse_with_stand_ins(bytes(line))
    except orjson.JSONDecodeError:
        if not is_utf8(line):
            return reject_content("invalid-utf8", number, line)
        return Reject("broken-json", number, excerpt_of(line))
    if type(fields) is not dict:
        return Reject("not-an-object", number, excerpt_of(line))
    text, blank_fields = take_text(fields, settings, lambda value: value not in stand_ins)
    if type(text) is str and text in stand_ins:
        return reject_content(stand_ins[text].problem, number, line)
    if type(text) is str and not is_blank(text):
        meta, nulls = exact_meta(fields, stand_ins)
        return Row(text.encode(), meta, number, nulls, blank_fields)
    return _without_text(text, field_names(fields, settings), line, number)


def _without_text(text: Any, others: Iterable[str], line: bytes | bytearray, number: int) -> Reject:
    """Return the reject of an object whose text is missing, blank or not a string."""
    if text is MISSING or text is None:
        return Reject("no-text", number, excerpt_of(line), first_keys(others))
    return Reject(why_not_text(text), number, excerpt_of(line))
