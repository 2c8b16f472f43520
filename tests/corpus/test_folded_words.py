"""What a word is, that folding by bytes is folding the text, and where words stand in it."""

import random

import numpy as np
import pytest

from pipeline.corpus import folded_words
from pipeline.corpus.folded_words import (
    NON_SPACE,
    byte_ranges,
    folded_bytes,
    folded_word,
    spellings_of,
    word_places,
    words_of,
)

EVERY_CHARACTER = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x11000)]))
MARKS_AND_LETTERS = (
    "abA1 3-.,'/*_[]() \n\x1c\x85"
    "\u2018\u2014\u2013\u200b\u00ad\u2003\u2011\u00b4\u2026"
    "\u00e9\u0301\uff37\ufb01\u00bd\u2474\u03a3\u00a8"
)
"""Of each class of characters that a rule speaks of, one or more."""


def assert_places_hold_words(text: str) -> None:
    words = words_of(text)
    starts, ends = word_places(text)
    held = [words_of(text[a:b]) for a, b in zip(starts, ends, strict=True)]
    assert held == [[word] for word in words]


def test_words_are_what_white_space_separates_without_punctuation() -> None:
    text = "\u201cDon\u2019t \u2014 stop!\u201d\u2003It's  50% (off)\u2026"
    assert words_of(text) == ["dont", "stop", "its", "50", "off"]
    assert words_of("") == words_of(" -- ") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("end.Next,then;so", "end next then so"),
        ("either/or word--word a\u2014b c\u2013d", "either or word word a b c d"),
        ("e-mail re\u2011entry -x- a--b", "email reentry x a b"),
        ("3.14 1,000 1,000,000 1914,15 1,0000", "314 1000 1000000 1914 15 1 0000"),
        ("U.S. p.m.Next I am A.Next J.K. Rowling", "us pm next i am a next jk rowling"),
        ("[T]he **B**old _x_ rock-'n'-roll", "the bold x rocknroll"),
        ("q\u200bx so\u00adft a\u200b b\ufeff", "qx soft a b"),
        ("\uff37\uff4f\uff52\uff44\uff0cnext \ufb01sh", "word next fish"),
        ("cafe\u0301 CAF\u00c9", "caf\u00e9 caf\u00e9"),
    ],
)
def test_marks_that_vanish_and_marks_that_separate(text: str, words: str) -> None:
    assert " ".join(words_of(text)) == words
    assert_places_hold_words(text)


def test_folding_bytes_then_words_is_folding_the_text_and_folding_twice_changes_nothing() -> None:
    for text in (EVERY_CHARACTER, "ΣΔΣ ΣΔ,Σ ΔΣ. Σ Δ.Σ", "İK Straße\x1cB\x85c"):
        words = [folded_word(word) for word in folded_bytes(text.encode()).decode().split()]
        assert [word for word in words if word] == words_of(text)
        assert [folded_word(word) for word in words] == words
        assert words_of(" ".join(words_of(text))) == words_of(text)


def test_spellings_are_those_of_copies() -> None:
    text = "The well-known U.S. man - who can't"
    base, *others = [" ".join(words) for words in spellings_of(text)]
    assert base == "the wellknown us man who cant"
    assert others == [
        "the well known us man who cant",
        "the well known u s man who can t",
        "the wellknown us manwho cant",
    ]
    assert "andor" in [" ".join(words) for words in spellings_of("and/or")]
    assert spellings_of("plain words. No more") == [["plain", "words", "no", "more"]]


def test_the_search_for_words_in_the_text_divides_it_as_split_does() -> None:
    assert NON_SPACE.findall(EVERY_CHARACTER) == EVERY_CHARACTER.split()


def test_places_hold_the_words_of_any_text() -> None:
    draw = random.Random(1)
    for _ in range(1500):
        assert_places_hold_words("".join(draw.choices(MARKS_AND_LETTERS, k=draw.randrange(1, 14))))


@pytest.mark.parametrize("portion", [1, 7, folded_words.PORTION])
def test_ranges_of_bytes_hold_the_words(portion: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folded_words, "PORTION", portion)
    text = "\u2014 \u201cÄrger,\u201d she\u2003said \u2026 twice.Then (we\u2014they) went"
    content = text.encode()
    first = np.array([2, 0, 1, 4, 5])
    last = np.array([3, 0, 2, 5, 7])
    starts, ends = byte_ranges(text, first, last)
    assert [content[a:b].decode() for a, b in zip(starts, ends, strict=True)] == [
        "said \u2026 twice",
        "\u201cÄrger,\u201d",
        "she\u2003said",
        "Then (we",
        "(we\u2014they) went",
    ]
