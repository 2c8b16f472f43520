"""Spans with scores as arrays: a document has hundreds, one for each line and signal.

Reads no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np

Span: TypeAlias = tuple[int, int, float | None]
"""A part of a document's text with its score: first character, the character after the last one, and
the score; None where the signal is undefined for this text. Characters are Unicode code points, from
0, and none is beyond the text."""


class Spans(Sequence[Span]):
    """The spans of one signal, as three arrays; equal to any sequence of the same spans."""

    __slots__ = ("ends", "scores", "starts")
    __hash__ = None

    def __init__(self, starts: np.ndarray, ends: np.ndarray, scores: np.ndarray) -> None:
        """Take two `(n,) int64` and a `(n,) float64`, in which nan is an undefined score."""
        self.starts = starts
        self.ends = ends
        self.scores = scores

    @classmethod
    def of(cls, spans: Sequence[Span]) -> Spans:
        """Return spans that are given as tuples."""
        starts = np.array([start for start, _, _ in spans], np.int64)
        ends = np.array([end for _, end, _ in spans], np.int64)
        # None becomes nan.
        scores = np.array([score for _, _, score in spans], np.float64)
        return cls(starts, ends, scores)

    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return starts, ends and scores."""
        return self.starts, self.ends, self.scores

    def score(self, place: int) -> float | None:
        """Return the score of a span; None where it is undefined."""
        score = float(self.scores[place])
        return None if np.isnan(score) else score

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, place: int) -> Span:  # pyright: ignore[reportIncompatibleMethodOverride]
        return int(self.starts[place]), int(self.ends[place]), self.score(place)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and [*self] == [*other]

    def __repr__(self) -> str:
        return repr([*self])


class NamedSpans(Mapping[str, Spans]):
    """The spans of several signals by name, cut from common arrays when they are asked for."""

    def __init__(self, names: Iterable[str], sizes: Iterable[int], spans: Spans) -> None:
        """Take the spans of all signals, one signal after the other, and how many each has."""
        self._spans = spans
        self._places: dict[str, slice] = {}
        start = 0
        for name, size in zip(names, sizes, strict=True):
            self._places[name] = slice(start, start + size)
            start += size

    def __getitem__(self, name: str) -> Spans:
        place = self._places[name]
        return Spans(*(column[place] for column in self._spans.columns()))

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
