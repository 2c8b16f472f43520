"""One document with everything that several parts need of it, each made once.

Reads and writes no file.
"""

import string
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import count, islice

import numpy as np
import xxhash

from pipeline.corpus.annotating.number_blocks import counts_of, looked_up
from pipeline.corpus.annotating.raw_words import RawWordCounts, count_raw_words
from pipeline.corpus.annotating.repeated_ngrams import RepeatedNgrams
from pipeline.corpus.annotating.text_pieces import (
    is_one_piece,
    lines_of,
    newline_places,
    pieces_at_spaces,
    spaced_words_of,
)
from pipeline.corpus.trees.published_record import PublishedRecord

_PUNCTUATION = string.punctuation.encode()


def folded(text: str) -> str:
    """Return a text in lower case and NFD, without the punctuation of ASCII; white space stays.

    Source: RedPajama-Data, app/src/utilities/text/normalization.py. Its lines, split into words at
    white space, are the published normalised lines.
    """
    if is_one_piece(text):
        return _folded_piece(text)
    # No rule of lower case or NFD looks across white space.
    return "".join(map(_folded_piece, pieces_at_spaces(text)))


def _folded_piece(text: str) -> str:
    # UTF-8 has the bytes of ASCII for nothing else; bytes are translated faster than characters.
    lower = text.encode().translate(None, _PUNCTUATION).decode().lower()
    if lower.isascii():
        return lower
    return unicodedata.normalize("NFD", lower)


def normalised_words(text: str) -> list[str]:
    """Return the normalised words of a text, on which shingles and most signals are defined."""
    return folded(text).split()


class DocumentText:
    """A text, its lines and its words, computed when first asked for.

    No list of its lines or words is kept of a text that is more than one piece (`text_pieces.py`).
    """

    def __init__(
        self, text: str, identity: str = "", published: PublishedRecord | None = None
    ) -> None:
        """Take a text, the id of its document, and what its corpus has published about it."""
        self.text = text
        self.identity = identity
        self.published = published
        self._repeated: RepeatedNgrams | None = None

    def __len__(self) -> int:
        return len(self.text)

    @cached_property
    def line_ends(self) -> np.ndarray:
        """Places after each line with its newline, `(lines,) int64`, in characters.

        A line ends after a newline or with the text; an empty text has none.
        """
        ends = newline_places(self.text) + 1
        if self.text and not self.text.endswith("\n"):
            ends = np.append(ends, len(self.text))
        return ends

    @cached_property
    def line_starts(self) -> np.ndarray:
        """Places where lines begin, `(lines,) int64`, in characters."""
        starts = np.zeros_like(self.line_ends)
        starts[1:] = self.line_ends[:-1]
        return starts

    @property
    def line_count(self) -> int:
        """Number of lines."""
        return len(self.line_ends)

    @property
    def lines(self) -> Iterable[str]:
        """The lines without their newlines."""
        if is_one_piece(self.text):
            return self._lines
        return islice(lines_of(self.text), self.line_count)

    @cached_property
    def _lines(self) -> list[str]:
        return self.text.split("\n")[: self.line_count]

    @property
    def folded_lines(self) -> Iterable[str]:
        """The lines of `folded`, as many as the text has."""
        if is_one_piece(self.text):
            return self._folded_lines
        return islice(lines_of(self.folded), self.line_count)

    @cached_property
    def _folded_lines(self) -> list[str]:
        return self.folded.split("\n")[: self.line_count]

    @cached_property
    def raw_words(self) -> RawWordCounts:
        """How many RAW_WORDS the text has, and of which kinds."""
        return count_raw_words(self.text)

    @property
    def spaced_words(self) -> Iterable[str]:
        """What stands between white space of the text as it is."""
        if is_one_piece(self.text):
            return self._spaced_words
        return spaced_words_of(self.text)

    @cached_property
    def _spaced_words(self) -> list[str]:
        return self.text.split()

    @cached_property
    def spaced_word_count(self) -> int:
        """Number of `spaced_words`."""
        return sum(1 for _ in self.spaced_words)

    @cached_property
    def folded(self) -> str:
        """The text as `folded` returns it."""
        return folded(self.text)

    def words(self) -> Iterator[str]:
        """Yield the normalised words, which are not kept: of a large text they take much memory."""
        return spaced_words_of(self.folded)

    @cached_property
    def line_words(self) -> np.ndarray:
        """Number of normalised words of each line, `(lines,) int64`."""
        return np.fromiter(map(_count_words, self.folded_lines), np.int64, self.line_count)

    @cached_property
    def _numbered_words(self) -> tuple[dict[str, int], np.ndarray]:
        """`word_numbers` and `word_ids`, made piece by piece."""
        numbers: defaultdict[str, int] = defaultdict(count().__next__)
        ids = [np.zeros(0, np.int32)]
        for piece in pieces_at_spaces(self.folded):
            words = piece.split()
            ids.append(np.fromiter(map(numbers.__getitem__, words), np.int32, len(words)))
        # From here on a word that does not occur is an error.
        numbers.default_factory = None
        return numbers, np.concatenate(ids)

    @property
    def word_numbers(self) -> dict[str, int]:
        """Each different normalised word -> its number, in the order of first occurrence."""
        return self._numbered_words[0]

    @property
    def word_ids(self) -> np.ndarray:
        """Number of each normalised word in `word_numbers`, `(words,) int32`."""
        return self._numbered_words[1]

    @cached_property
    def word_counts(self) -> np.ndarray:
        """How often each word of `word_numbers` occurs, `(different words,) int64`."""
        return counts_of(self.word_ids, len(self.word_numbers))

    @property
    def word_total(self) -> int:
        """Number of normalised words."""
        return len(self.word_ids)

    @cached_property
    def word_lengths(self) -> np.ndarray:
        """Characters of each normalised word, `(words,) int32`."""
        lengths = np.fromiter(map(len, self.word_numbers), np.int32, len(self.word_numbers))
        return looked_up(lengths, self.word_ids)

    def repeated_words(self, size: int) -> RepeatedNgrams:
        """Return the n-grams of `size` normalised words that occur more than once.

        Longer ones follow from shorter ones, so ask for sizes in ascending order.
        """
        repeated = self._repeated
        if repeated is None or repeated.size > size:
            repeated = RepeatedNgrams.of_words(self.word_ids, self.word_counts)
        while repeated.size < size:
            self._repeated = None
            repeated = repeated.longer()
        self._repeated = repeated
        return repeated


def _count_words(line: str) -> int:
    if is_one_piece(line):
        return len(line.split())
    return sum(len(piece.split()) for piece in pieces_at_spaces(line))


def hash_of_words(line: str) -> int:
    """Return the hash of a folded line's words, joined by blanks, of a long one piece by piece."""
    if is_one_piece(line):
        return xxhash.xxh3_64_intdigest(" ".join(line.split()).encode())
    digest = xxhash.xxh3_64()
    blank = ""
    for piece in pieces_at_spaces(line):
        words = piece.split()
        if words:
            digest.update((blank + " ".join(words)).encode())
            blank = " "
    return digest.intdigest()
