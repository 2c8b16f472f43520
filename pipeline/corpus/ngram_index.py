"""An index of the n-grams of some texts, which finds the documents that hold one of them.

A text of 13 words or more is found where a document holds 13 of them in a row; a text of 8 to 12
words only as a whole; a shorter one is not searched for, unless whoever builds the index asks for it.
What a word is, `folded_words.py` says.
Reads and writes no file.

Source: Brown et al. 2020 (arXiv:2005.14165), appendix C: n-grams of 13 words at most, and of 8 at
least because of accidental matches.

Words are numbered by a dictionary, so a number stands for one word. The numbers of n words in a row
are combined into a hash, hashes are looked up in a sorted array, and the words of each hit are
compared: equal hashes of different words are never counted.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from pipeline.corpus.folded_words import byte_ranges, folded_bytes, folded_word, spellings_of

GRAM_WORDS = 13
"""Words of an n-gram. Source: the largest n of Brown et al. 2020, appendix C."""
FEWEST_WORDS = 8
"""Texts with fewer words are not searched for by default. Source: the smallest n of Brown et al. 2020,
appendix C, below which there were accidental matches."""
PORTION_BYTES = 1 << 20
"""Bytes of a document that are divided into words at once: a word as a Python object takes ten times
the memory of its letters."""
BLOCK_WORDS = 1 << 17
"""Words that are hashed at once; their arrays fit into a processor's cache."""
BASE = 0x9E3779B97F4A7C15
"""Odd base of the polynomial hash of words in a row: 2^64 divided by the golden ratio."""
FILTER_BITS_PER_GRAM = 4
"""The filter before the lookup has 2^4 to 2^5 entries for each n-gram, so that it passes about one in
twenty of other word sequences."""
MOST_FILTER_BITS = 28
"""Largest size of the filter: 256 MiB."""
UNKNOWN = -1
"""Number of a word that no text has, and of the end of a document."""
EMPTY = -2
"""Number of what is punctuation alone, before it is left out."""


@dataclass(frozen=True)
class Passages:
    """Passages of documents that consist of n-grams of a text, sorted by document, text and place.

    n-grams that overlap or follow each other make one passage.
    """

    document: np.ndarray
    """`(passages,) int64`: index of the document in the batch."""
    text: np.ndarray
    """`(passages,) int64`: index of the text that was searched for."""
    start: np.ndarray
    """`(passages,) int64`: first byte of the passage in the document's UTF-8."""
    end: np.ndarray
    """`(passages,) int64`: byte after the passage's last word."""
    grams: np.ndarray
    """`(passages,) int64`: number of different n-grams of the text in the passage."""


NO_PASSAGES = Passages(*(np.zeros(0, np.int64) for _ in range(5)))
"""What is found in documents that hold no text."""


@dataclass(frozen=True)
class _GramsOfLength:
    """The n-grams of one length: one entry for each different n-gram of each text."""

    words: int
    """The length n."""
    hashes: np.ndarray
    """`(entries,) uint64`, ascending."""
    text: np.ndarray
    """`(entries,) int64`: the text of each entry."""
    start: np.ndarray
    """`(entries,) int64`: where the words of each entry begin among the words of all texts."""
    present: np.ndarray
    """`(2^filter_bits,) bool`: whether a hash begins with these bits."""
    filter_shift: int
    """Bits to shift a hash to the right for its place in `present`."""


@dataclass(frozen=True)
class _Hits:
    """n-grams found in a batch of documents."""

    position: np.ndarray
    """`(hits,) int64`: first word of the n-gram among the words of the batch."""
    text: np.ndarray
    """`(hits,) int64`"""
    gram: np.ndarray
    """`(hits,) int64`: the n-gram, as the start of its entry."""
    words: np.ndarray
    """`(hits,) int64`: length of the n-gram."""


