"""Words as they are compared between texts: in lower case, without punctuation.

Source: Brown et al. 2020 (arXiv:2005.14165), appendix C: a gram is a lowercase word without
punctuation, and white space separates words. lm-eval's `Janitor` (lm_eval/decontamination/janitor.py)
deletes the punctuation of ASCII. Here all punctuation of Unicode (categories P) is deleted too, so
that curly and straight quotation marks make no difference. Reads and writes no file.
"""

import re
import string
import unicodedata

import numpy as np

NON_SPACE = re.compile(r"\S+")


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
