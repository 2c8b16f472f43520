"""Words as they are compared between texts: in lower case, without punctuation.

Source: Brown et al. 2020 (arXiv:2005.14165), appendix C: a gram is a lowercase word without
punctuation, and white space separates words. lm-eval's `Janitor` (lm_eval/decontamination/janitor.py)
deletes the punctuation of ASCII. Here all punctuation of Unicode (categories P) counts, and:

- apostrophes of all kinds, marks of emphasis (`*`, `_`) and square brackets vanish: `Don't`, `[T]he`;
- so do characters without a width, such as soft hyphens (category Cf);
- so does a hyphen between two letters or digits, a full stop between digits or single letters, and a
  comma before three digits: `e-mail`, `3.14`, `U.S.`, `1,000`;
- every other mark separates words: `end.Next`, `either/or`, `word--word`;
- other letters than those of ASCII have the form NFKC: full-width letters, ligatures, accents.

Reads and writes no file.
"""

import re
import string
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

NON_SPACE = re.compile(r"\S+")
APOSTROPHES = "'`\u00b4\u02bc\u055a\u2018\u2019\u201b\u2032\uff07"
VANISHING = "*_[]"
HYPHENS = "-\u2010\u2011"
FULL_WIDTH = 0xFEE0
"""Distance between the number of a full-width character and that of ASCII."""
PORTION = 1 << 20
"""Characters of a text whose words are located at once."""

_DROP = ord("'")
"""Byte that stands for what vanishes; ASCII's own are removed before."""
_BLANK = ord(" ")
_HYPHEN = ord("-")
_FULL_STOP = ord(".")
_COMMA = ord(",")
_OTHER_LETTER = 0x80
"""Stands for letters that are not ASCII, as every byte of their UTF-8 does: they are not below it."""
_BEFORE = b"  "
_BEHIND = b"    "
_REMOVED = ("'`" + VANISHING).encode()
_SEPARATING = "".join(c for c in string.punctuation if c not in "'`" + VANISHING)
_ASCII_FORMS = range(0x21, 0x7F)
_ASCII_SPACE = "\t\n\v\f\r\x1c\x1d\x1e\x1f"
_FOLDED = bytes.maketrans(
    (string.ascii_uppercase + _ASCII_SPACE + _SEPARATING).encode(),
    string.ascii_lowercase.encode() + b" " * len(_ASCII_SPACE + _SEPARATING),
)
_CODES = range(256)
_IS_DIGIT = np.array([chr(code) in string.digits for code in _CODES])
_IS_LETTER = np.array([chr(code) in string.ascii_letters for code in _CODES])
_IS_WORD = _IS_DIGIT | _IS_LETTER | (np.arange(256) >= _OTHER_LETTER)
_SEPARATES = np.frombuffer(bytes(_CODES).translate(_FOLDED), np.uint8) == _BLANK
_VANISHES = np.isin(np.arange(256), [*_REMOVED])
_DASH = re.compile(rf"(?<=\w)\s*(?:[{HYPHENS}]+|[\u2013\u2014])\s*(?=\w)")
_HYPHEN_IN_WORD = re.compile(rf"(?<=\w)[{HYPHENS}](?=\w)")
_MARK_IN_WORD = re.compile(rf"(?<=\w)[{HYPHENS}{APOSTROPHES}.,](?=\w)")
_MARKS_IN_WORD = re.compile(r"(?<=\w)[^\w\s]+(?=\w)")


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation."""
    folded = folded_bytes(text.encode()).decode().split()
    if text.isascii():
        return folded
    words = [word if word.isascii() else folded_word(word) for word in folded]
    return [word for word in words if word]


def spellings_of(text: str) -> list[list[str]]:
    """Return the words of a text as a copy may spell them, each spelling once, `words_of` first.

    The others: words with hyphens as two words; marks between letters as blanks (`don t`, `U S`);
    all punctuation deleted (`andor`); words joined at a dash.
    """
    text = unicodedata.normalize("NFC", text)
    spelled = [
        text,
        _HYPHEN_IN_WORD.sub(" ", text),
        _MARK_IN_WORD.sub(" ", text),
        _MARKS_IN_WORD.sub("", text),
        _DASH.sub("-", text),
    ]
    spellings: list[list[str]] = []
    for each in dict.fromkeys(spelled):
        words = words_of(each)
        if words not in spellings:
            spellings.append(words)
    return spellings


def folded_word(word: str) -> str:
    """Return a word that `folded_bytes` has left, in NFKC and lower case; "" if nothing is left of it."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", word).lower())
    if folded == word:
        return word
    # What vanishes may have stood between a letter and its accent.
    return folded_word("".join(folded.translate(_without_punctuation()).split()))


