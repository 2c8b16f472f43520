"""One document with everything that several parts need of it, each made once.

Reads and writes no file.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from itertools import islice

import numpy as np
import xxhash

from pipeline.corpus.annotating.repeated_ngrams import RepeatedNgrams
from pipeline.corpus.trees.published_record import PublishedRecord

RAW_WORDS = re.compile(r"\w+|[^\w\s]+")
"""Words, and runs of other characters, of a text as it is.

Source: NLTK's `WordPunctTokenizer`, which RedPajama-v2 uses; here `re` says what a word character is."""
SPACE = re.compile(r"\s")
PIECE_CHARACTERS = 2**20
"""Characters after which a text is cut for work that makes an object of each word."""
_IN_WORDS = f"{string.ascii_letters}{string.digits}_".encode()
_NOT_IN_WORDS = bytes(byte for byte in range(128) if not re.match(r"[\w\s]", chr(byte)))
_PUNCTUATION = string.punctuation.encode()
_NEWLINE = ord("\n")


def folded(text: str) -> str:
    """Return a text in lower case and NFD, without the punctuation of ASCII; white space stays.

    Source: RedPajama-Data, app/src/utilities/text/normalization.py. Its lines, split into words at
    white space, are the published normalised lines.
    """
    # UTF-8 has the bytes of ASCII for nothing else; bytes are translated faster than characters.
    lower = text.encode().translate(None, _PUNCTUATION).decode().lower()
    if lower.isascii():
        return lower
    return unicodedata.normalize("NFD", lower)


def normalised_words(text: str) -> list[str]:
    """Return the normalised words of a text, on which shingles and most signals are defined."""
    return folded(text).split()


def _count_raw_words(text: str, counts: Counter[str]) -> None:
    """Add the RAW_WORDS of a text to `counts`.

    In ASCII, all words and all runs of punctuation are what is left between blanks when the bytes of
    the other kind are blanks: twice as fast as the expression, which is asked where there are other
    characters.
    """
    if not text.isascii():
        # A match never crosses white space.
        between_spaces = text.split()
        others = [piece for piece in between_spaces if not piece.isascii()]
        counts.update(RAW_WORDS.findall(" ".join(others)))
        text = " ".join(filter(str.isascii, between_spaces))
    content = text.encode()
    for other_kind in (_NOT_IN_WORDS, _IN_WORDS):
        blanks = b" " * len(other_kind)
        kept = content.translate(bytes.maketrans(other_kind, blanks))
        counts.update(kept.decode().split())


