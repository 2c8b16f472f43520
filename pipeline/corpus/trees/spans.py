"""Spans with scores as arrays: a document has hundreds, one for each line and signal.

Reads no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:  # so that commands which only load a run file need not import numpy
    import numpy as np

Span: TypeAlias = tuple[int, int, float | None]
"""A part of a document's text with its score: first character, the character after the last one, and
the score; None where the signal is undefined for this text. Characters are Unicode code points, from
0, and none is beyond the text."""


class SpanColumns(NamedTuple):
    """Spans as three arrays of equal length."""

    starts: np.ndarray
    """`(spans,) int64`."""
    ends: np.ndarray
    """`(spans,) int64`."""
    scores: np.ndarray
    """`(spans,) float64`; nan where a score is undefined."""


class Spans(Sequence[Span]):
    """The spans of one signal, a part of arrays; equal to any sequence of the same spans."""

    __slots__ = ("_columns", "_place")

    def __init__(self, columns: SpanColumns, place: range | None = None) -> None:
        """Take the spans at `place`, a range without gaps, or all."""
        self._columns = columns
        self._place = range(len(columns.starts)) if place is None else place

    @classmethod
    def of(cls, spans: Sequence[Span]) -> Spans:
        """Return spans that are given as tuples."""
        import numpy as np

        # A score that is None becomes nan.
        columns = SpanColumns(
            np.array([start for start, _, _ in spans], np.int64),
            np.array([end for _, end, _ in spans], np.int64),
            np.array([score for _, _, score in spans], np.float64),
        )
        return cls(columns)

    def columns(self) -> SpanColumns:
        """Return starts, ends and scores."""
        part = slice(self._place.start, self._place.stop)
        starts, ends, scores = self._columns
        return SpanColumns(starts[part], ends[part], scores[part])

    def score(self, number: int) -> float | None:
        """Return the score of a span; None where it is undefined."""
        score = float(self._columns.scores[self._place[number]])
        return None if isnan(score) else score

    def __len__(self) -> int:
        return len(self._place)

    def __getitem__(self, number: int) -> Span:  # pyright: ignore[reportIncompatibleMethodOverride]
        starts, ends, _ = self._columns
        place = self._place[number]
        return int(starts[place]), int(ends[place]), self.score(number)

    def __iter__(self) -> Iterator[Span]:
        starts, ends, scores = (column.tolist() for column in self.columns())
        defined = [None if isnan(score) else score for score in scores]
        return zip(starts, ends, defined, strict=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and [*self] == [*other]

    def __repr__(self) -> str:
        return repr([*self])


class NamedSpans(Mapping[str, Spans]):
    """The spans of several signals by name."""

    def __init__(self, names: Iterable[str], sizes: Iterable[int], columns: SpanColumns) -> None:
        """Take the spans of all signals, one signal after the other, and how many each has."""
        self._columns = columns
        self._places: dict[str, range] = {}
        start = 0
        for name, size in zip(names, sizes, strict=True):
            self._places[name] = range(start, start + size)
            start += size

    def __getitem__(self, name: str) -> Spans:
        return Spans(self._columns, self._places[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