def folded_bytes(text: bytes | memoryview) -> bytearray:
    """Return UTF-8 with its letters of ASCII in lower case, and words separated by blanks alone.

    Only words with other characters are still to be folded, by `folded_word`.
    """
    content = bytes(text)
    if not content.isascii():
        content = _with_ascii_marks(content)
    folded = bytearray(_BEFORE + content.translate(None, _REMOVED) + _BEHIND)
    characters = np.frombuffer(folded, np.uint8)
    characters[_inside_words(characters)] = _DROP
    return folded.translate(_FOLDED, _REMOVED)


def _inside_words(characters: np.ndarray) -> np.ndarray:
    """Return the places of hyphens, full stops and commas that are part of a word, `(n,) int64`.

    `characters`: `(length,) uint8`, of ASCII, those of other letters not below `_OTHER_LETTER`; the
    blanks of `_BEFORE` and `_BEHIND` are around them, so that every place has neighbours.
    """
    # Comma, hyphen and full stop have neighbouring codes; most of them stand before a blank.
    places = np.flatnonzero((characters - np.uint8(_COMMA)) <= _FULL_STOP - _COMMA)
    places = places[_IS_WORD[characters[places + 1]]]
    places = places[_IS_WORD[characters[places - 1]]]
    mark = characters[places]
    before = characters[places - 1]
    behind = characters[places + 1]
    is_between_digits = _IS_DIGIT[before] & _IS_DIGIT[behind]

    letters = places[(mark == _FULL_STOP) & _IS_LETTER[before] & _IS_LETTER[behind]]
    is_single = ~_IS_WORD[characters[letters - 2]] & ~_IS_WORD[characters[letters + 2]]
    commas = places[(mark == _COMMA) & is_between_digits]
    is_digit = _IS_DIGIT[characters[commas + 2]] & _IS_DIGIT[characters[commas + 3]]
    commas = commas[is_digit & ~_IS_DIGIT[characters[commas + 4]]]
    others = places[(mark == _HYPHEN) | ((mark == _FULL_STOP) & is_between_digits)]
    return np.concatenate([others, letters[is_single], commas])


def _with_ascii_marks(text: bytes) -> bytes:
    """Return UTF-8 with ASCII in place of other punctuation, white space and full-width characters."""
    characters = np.frombuffer(bytearray(text), np.uint8)
    table = _marks()
    leads = np.flatnonzero(characters >= 0xC0)
    lead = characters[leads]
    for size, low, high in ((2, 0xC0, 0xE0), (3, 0xE0, 0xF0), (4, 0xF0, 0x100)):
        places = leads[(lead >= low) & (lead < high)]
        # The lead byte has 7 - size bits of the character's number, each byte behind it six.
        code = characters[places].astype(np.int64) & (0x7F >> size)
        for offset in range(1, size):
            code = (code << 6) | (characters[places + offset] & 0x3F)
        mark = table[code]
        replaced = places[mark > 0]
        for offset in range(1, size):
            characters[replaced + offset] = _DROP
        characters[replaced] = mark[mark > 0]
    return characters.tobytes()


@lru_cache(maxsize=1)
def _marks() -> np.ndarray:
    """Return for each character that is not ASCII which byte of ASCII stands for it, 0 if none."""
    marks = np.zeros(0x110000, np.uint8)
    # All that are punctuation, white space or without a width.
    for code in (*range(0x80, 0xD800), *range(0xE000, 0x20000), *range(0xE0000, 0xE0200)):
        character = chr(code)
        if character in APOSTROPHES or unicodedata.category(character) == "Cf":
            marks[code] = _DROP
        elif character in HYPHENS:
            marks[code] = _HYPHEN
        elif code - FULL_WIDTH in _ASCII_FORMS:
            marks[code] = code - FULL_WIDTH
        elif character.isspace() or unicodedata.category(character).startswith("P"):
            marks[code] = _BLANK
    return marks


