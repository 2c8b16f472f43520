"""The task of a text's tokens, by hand."""

import numpy as np

from pipeline.planning.double_descent.context_labels import context_task


def test_the_label_of_a_context_is_what_follows_it_most_often() -> None:
    """Of 9 9 5 9 9 5 9 9 9: after 9 9 come 5, 5 and 9; id 9 is the more frequent one, number 0."""
    task = context_task([np.array([9, 9, 5, 9, 9, 5, 9, 9, 9])], vocabulary=2, length=2)
    assert task.contexts.tolist() == [[0, 0], [0, 1], [1, 0]]
    assert task.labels.tolist() == [1, 0, 0]


def test_rarer_ids_are_taken_out() -> None:
    with_rare = np.array([9, 9, 3, 5, 9, 9, 5, 4, 9, 9, 9], np.uint16)
    task = context_task([with_rare], vocabulary=2, length=2)
    assert task.contexts.tolist() == [[0, 0], [0, 1], [1, 0]]


def test_no_context_reaches_over_two_streams() -> None:
    whole = context_task([np.array([0, 1, 1, 0])], vocabulary=2, length=2)
    divided = context_task([np.array([0, 1]), np.array([1, 0])], vocabulary=2, length=2)
    assert len(whole.contexts) == 2
    assert not len(divided.contexts)


def test_of_equally_frequent_ids_the_smaller_one_counts() -> None:
    task = context_task([np.array([7, 3, 7, 3])], vocabulary=2, length=1)
    assert task.contexts.tolist() == [[0], [1]]
    assert task.labels.tolist() == [1, 0]
