"""The index of n-grams against a search in pure Python, and what folding a text means."""

import random
from collections.abc import Sequence
from types import ModuleType

import numpy as np
import pytest

from pipeline.corpus import ngram_index
from pipeline.corpus.folded_words import words_of
from pipeline.corpus.ngram_index import NgramIndex, Passages

PROVERB = "The early bird catches the worm, but the second mouse, as they say, gets the cheese in the end."
SHORT = "Nine words are enough to find a whole text."
TOO_SHORT = "Seven words say too little to tell."

Found = tuple[int, int, str, int]
"""Document, text, words of the passage, different n-grams."""


def passages_of(found: Passages, documents: Sequence[bytes]) -> list[Found]:
    columns = (found.document, found.text, found.start, found.end, found.grams)
    return [
        (document, text, " ".join(words_of(documents[document][start:end].decode())), grams)
        for document, text, start, end, grams in zip(*(c.tolist() for c in columns), strict=True)
    ]


def searched_in_python(texts: Sequence[str], documents: Sequence[bytes]) -> list[Found]:
    """Return the same by comparing each place of each document with each n-gram of each text."""
    found: list[Found] = []
    for number, document in enumerate(documents):
        words = words_of(document.decode())
        for text_number, text in enumerate(texts):
            ours = words_of(text)
            n = min(len(ours), 13)
            if n < 8:
                continue
            grams = {tuple(ours[i : i + n]) for i in range(len(ours) - n + 1)}
            places = [j for j in range(len(words)) if tuple(words[j : j + n]) in grams]
            while places:
                first = places.pop(0)
                hits = [first]
                while places and places[0] <= hits[-1] + n:
                    hits.append(places.pop(0))
                different = {tuple(words[j : j + n]) for j in hits}
                passage = " ".join(words[first : hits[-1] + n])
                found.append((number, text_number, passage, len(different)))
    return found


def random_words(source: random.Random, count: int, vocabulary: Sequence[str]) -> str:
    return " ".join(source.choice(vocabulary) for _ in range(count))


@pytest.fixture(scope="module")
def random_corpus() -> tuple[list[str], list[bytes]]:
    """Return texts and documents of few words, so that n-grams are shared by chance and repeat."""
    source = random.Random(5)
    plain = ["a", "A", "b,", "(B)"]
    others = [
        "\u039f\u0394\u039f\u03a3",
        "\u03bf\u03b4\u03bf\u03c2",
        "l\u2019été",
        "L'ÉTÉ",
        "—",
        "\u2003",
        "?",
    ]
    texts = [random_words(source, source.randrange(30), plain) for _ in range(60)]
    texts += [random_words(source, source.randrange(6, 25), others) for _ in range(60)]
    texts += [texts[40], "a " * 40]
    documents = [
        random_words(source, source.randrange(300), source.choice([plain, others])).encode()
        for _ in range(150)
    ]
    documents += [b"", b"a " * 300, " ".join(texts).encode()]
    return texts, documents


def test_a_planted_text_is_found_whatever_its_case_spacing_and_punctuation() -> None:
    index = NgramIndex([PROVERB, SHORT, TOO_SHORT])
    shouted = PROVERB.upper().replace(" ", "\n  ").replace(",", " ;")
    documents = [
        b"Nothing of this is here. " * 20,
        f"Once more: {PROVERB} And more.".encode(),
        f"« {shouted} »".encode(),
        b"(nine WORDS are -- enough... to find/  a whole text) and the rest",
        b"nine words are enough to find/a whole text",
        f"{TOO_SHORT} {SHORT[:-6]}".encode(),
    ]
    words = " ".join(words_of(PROVERB))
    assert index.is_searched.tolist() == [True, True, False]
    assert index.word_counts.tolist() == [19, 9, 7]
    found = index.find(documents)
    assert passages_of(found, documents) == [
        (1, 0, words, 7),
        (2, 0, words, 7),
        (3, 1, " ".join(words_of(SHORT)), 1),
        (4, 1, " ".join(words_of(SHORT)), 1),
    ]
    assert documents[1][found.start[0] : found.end[0]].decode() == PROVERB


