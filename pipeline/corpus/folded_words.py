"""Words as they are compared between texts: in lower case, without punctuation.

Source: Brown et al. 2020 (arXiv:2005.14165), appendix C: a gram is a lowercase word without
punctuation, and white space separates words. lm-eval's `Janitor` (lm_eval/decontamination/janitor.py)
deletes the punctuation of ASCII. Here all punctuation of Unicode (categories P) is deleted too, so
that curly and straight quotation marks make no difference. Reads and writes no file.
"""

import re
import string
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

import numpy as np

from pipeline.corpus.annotating.number_blocks import looked_up, places_of

NON_SPACE = re.compile(r"\S+")
PORTION_BYTES = 1 << 20
"""Bytes of a document that are divided into words at once: a word as a Python object takes ten times
the memory of its letters."""
UNKNOWN = -1
"""Number of a word that no text has, and of the end of a document."""
EMPTY = -2
"""Number of what is punctuation alone, before it is left out."""


class _WithoutPunctuation(dict[int, int | None]):
    """Table for `str.translate` that deletes punctuation; filled as characters occur."""

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        is_punctuation = character in string.punctuation
        if not is_punctuation:
            is_punctuation = unicodedata.category(character).startswith("P")
        self[code] = None
        if not is_punctuation:
            self[code] = code
        return self[code]


_WITHOUT_PUNCTUATION = _WithoutPunctuation()
_ASCII_PUNCTUATION = string.punctuation.encode()
_ASCII_SPACE = b"\t\n\v\f\r\x1c\x1d\x1e\x1f"
_ASCII_FOLDED = bytes.maketrans(
    string.ascii_uppercase.encode() + _ASCII_SPACE,
    string.ascii_lowercase.encode() + b" " * len(_ASCII_SPACE),
)


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation."""
    return folded_word(text).split()


def folded_word(word: str) -> str:
    """Return a word in lower case, without punctuation; "" for punctuation alone."""
    return word.translate(_WITHOUT_PUNCTUATION).lower()


def ascii_folded(text: bytes | memoryview) -> bytes:
    """Return UTF-8 with its letters of ASCII in lower case, without the punctuation of ASCII.

    White space of ASCII becomes blanks. Only words with other characters are still to be folded:
    bytes are translated at ten times the speed of characters.
    """
    return bytes(text).translate(_ASCII_FOLDED, _ASCII_PUNCTUATION)


def byte_ranges(text: str, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where words begin and end in the UTF-8 of a text, unfolded: two `(n,) int64`.

    `first`, `last`: `(n,) int64`, numbers of words among those that `words_of` returns; the ranges
    begin with the words `first` and end after the words `last`.
    """
    # Walk over the words once, up to the last one that is asked for.
    wanted = np.unique(np.concatenate([first, last]))
    starts = np.zeros(len(wanted), np.int64)
    ends = np.zeros(len(wanted), np.int64)
    found = 0
    number = 0
    characters = 0
    size = 0
    for match in NON_SPACE.finditer(text):
        if not folded_word(match[0]):
            continue
        if number == wanted[found]:
            size += len(text[characters : match.start()].encode())
            characters = match.start()
            starts[found] = size
            ends[found] = size + len(match[0].encode())
            found += 1
            if found == len(wanted):
                break
        number += 1
    return starts[np.searchsorted(wanted, first)], ends[np.searchsorted(wanted, last)]


class NormalisedWords(NamedTuple):
    """The words of a document as `annotating/document_text.py` makes them, by number.

    They are in lower case and NFD, without the punctuation of ASCII, divided at white space. So each
    stands in the place of one word here, and is that word where both are letters and digits of ASCII.
    """

    different: Sequence[str]
    """The different words."""
    ids: np.ndarray
    """`(words,) int32`: index in `different` of each word of the document."""


class WordNumbers:
    """Numbers of some words, from 0, by which documents are compared with them."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, word: str) -> int:
        """Return the number of a folded word, a new one if it has none."""
        return self._numbers.setdefault(word, len(self._numbers))

    def of_document(self, document: bytes | memoryview) -> Iterator[np.ndarray]:
        """Yield the numbers of a document's words, `(words,) int32`, portion by portion."""
        for portion in _portions(document):
            words = portion.split()
            if portion.isascii():
                yield self._as_they_are(words)
            else:
                numbers = self._of_words(words)
                yield numbers[numbers != EMPTY]

    def of_normalised(self, document: bytes, normalised: NormalisedWords) -> np.ndarray:
        """Return what `of_document` yields, `(words,) int32`."""
        different, ids = normalised
        numbers = looked_up(self._as_they_are(different), ids)
        if document.isascii():
            return numbers

        # Of other words the document itself decides.
        is_other = [not (word.isascii() and word.isalnum()) for word in different]
        places = places_of(looked_up(np.array(is_other, bool), ids))
        first = 0
        for portion in _portions(document):
            words = portion.split()
            low, high = np.searchsorted(places, [first, first + len(words)])
            here = places[low:high]
            numbers[here] = self._of_words([words[place] for place in (here - first).tolist()])
            first += len(words)
        return numbers[numbers != EMPTY]

    def _as_they_are(self, words: Sequence[str]) -> np.ndarray:
        """Return the numbers of words that are folded already, `(words,) int32`."""
        return np.fromiter(map(self._numbers.get, words, repeat(UNKNOWN)), np.int32, len(words))

    def _of_words(self, words: Sequence[str]) -> np.ndarray:
        """Return the numbers of words of a text that `ascii_folded` returned, `(words,) int32`.

        Punctuation alone is EMPTY.
        """
        numbers = self._as_they_are(words)
        # A word with other letters may be one of ours once it is folded, or punctuation alone.
        for place in np.flatnonzero(numbers == UNKNOWN).tolist():
            word = words[place]
            if not word.isascii():
                folded = folded_word(word)
                numbers[place] = EMPTY
                if folded:
                    numbers[place] = self._numbers.get(folded, UNKNOWN)
        return numbers


def _portions(document: bytes | memoryview) -> Iterator[str]:
    """Yield a document as `ascii_folded` returns it, in portions that end before a blank."""
    folded = ascii_folded(document)
    first = 0
    while first < len(folded):
        end = folded.find(b" ", first + PORTION_BYTES)
        if end < 0:
            end = len(folded)
        yield folded[first:end].decode()
        first = end
