"""Hashes of paragraphs: of their words alone, and the same where a line is read in pieces."""

from unittest.mock import patch

import hypothesis.strategies as st
import xxhash
from hypothesis import given

from pipeline.corpus.annotating import text_pieces
from pipeline.corpus.annotating.document_text import DocumentText, normalised_words
from pipeline.corpus.annotating.paragraphs import ParagraphHashes

HARD = "aB1,.\n\r\t \x0b\x1c\x85\u2028\u3000\u0301é😀"


@given(st.text(alphabet=HARD, max_size=60), st.integers(1, 9))
def test_pieces_of_a_line_change_no_hash(text: str, piece: int) -> None:
    with patch.object(text_pieces, "PIECE_CHARACTERS", piece):
        ((starts, ends, hashes),) = ParagraphHashes().values(DocumentText(text))
    expected: list[tuple[int, int, int]] = []
    start = 0
    for line in text.split("\n"):
        end = min(start + len(line) + 1, len(text))
        words = normalised_words(line)
        if words:
            value = xxhash.xxh3_64_intdigest(" ".join(words).encode())
            expected.append((start, end, value))
        start = end
    assert [*zip(starts.tolist(), ends.tolist(), hashes.tolist(), strict=True)] == expected
