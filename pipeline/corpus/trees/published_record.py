"""What a corpus publishes about one document: signals, signatures, duplicates, attributes.

Typed records, and the checks of values that come from files. Reads no file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.config.urls import RawPath
from pipeline.errors import DataError

EXCERPT_CHARACTERS = 80
"""Maximum length of a wrong value that a message shows."""
PARTS = ("signals", "minhash", "duplicates", "attributes")
"""What may be published about documents: the fields of a record."""


class Span(NamedTuple):
    """A part of a document's text with its score."""

    start: int
    """First character: a Unicode code point of the text, from 0."""
    end: int
    """Character after the last one, at most the length of the text."""
    score: float | None
    """None where the signal is undefined for this text."""


@dataclass(frozen=True)
class PublishedRecord:
    """What was published about one document.

    A field is None where the tree has no such files, or they were not asked for.
    """

    signals: Mapping[str, tuple[Span, ...]] | None = None
    """Spans by the name of the signal; of a signal of the document one span over all its text."""
    minhash: Mapping[str, tuple[bytes, ...] | None] | None = None
    """Bands of the MinHash signature by the Jaccard similarity that they are meant for (`1.0`, `0.9`,
    `0.8`, `0.7`). None instead of bands where the text has fewer words than a shingle."""
    is_duplicate: bool | None = None
    """Whether the published list of duplicates has the document."""
    attributes: Mapping[str, tuple[Span, ...]] | None = None
    """Spans by the name of the attribute."""
    clamped: int = 0
    """Number of spans that reached beyond the text, and were cut at its end."""


@dataclass(frozen=True)
class SourceDocument:
    """What is compared and needed of a document to join it with a row of a side file."""

    row: int
    """Row in the raw file, from 0; blank lines count, too."""
    characters: int
    """Length of the text in Unicode code points."""
    meta: Mapping[str, Any]


class SpanReader:
    """Turns the values of one row of a side file into spans, and counts those that were cut."""

    def __init__(self, file: RawPath, document: SourceDocument) -> None:
        self.clamped = 0
        self._file = file
        self._row = document.row
        self._characters = document.characters

    def spans(self, name: str, value: Any) -> tuple[Span, ...]:
        """Return the spans of a signal, each within the text.

        `value`: a list of `[start, end, score]`; or a number or a truth value, which holds for the
        whole text. Raises DataError for anything else, with file and row.
        """
        if type(value) in (int, float, bool):
            return (Span(0, self._characters, float(value)),)
        if type(value) is not list:
            raise self._wrong(name, value)
        return tuple(self._span(name, each) for each in value)

    def named_spans(self, what: str, values: Any) -> dict[str, tuple[Span, ...]]:
        """Return the spans of all signals in an object. `what`: its key, for the message."""
        if type(values) is not dict:
            raise wrong_row(self._file, self._row, f"has no object {what!r}")
        return {name: self.spans(name, value) for name, value in values.items()}

    def _span(self, name: str, value: Any) -> Span:
        if type(value) is not list or len(value) != 3:
            raise self._wrong(name, value)
        start, end, score = value
        is_number = score is None or type(score) in (int, float, bool)
        if type(start) is not int or type(end) is not int or not is_number:
            raise self._wrong(name, value)
        if not 0 <= start <= end:
            raise self._wrong(name, value)
        if end > self._characters:
            self.clamped += 1
            end = self._characters
            start = min(start, end)
        return Span(start, end, None if score is None else float(score))

    def _wrong(self, name: str, value: Any) -> DataError:
        excerpt = repr(value)[:EXCERPT_CHARACTERS]
        return wrong_row(
            self._file,
            self._row,
            f"has {excerpt} in {name!r}, where [start, end, score] with 0 <= start <= end is expected",
        )


def wrong_row(file: RawPath, row: int, how: str) -> DataError:
    """Return the error of a row of a side file that holds no values of its kind."""
    return DataError(f"{file}: row {row:,} {how}. Download the file again.")


def wrong_document(file: RawPath, row: int, how: str) -> DataError:
    """Return the error of a row of a side file that belongs to another document."""
    return DataError(
        f"{file}: row {row:,} {how}, so its rows are shifted against those of the documents, or "
        "belong to others. Download both files again, or leave the documents out."
    )


def missing_files(files: Sequence[RawPath], documents: RawPath) -> DataError:
    """Return the error of side files that do not exist beside a file of documents."""
    verb = "is"
    if len(files) > 1:
        verb = "are"
    names = ", ".join(str(file) for file in files)
    return DataError(
        f"{names} {verb} missing beside {documents}. Download what is missing, or leave these "
        "documents out (remove the file)."
    )
