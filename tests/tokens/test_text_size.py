"""The sizes of texts against Python's own counts."""

import sys

from pipeline.tokens.text_size import WHITE_SPACE, count_words


def test_words_are_counted_as_split_does() -> None:
    every = [chr(code) for code in range(sys.maxunicode + 1)]
    assert [character for character in every if character.isspace()] == sorted(WHITE_SPACE)
    for text in ("", " ", "ab", " ab  c\u3000d\U0001f642 ", "é\xa0\u200be\n"):
        assert count_words(text) == len(text.split())
