"""A slice is a function of its own requests: never of their order, of others, or of workers."""

import numpy as np
import pytest
from answer_requests import MAX_LENGTH, many_kinds_of_requests

from pipeline.evaluation.scorer import slices as slicing
from pipeline.evaluation.scorer.slices import AnswerRequest, slice_ranges, slices, sorted_sequences


@pytest.fixture(autouse=True)
def _small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slicing, "TOKENS_PER_SLICE", 100)


def requests_of_seeds(*seeds: int) -> list[AnswerRequest]:
    return [request for seed in seeds for request in many_kinds_of_requests(seed)]


def test_every_request_is_in_one_slice() -> None:
    requests = requests_of_seeds(0, 1)
    parts = slices(requests, MAX_LENGTH)
    assert sorted(place for part in parts for place in part) == list(range(len(requests)))
    assert slices([], MAX_LENGTH) == []


def test_the_slices_of_a_slice_are_itself() -> None:
    requests = requests_of_seeds(0, 1, 2)
    parts = slices(requests, MAX_LENGTH)
    assert len(parts) > 10
    for part in parts:
        of_part = slices([requests[place] for place in part], MAX_LENGTH)
        assert of_part == [list(range(len(part)))]


def test_slices_do_not_depend_on_the_order() -> None:
    requests = requests_of_seeds(0, 1)
    order = np.random.default_rng(2).permutation(len(requests)).tolist()
    shuffled = slices([requests[place] for place in order], MAX_LENGTH)
    assert [sorted(order[place] for place in part) for part in shuffled] == slices(
        requests, MAX_LENGTH
    )


def test_the_answers_to_a_context_stay_together() -> None:
    # 30 contexts of 20 tokens with 4 answers of one: a slice of 100 tokens ends after 5 contexts.
    requests = [([number] * 20, [choice]) for number in range(30) for choice in range(4)]
    assert slices(requests, MAX_LENGTH) == [
        list(range(start, start + 20)) for start in range(0, 120, 20)
    ]


def test_very_many_answers_to_one_context_are_divided() -> None:
    # One token and 3 more for each of 99 answers, which begin differently.
    requests = [([1], [2 + number, 0, 0, 0]) for number in range(99)]
    parts = slices(requests, MAX_LENGTH)
    assert [len(part) for part in parts] == [67, 32]  # 1 + 67 * 3 = 202 >= 2 * 100


def test_sequences_are_cut_as_the_reference_cuts_them() -> None:
    sequences, places = sorted_sequences([([1, 2, 3, 4], [5, 6]), ([3, 4], [5, 6])], 3)
    assert places == [0, 0]
    assert sequences[0].tokens.tolist() == [3, 4, 5, 6]
    assert (sequences[0].inputs, sequences[0].first_scored) == (3, 1)
    assert sequences[0].context.tolist() == [3, 4]
    assert slice_ranges(sequences) == [(0, 1)]


def test_large_ids_are_in_order() -> None:
    sequences, _ = sorted_sequences([([300], [2]), ([2], [70_000]), ([2], [3])], 8)
    assert [sequence.tokens.tolist() for sequence in sequences] == [[2, 3], [2, 70_000], [300, 2]]


@pytest.mark.parametrize("request_", [([], [1]), ([1], []), ([1], [1] * 9)])
def test_what_no_model_can_score_is_refused(request_: AnswerRequest) -> None:
    with pytest.raises(AssertionError):
        sorted_sequences([request_], 8)
