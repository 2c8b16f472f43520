"""Trees and passes, by hand."""

import numpy as np
import torch
from answer_requests import MAX_LENGTH, many_kinds_of_requests

from pipeline.evaluation.scorer.passes import NO_PREFIX, plan_passes
from pipeline.evaluation.scorer.sharing_scorer import tree_mask
from pipeline.evaluation.scorer.slices import AnswerRequest, sorted_sequences
from pipeline.evaluation.scorer.token_trees import make_tree, shared_length


def test_a_context_with_two_answers_by_hand() -> None:
    # Inputs 1 2 3 4 and 1 2 5: the context 1 2 is read once.
    sequences, _ = sorted_sequences([([1, 2], [3, 4, 9]), ([1, 2], [5, 6])], 8)
    tree = make_tree(sequences, 0)
    assert tree.tokens.tolist() == [1, 2, 3, 4, 5]
    assert tree.positions.tolist() == [0, 1, 2, 3, 2]
    assert tree.ends.tolist() == [5, 5, 4, 4, 5]
    assert tree.scored_nodes.tolist() == [1, 2, 3, 1, 4]
    assert tree.targets.tolist() == [3, 4, 9, 5, 6]
    assert tree.owners.tolist() == [0, 0, 0, 1, 1]
    assert not tree.is_chain


def test_a_tree_after_a_prefix_by_hand() -> None:
    sequences, _ = sorted_sequences([([7, 1, 2], [3, 4]), ([7, 1, 8], [5])], 8)
    tree = make_tree(sequences, 2)
    assert tree.tokens.tolist() == [2, 3, 8]
    assert tree.positions.tolist() == [2, 3, 2]
    assert tree.ends.tolist() == [2, 2, 3]
    assert tree.scored_nodes.tolist() == [0, 1, 2]


def test_the_mask_by_hand() -> None:
    ends = torch.tensor([[4, 2, 4, 4]])  # 1 ends before 2; 3 comes after 2
    mask = tree_mask(ends, torch.tensor([1]), 2, torch.float32)
    sees = (mask[0, 0] == 0).int().tolist()
    assert sees == [
        [1, 0, 1, 0, 0, 0],
        [1, 0, 1, 1, 0, 0],
        [1, 0, 1, 0, 1, 0],
        [1, 0, 1, 0, 1, 1],
    ]
    assert mask[0, 0, 0, 1] == torch.finfo(torch.float32).min


def test_shared_beginnings() -> None:
    for first, second, expected in (
        ([], [1], 0),
        ([1, 2], [1, 2, 3], 2),
        ([1, 2], [1, 3], 1),
        ([1], [2], 0),
        ([4, 5], [4, 5], 2),
    ):
        assert shared_length(np.array(first, np.int64), np.array(second, np.int64)) == expected


def tokens_read(requests: list[AnswerRequest]) -> int:
    """Return the tokens that the model reads for requests, with those that fill rows up."""
    sequences, _ = sorted_sequences(requests, 4096)
    passes = plan_passes(sequences, 2048)
    prefixes = {id(planned.prefixes): planned.prefixes.tokens.size for planned in passes}
    return sum(planned.tokens.size for planned in passes) + sum(prefixes.values())


def test_shared_tokens_are_read_once() -> None:
    def ids(number: int, count: int) -> list[int]:
        return [1000 * number + place for place in range(count)]

    # Choices: 20 + 4 x 9 inputs instead of 4 x 29.
    choices: list[AnswerRequest] = [(ids(1, 20), ids(2 + choice, 10)) for choice in range(4)]
    assert tokens_read(choices) == 20 + 4 * 9

    # One letter after a long question: the question, once.
    letters: list[AnswerRequest] = [(ids(1, 200), [choice]) for choice in range(4)]
    assert tokens_read(letters) == 200

    # Fixed examples before 40 questions: once.
    fixed: list[AnswerRequest] = [
        (ids(1, 600) + ids(number, 20), ids(100 + number + choice, 5))
        for number in range(2, 42)
        for choice in (0, 50)
    ]
    assert tokens_read(fixed) == 600 + 40 * (20 + 2 * 4)

    # Two options in one sentence (winogrande): its beginning once.
    options: list[AnswerRequest] = [(ids(1, 100) + ids(2 + o, 10), ids(9, 5)) for o in (0, 1)]
    assert tokens_read(options) == 100 + 2 * 14

    # A long context before its answers is read in a pass of its own.
    long: list[AnswerRequest] = [(ids(1, 900), ids(2 + choice, 11)) for choice in range(3)]
    sequences, _ = sorted_sequences(long, 4096)
    (planned,) = plan_passes(sequences, 2048)
    assert planned.prefixes.tokens.shape == (1, 899)
    assert planned.tokens.size == 1 + 3 * 10


def test_passes_hold_no_more_than_they_may() -> None:
    sequences, _ = sorted_sequences(many_kinds_of_requests(), MAX_LENGTH)
    for limit in (1, 80, 300):
        passes = plan_passes(sequences, limit)
        owners = np.concatenate([planned.owners for planned in passes])
        counts = np.bincount(owners, minlength=len(sequences)).tolist()
        assert counts == [sequence.answer_tokens for sequence in sequences]
        for planned in passes:
            rows, width = planned.tokens.shape
            assert rows == 1 or rows * width <= limit


def test_short_rows_after_a_long_prefix_are_few_in_a_pass() -> None:
    examples = list(range(1000))
    requests = [([*examples, 2000 + number], [1] * 20) for number in range(100)]
    sequences, _ = sorted_sequences(requests, 4096)
    passes = plan_passes(sequences, 500)
    assert {planned.prefixes.tokens.shape for planned in passes} == {(1, 1000)}
    # 16 * 500 keys are 7 rows of 1,020; 500 tokens would be 25 rows of 20.
    assert [len(planned.tokens) for planned in passes] == [7] * 14 + [2]


def test_a_single_text_needs_no_mask() -> None:
    sequences, _ = sorted_sequences([([0], list(range(1, 30))), ([5], [6, 7])], MAX_LENGTH)
    (planned,) = plan_passes(sequences, 100)
    assert planned.is_plain
    assert planned.prefixes is NO_PREFIX
