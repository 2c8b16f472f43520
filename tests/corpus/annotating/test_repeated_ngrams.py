"""Repeated runs of words are those that counting all runs finds."""

from collections import Counter

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.repeated_ngrams import of_size


@given(st.lists(st.sampled_from("abcd"), max_size=40), st.integers(1, 6))
def test_repeats_are_those_of_all_runs(words: list[str], size: int) -> None:
    repeated = of_size(DocumentText(" ".join(words)).repeated_words, size)
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
