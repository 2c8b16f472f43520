"""Runs of words that occur more than once in a document, found once for all lengths.

A run of n words that repeats consists of two repeating runs of n - 1 words, one word apart. So each
length looks only at the places that the length before has left. Everything is exact: words are
numbers, and a run is a pair of numbers of shorter runs. Reads and writes no file.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np


@dataclass(frozen=True)
class RepeatedNgrams:
    """The n-grams of one length that occur more than once."""

    size: int
    """Words in an n-gram."""
    places: np.ndarray
    """Number of the first word of each occurrence, `(n,) int64`, ascending."""
    numbers: np.ndarray
    """Number of the n-gram that occurs there, `(n,) int64`, equal for equal n-grams."""
    top_place: int
    """Place of the first occurrence of the most frequent n-gram; of several the one that comes first."""
    top_count: int
    """How often the most frequent n-gram occurs; 0 where none occurs twice."""

    @classmethod
    def of_words(cls, words: np.ndarray) -> Self:
        """Return the repeated words. `words`: `(words,) int64`, numbers from 0 on without a gap."""
        if not len(words):
            return cls(1, words, words, 0, 0)
        # Numbers without a gap are counted without sorting.
        counts = np.bincount(words)
        most = int(counts.max())
        if most == 1:
            return cls(1, words[:0], words[:0], 0, 0)
        counts_here = counts[words]
        top_place = int((counts_here == most).argmax())
        places = np.flatnonzero(counts_here > 1)
        return cls(1, places, words[places], top_place, most)

    @cached_property
    def longer(self) -> "RepeatedNgrams":
        """The repeated n-grams of one word more."""
        follows = self.places[1:] - self.places[:-1] == 1
        first = self.numbers[:-1][follows]
        second = self.numbers[1:][follows]
        pairs = first * (self.numbers.max(initial=0) + 1) + second
        return self._grouped(self.size + 1, self.places[:-1][follows], pairs)

    @classmethod
    def _grouped(cls, size: int, places: np.ndarray, keys: np.ndarray) -> Self:
        """Keep the places whose key occurs more than once, and number the keys."""
        if not len(keys):
            return cls(size, places, keys, 0, 0)
        # A stable sort keeps the places of equal keys ascending.
        order = np.argsort(keys, kind="stable")
        in_order = keys[order]
        is_first = np.ones(len(keys), bool)
        np.not_equal(in_order[1:], in_order[:-1], out=is_first[1:])
        starts = np.flatnonzero(is_first)
        counts = np.empty_like(starts)
        np.subtract(starts[1:], starts[:-1], out=counts[:-1])
        counts[-1] = len(keys) - starts[-1]
        repeats = counts > 1
        if not repeats.any():
            return cls(size, places[:0], keys[:0], 0, 0)

        # The most frequent key that occurs first.
        most = counts.max()
        top_place = int(places[order[starts[counts == most]]].min())

        # Back to the order of the places.
        numbers = np.empty(len(keys), np.int64)
        numbers[order] = np.cumsum(is_first) - 1
        kept = repeats[numbers]
        return cls(size, places[kept], numbers[kept], top_place, int(most))


def of_size(repeated: RepeatedNgrams, size: int) -> RepeatedNgrams:
    """Return the repeated n-grams of a length, from those of a shorter one."""
    while repeated.size < size:
        repeated = repeated.longer
    return repeated