class NgramIndex:
    """The n-grams of some texts, ready to be looked up in documents."""

    def __init__(
        self, texts: Iterable[str], hash_bits: int = 64, fewest_words: int = FEWEST_WORDS
    ) -> None:
        """Index texts; they are numbered from 0.

        `hash_bits`: bits of a hash that are kept. Fewer cost time, and change no result.
        `fewest_words`: texts with fewer words are not searched for, 1 to GRAM_WORDS.
        """
        assert 1 <= fewest_words <= GRAM_WORDS, "texts of 13 words are always searched for"
        self._hash_bits = hash_bits
        self._fewest_words = fewest_words
        # The words of all texts in a row, as numbers.
        self._numbers: dict[str, int] = {}
        stream = array("i")
        counts = array("q")
        text_of = array("q")
        is_first = array("b")
        for number, text in enumerate(texts):
            for place, words in enumerate(spellings_of(text)):
                stream.extend([self._number_of(word) for word in words])
                counts.append(len(words))
                text_of.append(number)
                is_first.append(place == 0)
        self._stream = np.array(stream, np.int32)
        self._spelling_counts = np.array(counts, np.int64)
        self._text_of_spelling = np.array(text_of, np.int64)
        self.word_counts = self._spelling_counts[np.array(is_first, bool)]
        """`(texts,) int64`: words of each text."""

        # Tables of the hash; 64 bits that look random stand for each word.
        powers = np.full(BLOCK_WORDS + GRAM_WORDS, BASE, np.uint64)
        powers[0] = 1
        self._powers = np.cumprod(powers, dtype=np.uint64)
        inverse = np.full(BLOCK_WORDS + GRAM_WORDS, pow(BASE, -1, 2**64), np.uint64)
        inverse[0] = 1
        self._inverse_powers = np.cumprod(inverse, dtype=np.uint64)
        self._word_values = _mixed(np.arange(1, len(self._numbers) + 2, dtype=np.uint64))

        self._tables = [
            self._table(words)
            for words in range(fewest_words, GRAM_WORDS + 1)
            if np.any(self._gram_words() == words)
        ]

    @property
    def is_searched(self) -> np.ndarray:
        """Tell for each text whether it is long enough to be searched for, `(texts,) bool`."""
        return self.word_counts >= self._fewest_words

    def find(self, documents: Sequence[bytes | memoryview]) -> Passages:
        """Return the passages of documents, given in UTF-8, that consist of n-grams of a text.

        Besides the documents takes 5 bytes for each of their words, and as Python objects the words
        of `PORTION_BYTES`.
        """
        # The words of all documents in a row, with an unknown word after each document.
        parts: list[np.ndarray] = []
        starts = np.zeros(len(documents), np.int64)
        length = 0
        end_of_document = np.array([UNKNOWN], np.int32)
        for number, document in enumerate(documents):
            starts[number] = length
            for part in self._numbered_words(document):
                parts.append(part)
                length += len(part)
            parts.append(end_of_document)
            length += 1
        hits = self._hits(np.concatenate([np.zeros(0, np.int32), *parts]))
        if not len(hits.text):
            return NO_PASSAGES

        # The place of each hit in its document.
        document = np.searchsorted(starts, hits.position, side="right") - 1
        return _passages(documents, document, hits.position - starts[document], hits)

    def _number_of(self, word: str) -> int:
        return self._numbers.setdefault(word, len(self._numbers))

    def _gram_words(self) -> np.ndarray:
        """Return the length of the n-grams of each spelling, `(spellings,) int64`; 0 if not searched for."""
        words = np.minimum(self._spelling_counts, GRAM_WORDS)
        return words * self.is_searched[self._text_of_spelling]

    def _table(self, words: int) -> _GramsOfLength:
        """Build the table of the n-grams of one length."""
        # Each place in a spelling of a text that has `words` words of it from there on.
        spelling_starts = np.cumsum(self._spelling_counts) - self._spelling_counts
        spellings = np.flatnonzero(self._gram_words() == words)
        places = self._spelling_counts[spellings] - words + 1
        spelling = np.repeat(spellings, places)
        within = np.arange(len(spelling)) - np.repeat(np.cumsum(places) - places, places)
        start = spelling_starts[spelling] + within
        text = self._text_of_spelling[spelling]
        hashes = np.zeros(len(start), np.uint64)
        for first in range(0, len(self._stream), BLOCK_WORDS):
            block = self._stream[first : first + BLOCK_WORDS + words - 1]
            low, high = np.searchsorted(start, [first, first + BLOCK_WORDS])
            prefix = self._prefix_sums(block)
            hashes[low:high] = self._hash_at(prefix, start[low:high] - first, words)

        # Sorted by hash; an n-gram that a text repeats is kept once.
        order = np.lexsort((start, text, hashes))
        order = order[self._is_first_in_text(hashes[order], text[order], start[order], words)]
        hashes = hashes[order]
        filter_bits = min(MOST_FILTER_BITS, len(hashes).bit_length() + FILTER_BITS_PER_GRAM)
        shift = max(0, self._hash_bits - filter_bits)
        present = np.zeros(1 << filter_bits, bool)
        present[hashes >> np.uint64(shift)] = True
        return _GramsOfLength(words, hashes, text[order], start[order], present, shift)

    def _is_first_in_text(
        self, hashes: np.ndarray, text: np.ndarray, start: np.ndarray, words: int
    ) -> np.ndarray:
        """Tell for each n-gram, sorted by hash and text, whether its text has it for the first time."""
        is_first = np.ones(len(hashes), bool)
        is_same = (hashes[1:] == hashes[:-1]) & (text[1:] == text[:-1])
        # Only n-grams with the hash of the one before can be repetitions of an earlier one.
        earlier: set[bytes] = set()
        group = -1
        for place in np.flatnonzero(is_same).tolist():
            if place != group:
                earlier = {self._stream[start[place] : start[place] + words].tobytes()}
            group = place + 1
            content = self._stream[start[group] : start[group] + words].tobytes()
            is_first[group] = content not in earlier
            earlier.add(content)
        return is_first

    def _prefix_sums(self, numbers: np.ndarray) -> np.ndarray:
        """Return the sums of value(i) * BASE^i mod 2^64 before each word, `(words + 1,) uint64`."""
        terms = self._word_values[numbers] * self._powers[: len(numbers)]
        prefix = np.zeros(len(numbers) + 1, np.uint64)
        np.cumsum(terms, out=prefix[1:])
        return prefix

    def _hash_at(self, prefix: np.ndarray, starts: np.ndarray, words: int) -> np.ndarray:
        """Return the hashes of the `words` words from each start on, `(starts,) uint64`.

        H(s) = sum over j < words of value(s + j) * BASE^j mod 2^64, as a difference of the sums that
        `_prefix_sums` returns.
        """
        sums = (prefix[starts + words] - prefix[starts]) * self._inverse_powers[starts]
        return _mixed(sums) >> np.uint64(64 - self._hash_bits)

    def _numbered_words(self, document: bytes | memoryview) -> Iterator[np.ndarray]:
        """Yield the numbers of a document's words, `(words,) int32`, portion by portion."""
        content = bytes(document)
        first = 0
        while first < len(content):
            end = content.find(b" ", first + PORTION_BYTES)
            if end < 0:
                end = len(content)
            yield self._numbered_portion(folded_bytes(content[first:end]).decode())
            first = end

    def _numbered_portion(self, text: str) -> np.ndarray:
        """Return the numbers of the words of a text that `folded_bytes` returned, `(words,) int32`."""
        words = text.split()
        numbers = np.fromiter(map(self._numbers.get, words, repeat(UNKNOWN)), np.int32, len(words))
        if text.isascii():
            return numbers
        # A word with other letters may be one of ours once it is folded, or punctuation alone.
        for place in np.flatnonzero(numbers == UNKNOWN).tolist():
            word = words[place]
            if not word.isascii():
                folded = folded_word(word)
                numbers[place] = EMPTY
                if folded:
                    numbers[place] = self._numbers.get(folded, UNKNOWN)
        return numbers[numbers != EMPTY]

    def _hits(self, numbers: np.ndarray) -> _Hits:
        """Return all n-grams in words `(words,) int32`, block by block."""
        found: list[_Hits] = []
        for first in range(0, len(numbers), BLOCK_WORDS):
            # The last n-grams of a block end in the next one.
            block = numbers[first : first + BLOCK_WORDS + GRAM_WORDS - 1]
            places = np.arange(len(block))
            last_unknown = np.maximum.accumulate(np.where(block == UNKNOWN, places, -1))
            known_in_a_row = places - last_unknown
            longest = int(known_in_a_row.max(initial=0))
            tables = [table for table in self._tables if table.words <= longest]
            if not tables:
                continue
            prefix = self._prefix_sums(block)
            for table in tables:
                starts = np.flatnonzero(known_in_a_row >= table.words) - table.words + 1
                starts = starts[starts < BLOCK_WORDS]
                place, entry = self._look_up(table, (block, prefix), starts)
                found.append(
                    _Hits(
                        place + first,
                        table.text[entry],
                        table.start[entry],
                        np.full(len(entry), table.words),
                    )
                )
        nothing = np.zeros(0, np.int64)
        return _Hits(
            np.concatenate([nothing, *(hits.position for hits in found)]),
            np.concatenate([nothing, *(hits.text for hits in found)]),
            np.concatenate([nothing, *(hits.gram for hits in found)]),
            np.concatenate([nothing, *(hits.words for hits in found)]),
        )

    def _look_up(
        self, table: _GramsOfLength, block: tuple[np.ndarray, np.ndarray], starts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the starts that begin an n-gram of the table, `(hits,)`, and its entry, `(hits,)`.

        `block`: the words and their `_prefix_sums`.
        """
        numbers, prefix = block
        hashes = self._hash_at(prefix, starts, table.words)
        may_be = table.present[hashes >> np.uint64(table.filter_shift)]
        starts = starts[may_be]
        hashes = hashes[may_be]

        # Every entry with the same hash is compared word by word.
        entry = np.searchsorted(table.hashes, hashes)
        offsets = np.arange(table.words)
        places: list[np.ndarray] = [np.zeros(0, np.int64)]
        entries: list[np.ndarray] = [np.zeros(0, np.int64)]
        while len(entry):
            is_inside = entry < len(table.hashes)
            same_hash = is_inside.copy()
            same_hash[is_inside] = table.hashes[entry[is_inside]] == hashes[is_inside]
            starts = starts[same_hash]
            hashes = hashes[same_hash]
            entry = entry[same_hash]
            ours = self._stream[table.start[entry][:, None] + offsets]
            is_equal = np.all(ours == numbers[starts[:, None] + offsets], axis=1)
            places.append(starts[is_equal])
            entries.append(entry[is_equal])
            entry = entry + 1
        return np.concatenate(places), np.concatenate(entries)


def _mixed(values: np.ndarray) -> np.ndarray:
    """Return 64-bit numbers of which every bit depends on every bit of the given ones.

    Source: the finaliser of SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
    generators", figure 16, with the constants of Stafford's variant 13).
    """
    mixed = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _passages(
    documents: Sequence[bytes | memoryview], document: np.ndarray, word: np.ndarray, hits: _Hits
) -> Passages:
    """Join hits that overlap or follow each other; find their places in the documents' bytes.

    `document`, `word`: `(hits,) int64`, the document of each hit and its first word there.
    """
    # A hit begins a passage unless the one before reaches it.
    order = np.lexsort((word, hits.text, document))
    document = document[order]
    text = hits.text[order]
    word = word[order]
    end = word + hits.words[order]
    is_new = np.ones(len(order), bool)
    is_new[1:] = (document[1:] != document[:-1]) | (text[1:] != text[:-1]) | (word[1:] > end[:-1])
    first = np.flatnonzero(is_new)
    last = np.append(first[1:], len(order))[: len(first)] - 1

    # An n-gram that the passage repeats counts once.
    passage = np.cumsum(is_new) - 1
    different = np.unique(np.stack([passage, hits.gram[order]]), axis=1)
    grams = np.bincount(different[0], minlength=len(first))

    starts = np.zeros(len(first), np.int64)
    ends = np.zeros(len(first), np.int64)
    document_of_passage = document[first]
    for number in np.unique(document_of_passage).tolist():
        here = np.flatnonzero(document_of_passage == number)
        starts[here], ends[here] = byte_ranges(
            bytes(documents[number]).decode(), word[first[here]], end[last[here]] - 1
        )
    return Passages(document_of_passage, text[first], starts, ends, grams)
