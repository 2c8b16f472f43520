"""What a corpus publishes about one document: signals, signatures, duplicates, attributes.

Typed records, and the checks of values that come from files. Reads no file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config.urls import RawPath
from pipeline.corpus.trees.spans import Span, Spans
from pipeline.errors import DataError

EXCERPT_CHARACTERS = 80
"""Maximum length of a wrong value that a message shows."""
PARTS = ("signals", "minhash", "duplicates", "attributes")
"""What may be published about documents: the fields of a record."""


@dataclass(frozen=True)
class PublishedRecord:
    """What was published about one document.

    A field is None where the tree has no such files, or they were not asked for.
    """

    signals: Mapping[str, Spans] | None = None
    """Spans by the name of the signal; of a signal of the document one span over all its text."""
    minhash: Mapping[str, tuple[bytes, ...] | None] | None = None
    """Bands of the MinHash signature by the Jaccard similarity that they are meant for (`1.0`, `0.9`,
    `0.8`, `0.7`). None instead of bands where the text has fewer words than a shingle."""
    is_duplicate: bool | None = None
    """Whether the published list of duplicates has the document."""
    attributes: Mapping[str, Spans] | None = None
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

    def spans(self, name: str, value: Any) -> Spans:
        """Return the spans of a signal, each within the text.

        `value`: a list of `[start, end, score]`; or a number or a truth value, which holds for the
        whole text. Raises DataError for anything else, with file and row.
        """
        if type(value) in (int, float, bool):
            return Spans.of([(0, self._characters, float(value))])
        if type(value) is not list:
            raise self._wrong(name, value)
        # One loop without calls: a document has hundreds of spans, one for each line and signal.
        spans: list[Span] = []
        characters = self._characters
        for each in value:
            try:
                start, end, score = each
            except (TypeError, ValueError):
                raise self._wrong(name, each) from None
            if type(start) is not int or type(end) is not int or not 0 <= start <= end:
                raise self._wrong(name, each)
            if type(score) is not float:
                score = self._as_score(name, each)
            if end > characters:
                self.clamped += 1
                end = characters
                start = min(start, end)
            spans.append((start, end, score))
        return Spans.of(spans)

    def named_spans(self, what: str, values: Any) -> dict[str, Spans]:
        """Return the spans of all signals in an object. `what`: its key, for the message."""
        if type(values) is not dict:
            raise wrong_row(self._file, self._row, f"has no object {what!r}")
        return {name: self.spans(name, value) for name, value in values.items()}

    def _as_score(self, name: str, span: Any) -> float | None:
        """Return the score of a span that is no float: a whole number, a truth value or null."""
        score = span[2]
        if score is None:
            return None
        if type(score) not in (int, bool):
            raise self._wrong(name, span)
        return float(score)

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
