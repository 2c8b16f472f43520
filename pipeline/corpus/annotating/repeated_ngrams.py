"""Runs of words that occur more than once in a document, found once for all lengths.

A run of n words that repeats consists of two repeating runs of n - 1 words, one word apart. So each
length looks only at the places that the length before has left. Everything is exact: words are
numbers, and a run is a pair of numbers of shorter runs. Reads and writes no file.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from pipeline.corpus.annotating.number_blocks import counts_of, looked_up, places_of

PORTION_PLACES = 2**19
"""Places that are sorted at once: of a longer text one range of runs after the other, so that sorting
takes little memory beside the places."""
KEY_BITS = 63


@dataclass(frozen=True)
class RepeatedNgrams:
    """The n-grams of one length that occur more than once."""

    size: int
    """Words in an n-gram."""
    places: np.ndarray
    """Number of the first word of each occurrence, `(n,) int32`, ascending."""
    numbers: np.ndarray
    """Number of the n-gram that occurs there, `(n,) int32`, equal for equal n-grams."""
    top_place: int
    """Place of the first occurrence of the most frequent n-gram; of several the one that comes first."""
    top_count: int
    """How often the most frequent n-gram occurs; 0 where none occurs twice."""

    @classmethod
    def of_words(cls, words: np.ndarray, counts: np.ndarray) -> Self:
        """Return the repeated words.

        `words`: `(words,) int32`, numbers from 0 on. `counts`: `(different words,)`, how often each
        occurs.
        """
        most = int(counts.max(initial=0))
        if most <= 1:
            return cls(1, words[:0], words[:0], 0, 0)
        top_place = int(looked_up(counts == most, words).argmax())
        is_repeated = looked_up(counts > 1, words)
        return cls(1, places_of(is_repeated), words[is_repeated], top_place, most)

    def longer(self) -> "RepeatedNgrams":
        """Return the repeated n-grams of one word more."""
        follows = self.places[1:] - self.places[:-1] == 1
        first = self.numbers[:-1][follows]
        second = self.numbers[1:][follows]
        places = self.places[:-1][follows]
        del follows

        # Number the pairs that occur more than once; -1 stands for the others.
        numbers = np.full(len(places), -1, np.int32)
        different = 0
        top_place = 0
        top_count = 0
        for portion in _portions(first, second):
            if isinstance(portion, np.ndarray) and len(portion) > PORTION_PLACES:
                # One pair alone, which need not be sorted.
                repeated = np.array([len(portion)])
                starts = portion[:1]
                kept = portion
            else:
                repeated, starts, kept = _grouped(first[portion], second[portion])
                if isinstance(portion, np.ndarray):
                    starts = portion[starts]
                    kept = portion[kept]
            if not len(repeated):
                continue
            # Of the most frequent pairs the one that comes first.
            most = int(repeated.max())
            place = int(places[starts[repeated == most].min()])
            if most > top_count or (most == top_count and place < top_place):
                top_place = place
                top_count = most
            named = np.arange(different, different + len(repeated), dtype=np.int32)
            numbers[kept] = np.repeat(named, repeated)
            different += len(repeated)
        is_kept = numbers >= 0
        return RepeatedNgrams(
            self.size + 1, places[is_kept], numbers[is_kept], top_place, top_count
        )


def _portions(numbers: np.ndarray, *less: np.ndarray) -> Iterator[np.ndarray | slice]:
    """Yield the places of ranges of numbers, of PORTION_PLACES at most, or of one number.

    `numbers`: `(n,) int32` from 0 on. `less`: further numbers `(n,)` that divide one of too many places.
    """
    if len(numbers) <= PORTION_PLACES:
        if len(numbers):
            yield slice(None)
        return
    until = np.cumsum(counts_of(numbers, int(numbers.max()) + 1))
    low = 0
    before = 0
    while before < len(numbers):
        high = max(low + 1, int(np.searchsorted(until, before + PORTION_PLACES, "right")))
        portion = places_of((numbers >= low) & (numbers < high))
        if less and len(portion) > PORTION_PLACES:
            for part in _portions(looked_up(less[0], portion), *less[1:]):
                yield looked_up(portion, part) if isinstance(part, np.ndarray) else portion
        elif len(portion):
            yield portion
        low = high
        before = int(until[high - 1])


def _grouped(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how often each pair occurs that occurs more than once, where first, and all places of them.

    Pairs are in the order of their numbers; the places of each, ascending, follow those of the pair
    before. `first`, `second`: `(n,) int32` with n > 0. Returns `(pairs,)`, `(pairs,)` and `(places,)`,
    all int64.
    """
    count = len(first)
    base = int(second.max()) + 1
    keys = first.astype(np.int64)
    keys *= base
    keys += second
    place_bits = count.bit_length()
    if int(keys.max()).bit_length() + place_bits <= KEY_BITS:
        # A key with its place is sorted six times as fast as places are sorted by their keys.
        keys <<= place_bits
        keys |= np.arange(count)
        keys.sort()
        order = keys & ((1 << place_bits) - 1)
        keys >>= place_bits
    else:
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
    is_first = np.ones(count + 1, bool)
    np.not_equal(keys[1:], keys[:-1], out=is_first[1:-1])
    starts = np.flatnonzero(is_first)
    counts = np.diff(starts)
    is_repeated = counts > 1
    kept = order[np.repeat(is_repeated, counts)]
    return counts[is_repeated], order[starts[:-1][is_repeated]], kept