class _WithoutPunctuation(dict[int, int | None]):
    """Table for `str.translate` that deletes punctuation; filled as characters occur."""

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        is_deleted = character in string.punctuation or character in APOSTROPHES
        if not is_deleted:
            category = unicodedata.category(character)
            is_deleted = category == "Cf" or category.startswith("P")
        self[code] = None
        if not is_deleted:
            self[code] = code
        return self[code]


@lru_cache(maxsize=1)
def _without_punctuation() -> _WithoutPunctuation:
    return _WithoutPunctuation()


def word_places(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the first character of each word that `words_of` returns, and the one after its last.

    Two `(words,) int64`. The first word of what white space separates begins with the punctuation
    before it, the last one ends with that behind it. Takes 50 bytes for each character.
    """
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    characters = np.where(codes < 0x80, codes, _OTHER_LETTER).astype(np.uint8)
    if not text.isascii():
        mark = _marks()[codes]
        characters = np.where(mark > 0, mark, characters)
    places = np.flatnonzero(~_VANISHES[characters])
    characters = characters[places]
    is_left = np.ones(len(places), bool)
    around = [np.frombuffer(_BEFORE, np.uint8), characters, np.frombuffer(_BEHIND, np.uint8)]
    is_left[_inside_words(np.concatenate(around)) - len(_BEFORE)] = False
    places = places[is_left]
    is_letter = ~_SEPARATES[characters[is_left]]

    # Runs of letters among the characters that are kept.
    edges = np.diff(np.concatenate([[0], is_letter.astype(np.int8), [0]]))
    first = places[np.flatnonzero(edges == 1)]
    last = places[np.flatnonzero(edges == -1) - 1]
    if not text.isascii():
        is_word = np.array(
            [_is_word(text[a : b + 1]) for a, b in zip(first, last, strict=True)], bool
        )
        first = first[is_word]
        last = last[is_word]
    return _with_their_marks(text, first, last + 1)


def _is_word(run: str) -> bool:
    """Tell whether anything is left of a run of letters once it is folded."""
    return run.isascii() or bool(words_of(run))


def _with_their_marks(
    text: str, first: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Widen the places of words to what white space separates, where no other word is between."""
    tokens = np.array([match.span() for match in NON_SPACE.finditer(text)], np.int64).reshape(-1, 2)
    token = np.searchsorted(tokens[:, 0], first, side="right") - 1
    is_first = np.ones(len(first), bool)
    is_first[1:] = token[1:] != token[:-1]
    is_last = np.ones(len(first), bool)
    is_last[:-1] = token[1:] != token[:-1]
    starts = np.where(is_first, tokens[token, 0], first)
    ends = np.where(is_last, tokens[token, 1], end)
    return starts, ends


def portions_of(text: str) -> Iterator[tuple[int, str]]:
    """Yield parts of a text that end before a blank, each with the number of its first character."""
    start = 0
    while start < len(text):
        end = text.find(" ", start + PORTION)
        if end < 0:
            end = len(text)
        yield start, text[start:end]
        start = end


def byte_ranges(text: str, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where words begin and end in the UTF-8 of a text, unfolded: two `(n,) int64`.

    `first`, `last`: `(n,) int64`, numbers of words among those that `words_of` returns; the ranges
    begin with the words `first` and end after the words `last`.
    """
    starts = np.zeros(len(first), np.int64)
    ends = np.zeros(len(first), np.int64)
    words = 0
    size = 0
    for _, portion in portions_of(text):
        begin, end = word_places(portion)
        # From characters to bytes: every byte but those that continue one begins a character.
        content = np.frombuffer(portion.encode(), np.uint8)
        before = np.append(np.flatnonzero((content & 0xC0) != 0x80), len(content))
        here = (first >= words) & (first < words + len(begin))
        starts[here] = size + before[begin[first[here] - words]]
        here = (last >= words) & (last < words + len(begin))
        ends[here] = size + before[end[last[here] - words]]
        words += len(begin)
        size += len(content)
        if words > last.max(initial=-1):
            break
    return starts, ends
