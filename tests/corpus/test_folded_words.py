"""What a word is, and that folding by bytes and then by words is folding the whole text."""

import numpy as np

from pipeline.corpus.folded_words import NON_SPACE, ascii_folded, byte_ranges, folded_word, words_of

EVERY_CHARACTER = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x11000)]))


def test_words_are_what_white_space_separates_without_punctuation() -> None:
    text = "\u201cDon\u2019t \u2014 stop!\u201d\u2003It's  50% (off)\u2026"
    assert words_of(text) == ["dont", "stop", "its", "50", "off"]
    assert words_of("") == words_of(" -- ") == []


def test_folding_bytes_then_words_is_folding_the_text() -> None:
    # A capital sigma becomes another letter at the end of a word.
    for text in (EVERY_CHARACTER, "ΣΔΣ ΣΔ,Σ ΔΣ. Σ Δ.Σ", "İK Straße\x1cB\x85c"):
        folded = ascii_folded(text.encode()).decode()
        words = [folded_word(word) for word in folded.split()]
        assert [word for word in words if word] == words_of(text)


def test_the_search_for_words_in_the_text_divides_it_as_split_does() -> None:
    assert NON_SPACE.findall(EVERY_CHARACTER) == EVERY_CHARACTER.split()


def test_ranges_of_bytes_hold_the_words() -> None:
    text = "\u2014 \u201cÄrger,\u201d she\u2003said \u2026 twice."
    content = text.encode()
    first = np.array([2, 0, 1])
    last = np.array([3, 0, 2])
    starts, ends = byte_ranges(text, first, last)
    assert [content[a:b].decode() for a, b in zip(starts, ends, strict=True)] == [
        "said \u2026 twice.",
        "\u201cÄrger,\u201d",
        "she\u2003said",
    ]
