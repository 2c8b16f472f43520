"""What parts share of a document: lines, words, their numbers; equal to the published definitions."""

import re
import string
import unicodedata
from collections import Counter
from unittest.mock import patch

import hypothesis.strategies as st
from hypothesis import given

from pipeline.corpus.annotating import text_pieces
from pipeline.corpus.annotating.document_text import DocumentText, folded
from pipeline.corpus.annotating.raw_words import stop_words

HARD = "aB1,.\n\r\t \x0b\x1c\x85\u2028\u2000\u03a3\u03c3\u0391\u0301\u0345éİǅ²½'\"-😀\u200d\u037e\u1fef"
TEXTS = st.one_of(st.text(max_size=60), st.text(alphabet=HARD, max_size=60))


def published(text: str) -> str:
    """Normalise as RedPajama-Data does (app/src/utilities/text/normalization.py)."""
    text = text.translate(str.maketrans("", "", string.punctuation)).lower().strip()
    return unicodedata.normalize("NFD", re.sub(r"\s+", " ", text))


@given(TEXTS, st.integers(1, 9))
def test_words_and_lines_are_the_published_ones(text: str, piece: int) -> None:
    with patch.object(text_pieces, "PIECE_CHARACTERS", piece):
        _compare_with_published(text)


def _compare_with_published(text: str) -> None:
    document = DocumentText(text)
    lines = [match.span() for match in re.finditer(r"([^\n]*\n|[^\n]+$)", text)]
    assert [*zip(document.line_starts, document.line_ends, strict=True)] == lines
    assert [line + "\n" for line in [*document.lines][:-1]] == [text[a:b] for a, b in lines[:-1]]
    assert [*document.words()] == published(text).split()
    assert " ".join(document.words()) == published(text)
    assert [*document.line_words] == [len(published(text[a:b]).split()) for a, b in lines]
    assert [*document.word_lengths] == [len(word) for word in document.words()]
    assert len({*zip(document.words(), document.word_ids, strict=True)}) == len({*document.words()})
    assert [*document.spaced_words] == text.split()
    assert document.spaced_word_count == len(text.split())
    counted = zip(document.word_numbers, document.word_counts.tolist(), strict=True)
    assert [*counted] == [*Counter(document.words()).items()]
    assert [*document.word_numbers.values()] == [*range(len(document.word_numbers))]

    words = re.findall(r"\w+|[^\w\s]+", text)
    stopping = frozenset().union(*stop_words().values())
    assert document.raw_words.total == len(words)
    assert document.raw_words.lettered == sum(bool(re.search("[a-zA-Z]", word)) for word in words)
    assert document.raw_words.capitals == sum(map(str.isupper, words))
    assert document.raw_words.stop_words == Counter(word for word in words if word in stopping)


def test_words_by_hand() -> None:
    assert [*DocumentText("Don't  STOP—now!\n").words()] == ["dont", "stop—now"]
    assert folded("É") == "e\u0301"
    assert DocumentText("a\n!!!").line_words.tolist() == [1, 0]
    assert DocumentText("").line_words.tolist() == []
