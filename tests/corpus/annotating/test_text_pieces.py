"""Pieces of a text give what the whole text gives."""

from unittest.mock import patch

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from pipeline.corpus.annotating import text_pieces
from pipeline.corpus.annotating.text_pieces import (
    code_points,
    counts_of_characters,
    lines_of,
    newline_places,
    normalised_text,
    pieces_at_spaces,
    spaced_words_of,
)

TEXTS = st.text(alphabet="aB1 \n\t\x1c\x85\u2028é😀", max_size=40)


@given(TEXTS, st.integers(1, 9), st.lists(st.integers(0, 40), max_size=9))
def test_pieces_give_what_the_text_gives(text: str, piece: int, places: list[int]) -> None:
    ends = np.sort(np.minimum(np.array(places, np.int64), len(text)))
    is_upper = np.zeros(0x110000, bool)
    is_upper[ord("B")] = True
    with patch.object(text_pieces, "PIECE_CHARACTERS", piece):
        assert "".join(pieces_at_spaces(text)) == text
        assert [*spaced_words_of(text)] == text.split()
        assert [*lines_of(text)] == text.split("\n")
        assert normalised_text(text) == " ".join(text.split())
        assert newline_places(text).tolist() == [
            place for place, character in enumerate(text) if character == "\n"
        ]
        counts = counts_of_characters(text, is_upper, ends)
    assert np.cumsum(counts).tolist() == [text[:end].count("B") for end in ends]
    assert [chr(code) for code in code_points(text)] == [*text]
