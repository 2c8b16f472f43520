"""Spans as arrays."""

import numpy as np

from pipeline.corpus.trees.spans import NamedSpans, SpanColumns, Spans


def test_spans_are_equal_to_the_tuples_that_they_are_made_of() -> None:
    tuples = [(0, 4, 0.5), (4, 9, None)]
    spans = Spans.of(tuples)
    assert spans == tuples
    assert spans == tuple(tuples)
    assert spans != tuples[:1]
    assert spans[-1] == (4, 9, None)
    assert [type(value) for value in spans[0]] == [int, int, float]
    starts, ends, scores = spans.columns()
    assert (starts.dtype, ends.dtype, scores.dtype) == (np.int64, np.int64, np.float64)
    assert np.isnan(scores[1])
    assert Spans.of([]) == []
    assert not Spans.of([])


def test_signals_are_parts_of_common_columns() -> None:
    columns = SpanColumns(np.array([0, 3, 0]), np.array([3, 8, 8]), np.array([1.0, 2.0, np.nan]))
    named = NamedSpans(["lines", "none", "whole"], [2, 0, 1], columns)
    assert named == {"lines": [(0, 3, 1.0), (3, 8, 2.0)], "none": [], "whole": [(0, 8, None)]}
    assert named["whole"].score(0) is None
    assert "absent" not in named
    assert named["lines"].columns().ends.tolist() == [3, 8]
