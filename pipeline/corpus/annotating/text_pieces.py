"""Work on a text piece by piece, so that a huge document takes little more memory than its text.

An object for each word or line of a text takes ten times the memory of its letters, and an array of its
code points four times. A text of up to PIECE_CHARACTERS is one piece. Reads and writes no file.
"""

import re
from collections.abc import Iterator
from itertools import chain

import numpy as np

SPACE = re.compile(r"\s")
PIECE_CHARACTERS = 2**20
"""Characters after which a text is cut."""
_NEWLINE = ord("\n")


def is_one_piece(text: str) -> bool:
    """Tell whether a text is so short that it is not cut."""
    return len(text) <= PIECE_CHARACTERS


def pieces_at_spaces(text: str) -> Iterator[str]:
    """Yield a text in pieces of about PIECE_CHARACTERS that end before white space."""
    start = 0
    while start < len(text):
        space = SPACE.search(text, start + PIECE_CHARACTERS)
        end = space.start() if space else len(text)
        yield text[start:end]
        start = end


def spaced_words_of(text: str) -> Iterator[str]:
    """Yield what stands between white space."""
    return chain.from_iterable(piece.split() for piece in pieces_at_spaces(text))


def normalised_text(folded: str) -> str:
    """Return the words of a text with a blank between two."""
    pieces = (" ".join(piece.split()) for piece in pieces_at_spaces(folded))
    return " ".join(filter(None, pieces))


def lines_of(text: str) -> Iterator[str]:
    """Yield what `text.split("\\n")` returns."""
    return chain.from_iterable(piece.split("\n") for piece in _pieces_at_newlines(text))


def _pieces_at_newlines(text: str) -> Iterator[str]:
    """Yield a text in pieces of about PIECE_CHARACTERS, without the newline between two of them."""
    start = 0
    end = text.find("\n", PIECE_CHARACTERS)
    while end >= 0:
        yield text[start:end]
        start = end + 1
        end = text.find("\n", start + PIECE_CHARACTERS)
    yield text[start:]


def code_points(text: str) -> np.ndarray:
    """Return the code points of a text, `(characters,)`: uint8 where all are ASCII, else uint32."""
    if text.isascii():
        return np.frombuffer(text.encode(), np.uint8)
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


def newline_places(text: str) -> np.ndarray:
    """Return where the newlines of a text are, `(newlines,) int64`, in characters."""
    places = [
        np.flatnonzero(code_points(text[start : start + PIECE_CHARACTERS]) == _NEWLINE) + start
        for start in range(0, len(text), PIECE_CHARACTERS)
    ]
    return np.concatenate([np.zeros(0, np.int64), *places])


def counts_of_characters(text: str, is_counted: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return how many characters of a kind lie in each of several ranges that follow each other.

    `is_counted`: `(0x110000,) bool`, by code point. `ends`: `(ranges,) int64`, ascending, none beyond
    the text; the first range begins at 0. Returns `(ranges,) int64`.
    """
    before = np.zeros(len(ends), np.int64)
    total = 0
    first = 0
    for start in range(0, len(text), PIECE_CHARACTERS):
        piece = text[start : start + PIECE_CHARACTERS]
        marks = np.flatnonzero(is_counted[code_points(piece)])
        last = int(np.searchsorted(ends, start + len(piece), "right"))
        before[first:last] = total + np.searchsorted(marks, ends[first:last] - start)
        total += len(marks)
        first = last
    return np.diff(before, prepend=0)
