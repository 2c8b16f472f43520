"""Repeated runs of words are those that counting all runs finds."""

from collections import Counter
from unittest.mock import patch

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from pipeline.corpus.annotating import number_blocks, repeated_ngrams
from pipeline.corpus.annotating.document_text import DocumentText


@given(
    st.lists(st.sampled_from("abcd"), max_size=40),
    st.integers(1, 6),
    st.sampled_from((3, 2**19)),
    st.sampled_from((8, 63)),
)
def test_repeats_are_those_of_all_runs(
    words: list[str], size: int, portion: int, key_bits: int
) -> None:
    document = DocumentText(" ".join(words))
    document.repeated_words(7)
    with (
        patch.object(repeated_ngrams, "PORTION_PLACES", portion),
        patch.object(repeated_ngrams, "KEY_BITS", key_bits),
        patch.object(number_blocks, "BLOCK_NUMBERS", portion),
    ):
        repeated = document.repeated_words(size)
    runs = [tuple(words[place : place + size]) for place in range(len(words) - size + 1)]
    counts = Counter(runs)
    places = [place for place, run in enumerate(runs) if counts[run] > 1]
    assert repeated.places.tolist() == places
    assert len(
        {*zip(repeated.numbers.tolist(), (runs[place] for place in places), strict=True)}
    ) == (len(np.unique(repeated.numbers)))
    if places:
        # `most_common` keeps the order of first occurrence.
        run, count = counts.most_common(1)[0]
        assert (repeated.top_place, repeated.top_count) == (runs.index(run), count)
    else:
        assert repeated.top_count == 0
