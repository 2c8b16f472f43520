"""The source kind `csv`: tables of text whose first row names the columns, plain or compressed.

Quotes are RFC 4180's: a field in quotes may hold line breaks and separators, and a quote as two.
"""

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.urls import RawPath
from pipeline.corpus.kinds.text_fields import join_fields
from pipeline.corpus.meta import exact_meta, plain_meta
from pipeline.corpus.raw_files import COMPRESSIONS, FileBroken, content_blocks
from pipeline.corpus.recognised import why_not_lines
from pipeline.corpus.row_settings import RowSettings
from pipeline.corpus.rows import (
    EXCERPT_CHARACTERS,
    LONGEST_BYTES,
    Reject,
    Row,
    columns_in_words,
    reject_content,
    split_at,
    why_not_document,
)
from pipeline.corpus.source_kind import RawFiles

SEPARATORS = {".csv": ",", ".tsv": "\t"}
"""Suffix -> what stands between two fields, if the source names nothing else."""
OTHER_SEPARATORS = ";\t|,"
"""What stands between the fields of tables by other programs."""


class SeparatedValues(RawFiles):
    """Source kind in which a row of a table is a document."""

    suffixes = tuple(f"{form}{packed}" for form in SEPARATORS for packed in ("", *COMPRESSIONS))
    has_text_field = True
    takes_encoding = True
    takes_delimiter = True

    def why_unreadable(self, head: bytes) -> str | None:
        """Recognise other formats."""
        return why_not_lines(head)

    def rows(
        self, file: RawPath, settings: RowSettings, advance: Callable[[int], None]
    ) -> Iterator[Row | Reject]:
        """Yield a row for each record after the first; blank lines between records are none.

        Raises FileBroken where the header is not UTF-8, where the text column is missing or there
        are two, and for a quote that is never closed or has text behind it: what follows may be
        text or table.
        """
        blocks = content_blocks(file, self.why_unreadable, advance, settings.encoding)
        lines = _Lines(split_at(blocks, b"\n"))
        records = _records(file, lines, settings.delimiter or _separator(file))
        header = next(records, None)
        if header is None:
            return
        if lines.take_odd_bytes():
            raise FileBroken(
                file,
                f"its header is not UTF-8 ({columns_in_words(header)}): set the source's `encoding`",
            )
        columns = _columns(file, header, settings)
        for number, fields in enumerate(records):
            yield _row(fields, number, columns, settings, lines.take_odd_bytes())


class _Lines:
    """Lines of a table as the parser takes them, one after another."""

    def __init__(self, lines: Iterable[bytes | bytearray]) -> None:
        self._lines = lines
        self._has_odd_bytes = False

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            # No name is kept of the text: a long line of it may take four bytes a character.
            yield self._decoded(line + b"\n")

    def _decoded(self, line: bytes | bytearray) -> str:
        try:
            return line.decode()
        except UnicodeDecodeError:
            self._has_odd_bytes = True
            return line.decode(errors="surrogateescape")

    def take_odd_bytes(self) -> bool:
        """Return whether a line since the last call is not UTF-8; its bytes are escaped."""
        has_odd_bytes = self._has_odd_bytes
        self._has_odd_bytes = False
        return has_odd_bytes


@dataclass(frozen=True)
class _Columns:
    """The columns of a table."""

    names: tuple[str, ...]
    texts: tuple[int, ...]
    """Places of the columns that hold the text."""
    repeated: tuple[str, ...]
    """Names that several columns have, whose values are unclear and become null."""


def _separator(file: RawPath) -> str:
    """Return what stands between the fields of a file, by its suffix without that of a compression."""
    name = file.name.lower()
    packed = Path(name).suffix
    if packed in COMPRESSIONS:
        name = name.removesuffix(packed)
    return SEPARATORS.get(Path(name).suffix, ",")


def _records(file: RawPath, lines: _Lines, separator: str) -> Iterator[list[str]]:
    """Yield the records of a table. Raises FileBroken for a broken quote, with row and line."""
    # The parser's own limit is 128 KiB; it is one for the whole process.
    csv.field_size_limit(LONGEST_BYTES)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    number = 0
    while True:
        first_line = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            where = f"row {number - 1:,}"
            if number == 0:
                where = "the header"
            raise FileBroken(
                file,
                f"{where}, which begins on line {first_line:,}, is broken ({error}): "
                f"{_why_broken(str(error))}",
            ) from None
        if fields is None:
            return
        if fields:
            yield fields
            number += 1


def _why_broken(error: str) -> str:
    """Return the cause of an error of the parser, and a remedy."""
    if "new-line" in error:
        return (
            "a carriage return stands outside of quotes. Where it ends each line, convert the file "
            "with `tr '\\r' '\\n'`; else write that field in quotes"
        )
    return "a quote is not closed, or text stands behind it. Write a quote in a quoted field as two"


def _columns(file: RawPath, header: Sequence[str], settings: RowSettings) -> _Columns:
    """Return the columns that a header names. Raises FileBroken unless each text column stands once."""
    counts = Counter(header)
    for name in settings.text_fields:
        if counts[name] == 0:
            remedy = "set the source's text_field. The first row must name the columns"
            others = [each for each in OTHER_SEPARATORS if len(header) == 1 and each in header[0]]
            if others:
                remedy = f"set the source's delimiter to {others[0]!r}, if it stands between them"
            raise FileBroken(
                file, f"has no column {name!r} but {columns_in_words(header)}: {remedy}"
            )
        if counts[name] > 1:
            raise FileBroken(
                file,
                f"has {counts[name]} columns named {name!r}, so it is unclear which one is the "
                "text: rename the others",
            )
    texts = tuple(header.index(name) for name in settings.text_fields)
    repeated = tuple(name for name, columns in counts.items() if columns > 1)
    return _Columns(tuple(header), texts, repeated)


def _row(
    fields: list[str], number: int, columns: _Columns, settings: RowSettings, has_odd_bytes: bool
) -> Row | Reject:
    """Return the document of a record, or the reject."""
    if len(fields) != len(columns.names):
        return Reject("wrong-columns", number, " | ".join(fields)[:EXCERPT_CHARACTERS])

    # The text is one field, or several.
    values = [fields[place] for place in columns.texts]
    taken: Any = values[0]
    blank_fields: tuple[str, ...] = ()
    if len(values) > 1:
        taken, blank_fields = join_fields(values, settings)
    text = taken.encode(errors="surrogateescape")
    reason = why_not_document(text)
    if reason is not None:
        return reject_content(reason, number, text)

    # All other fields are the meta, as strings.
    meta: dict[str, Any] = {
        name: value
        for place, (name, value) in enumerate(zip(columns.names, fields, strict=True))
        if place not in columns.texts
    }
    nulls = list(columns.repeated)
    if has_odd_bytes:
        nulls += [name for name, value in meta.items() if not _is_utf8(value)]
    meta |= dict.fromkeys(nulls)
    encoded = plain_meta(meta)
    if encoded is None:
        encoded, lost = exact_meta(meta, {})
        nulls += lost
    return Row(text, encoded, number, tuple(nulls), blank_fields)


def _is_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
