"""Work in blocks gives what numpy gives at once."""

from unittest.mock import patch

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from pipeline.corpus.annotating import number_blocks
from pipeline.corpus.annotating.number_blocks import counts_of, looked_up, places_of, sums_before

NUMBERS = st.lists(st.integers(0, 6), max_size=30)


@given(NUMBERS, st.lists(st.integers(0, 30), max_size=9), st.integers(1, 9))
def test_blocks_change_no_number(values: list[int], places: list[int], block: int) -> None:
    numbers = np.array(values, np.int32)
    ends = np.sort(np.minimum(np.array(places, np.int64), len(values)))
    table = np.arange(7) ** 2
    with patch.object(number_blocks, "BLOCK_NUMBERS", block):
        assert looked_up(table, numbers).tolist() == [value**2 for value in values]
        assert places_of(numbers > 3).tolist() == np.flatnonzero(numbers > 3).tolist()
        assert counts_of(numbers, 7).tolist() == [values.count(value) for value in range(7)]
        assert sums_before(numbers, ends).tolist() == [sum(values[:end]) for end in ends]
