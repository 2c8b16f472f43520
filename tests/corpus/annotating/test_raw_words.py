"""Raw words are those of the published expression, also where bytes stand for it."""

import re
from collections import Counter

import hypothesis.strategies as st
from hypothesis import given

from pipeline.corpus.annotating.raw_words import count_raw_words, raw_words_of


@given(st.text(alphabet="aB1_,.\n\t \x0b\x1c\x85\u2028\u0301é²—😀", max_size=40))
def test_words_are_those_of_the_expression(text: str) -> None:
    assert raw_words_of(text) == Counter(re.findall(r"\w+|[^\w\s]+", text))


def test_kinds_by_hand() -> None:
    counts = count_raw_words("The BOX, the 3 boxes... and É!")
    # The, BOX, the comma, the, 3, boxes, the dots, and, É, the mark.
    assert (counts.total, counts.lettered, counts.capitals) == (10, 5, 2)
    assert counts.stop_words == {"the": 1, "and": 1}
