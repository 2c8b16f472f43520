"""What parts share of a document: lines, words, their numbers; equal to the published definitions."""

import re
import string
import unicodedata
from collections import Counter
from unittest.mock import patch

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from pipeline.corpus.annotating import document_text
from pipeline.corpus.annotating.document_text import DocumentText, counts_between, folded

HARD = "aB1,.\n\r\t \x0b\x1c\x85\u2028\u2000\u03a3\u03c3\u0391\u0301\u0345éİǅ²½'\"-😀\u200d\u037e\u1fef"
TEXTS = st.one_of(st.text(max_size=60), st.text(alphabet=HARD, max_size=60))


def published(text: str) -> str:
    """Normalise as RedPajama-Data does (app/src/utilities/text/normalization.py)."""
    text = text.translate(str.maketrans("", "", string.punctuation)).lower().strip()
    return unicodedata.normalize("NFD", re.sub(r"\s+", " ", text))


@given(TEXTS, st.integers(1, 9))
def test_words_and_lines_are_the_published_ones(text: str, piece: int) -> None:
    with patch.object(document_text, "PIECE_CHARACTERS", piece):
        _compare_with_published(text)


def _compare_with_published(text: str) -> None:
    document = DocumentText(text)
    lines = [match.span() for match in re.finditer(r"([^\n]*\n|[^\n]+$)", text)]
    assert [*zip(document.line_starts, document.line_ends, strict=True)] == lines
    assert [line + "\n" for line in document.lines[:-1]] == [text[a:b] for a, b in lines[:-1]]
    assert document.words() == published(text).split()
    assert " ".join(document.words()) == published(text)
    assert [*document.line_words] == [len(published(text[a:b]).split()) for a, b in lines]
    assert [*document.word_lengths] == [len(word) for word in document.words()]
    assert len({*zip(document.words(), document.word_ids, strict=True)}) == len({*document.words()})
    words = re.findall(r"\w+|[^\w\s]+", text)
    assert document.raw_word_count == len(words)
    assert document.raw_words == Counter(words)
    assert [*document.word_counts.items()] == [*Counter(document.words()).items()]
    assert [chr(code) for code in document.characters] == [*text]


def test_words_by_hand() -> None:
    assert DocumentText("Don't  STOP—now!\n").words() == ["dont", "stop—now"]
    assert folded("É") == "e\u0301"
    assert DocumentText("a\n!!!").line_words.tolist() == [1, 0]
    assert DocumentText("").line_words.tolist() == []


def test_marks_are_counted_in_ranges() -> None:
    marks = np.array([True, False, True, True, False])
    assert counts_between(marks, np.array([1, 1, 4, 5])).tolist() == [1, 0, 2, 0]
    assert counts_between(marks[:0], np.array([], np.int64)).tolist() == []