class DocumentText:
    """A text, its lines and its words, computed when first asked for."""

    def __init__(
        self, text: str, identity: str = "", published: PublishedRecord | None = None
    ) -> None:
        """Take a text, the id of its document, and what its corpus has published about it."""
        self.text = text
        self.identity = identity
        self.published = published

    def __len__(self) -> int:
        return len(self.text)

    @cached_property
    def characters(self) -> np.ndarray:
        """Code points of the text, `(characters,)`: uint8 where all are ASCII, else uint32."""
        return code_points(self.text)

    @cached_property
    def line_ends(self) -> np.ndarray:
        """Places after each line with its newline, `(lines,) int64`, in characters.

        A line ends after a newline or with the text; an empty text has none.
        """
        ends = np.flatnonzero(self.characters == _NEWLINE) + 1
        if self.text and not self.text.endswith("\n"):
            ends = np.append(ends, len(self.text))
        return ends.astype(np.int64, copy=False)

    @cached_property
    def line_starts(self) -> np.ndarray:
        """Places where lines begin, `(lines,) int64`, in characters."""
        starts = np.zeros_like(self.line_ends)
        starts[1:] = self.line_ends[:-1]
        return starts

    @cached_property
    def lines(self) -> list[str]:
        """The lines without their newlines."""
        return self.text.split("\n")[: len(self.line_ends)]

    @cached_property
    def raw_words(self) -> Counter[str]:
        """The RAW_WORDS of the text -> how often each occurs, in no order."""
        counts: Counter[str] = Counter()
        for piece in pieces_at_spaces(self.text):
            _count_raw_words(piece, counts)
        return counts

    @cached_property
    def raw_word_count(self) -> int:
        """Number of RAW_WORDS."""
        return self.raw_words.total()

    @cached_property
    def spaced_words(self) -> list[str]:
        """What stands between white space of the text as it is."""
        return self.text.split()

    @cached_property
    def folded(self) -> str:
        """The text as `folded` returns it."""
        return folded(self.text)

    def words(self) -> list[str]:
        """Return the normalised words, which are not kept: of a large text they take much memory."""
        return self.folded.split()

    @cached_property
    def line_words(self) -> np.ndarray:
        """Number of normalised words of each line, `(lines,) int64`."""
        lines = self.folded.split("\n")[: len(self.line_ends)]
        return np.fromiter(map(_count_words, lines), np.int64, len(lines))

    @cached_property
    def _counted_words(self) -> tuple[Counter[str], np.ndarray]:
        """`word_counts` and `word_ids`, made piece by piece."""
        counts: Counter[str] = Counter()
        numbers: dict[str, int] = {}
        ids: list[np.ndarray] = []
        for piece in pieces_at_spaces(self.folded):
            words = piece.split()
            counts.update(words)
            # A counter keeps the order of first occurrence: new words are its last ones.
            for word in islice(counts, len(numbers), None):
                numbers[word] = len(numbers)
            ids.append(np.fromiter(map(numbers.__getitem__, words), np.int64, len(words)))
        return counts, np.concatenate([np.zeros(0, np.int64), *ids])

    @property
    def word_counts(self) -> Counter[str]:
        """Normalised word -> how often it occurs, in the order of first occurrence."""
        return self._counted_words[0]

    @property
    def word_ids(self) -> np.ndarray:
        """Number of each normalised word in `word_counts`, `(words,) int64`."""
        return self._counted_words[1]

    @property
    def word_total(self) -> int:
        """Number of normalised words."""
        return len(self.word_ids)

    @cached_property
    def word_lengths(self) -> np.ndarray:
        """Characters of each normalised word, `(words,) int64`."""
        lengths = np.fromiter(map(len, self.word_counts), np.int64, len(self.word_counts))
        return lengths[self.word_ids]

    @cached_property
    def repeated_words(self) -> RepeatedNgrams:
        """The normalised words that occur more than once; longer n-grams follow from them."""
        return RepeatedNgrams.of_words(self.word_ids)


def _count_words(line: str) -> int:
    if len(line) <= PIECE_CHARACTERS:
        return len(line.split())
    return sum(len(piece.split()) for piece in pieces_at_spaces(line))


def pieces_at_spaces(text: str) -> Iterator[str]:
    """Yield a text in pieces of about PIECE_CHARACTERS that end before white space."""
    start = 0
    while start < len(text):
        space = SPACE.search(text, start + PIECE_CHARACTERS)
        end = space.start() if space else len(text)
        yield text[start:end]
        start = end


def hash_of_words(line: str) -> int:
    """Return the hash of a folded line's words, joined by blanks, of a long one piece by piece."""
    if len(line) <= PIECE_CHARACTERS:
        return xxhash.xxh3_64_intdigest(" ".join(line.split()).encode())
    digest = xxhash.xxh3_64()
    blank = ""
    for piece in pieces_at_spaces(line):
        words = piece.split()
        if words:
            digest.update((blank + " ".join(words)).encode())
            blank = " "
    return digest.intdigest()


def code_points(text: str) -> np.ndarray:
    """Return the code points of a text, `(characters,)`: uint8 where all are ASCII, else uint32."""
    if text.isascii():
        return np.frombuffer(text.encode(), np.uint8)
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


def counts_between(marks: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return how many marks lie in each of several ranges that follow each other.

    `marks`: `(n,) bool`; `ends`: `(ranges,) int64`, ascending, the first range begins at 0.
    """
    before = np.searchsorted(np.flatnonzero(marks), ends)
    return np.diff(before, prepend=0)