def test_a_short_text_is_found_only_as_a_whole() -> None:
    index = NgramIndex([SHORT])
    documents = [SHORT.encode(), b"nine words, are enough to find a whole", b"x " + SHORT.encode()]
    assert passages_of(index.find(documents), documents) == [
        (0, 0, " ".join(words_of(SHORT)), 1),
        (2, 0, " ".join(words_of(SHORT)), 1),
    ]


def test_thirteen_words_in_a_row_are_enough_and_twelve_are_not() -> None:
    words = words_of(PROVERB)
    index = NgramIndex([PROVERB])
    documents = [
        " ".join(["x", *words[3:16], "y"]).encode(),
        " ".join(["x", *words[3:15], "y"]).encode(),
        " ".join([*words[:12], "x", *words[12:]]).encode(),
    ]
    assert passages_of(index.find(documents), documents) == [(0, 0, " ".join(words[3:16]), 1)]


def test_no_ngram_reaches_from_one_document_into_the_next() -> None:
    words = words_of(PROVERB)
    for cut in range(1, len(words)):
        documents = [" ".join(words[:cut]).encode(), " ".join(words[cut:]).encode()]
        found = passages_of(NgramIndex([PROVERB]).find(documents), documents)
        assert [document for document, *_ in found] == [
            number for number, part in enumerate(documents) if len(part.split()) >= 13
        ]


def test_the_index_finds_what_a_search_in_python_finds(
    random_corpus: tuple[list[str], list[bytes]],
) -> None:
    texts, documents = random_corpus
    expected = searched_in_python(texts, documents)
    assert len(expected) > 500
    assert {len(words.split()) for _, _, words, _ in expected} >= {8, 10, 12, 13, 14, 300}
    assert passages_of(NgramIndex(texts).find(documents), documents) == expected


@pytest.mark.parametrize("hash_bits", [1, 4, 12])
def test_equal_hashes_of_different_words_do_not_count(
    random_corpus: tuple[list[str], list[bytes]], hash_bits: int
) -> None:
    texts, documents = random_corpus
    expected = NgramIndex(texts).find(documents)
    found = NgramIndex(texts, hash_bits).find(documents)
    assert passages_of(found, documents) == passages_of(expected, documents)


@pytest.mark.parametrize("batch", [1, 7])
def test_batches_change_nothing(random_corpus: tuple[list[str], list[bytes]], batch: int) -> None:
    texts, documents = random_corpus
    index = NgramIndex(texts)
    found: list[Found] = []
    for first in range(0, len(documents), batch):
        part = documents[first : first + batch]
        found += [(first + number, *rest) for number, *rest in passages_of(index.find(part), part)]
    assert found == passages_of(index.find(documents), documents)


@pytest.mark.parametrize(
    ("module", "name", "size"),
    [(ngram_index, "PORTION_BYTES", 3), (ngram_index, "BLOCK_WORDS", 5)],
)
def test_sizes_of_portions_and_blocks_change_nothing(
    random_corpus: tuple[list[str], list[bytes]],
    module: ModuleType,
    name: str,
    size: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts, documents = random_corpus
    expected = NgramIndex(texts).find(documents)
    monkeypatch.setattr(module, name, size)
    found = NgramIndex(texts).find(documents)
    for column in ("document", "text", "start", "end", "grams"):
        assert np.array_equal(getattr(found, column), getattr(expected, column))


def test_nothing_is_found_where_there_is_nothing_to_find() -> None:
    for texts in ([], [""], [TOO_SHORT]):
        assert len(NgramIndex(texts).find([PROVERB.encode(), b""]).text) == 0
    assert len(NgramIndex([PROVERB]).find([]).text) == 0
