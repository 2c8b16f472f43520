"""Scores of single questions, computed by hand."""

import math

import numpy as np
import pytest
from cells_by_hand import answer, cell, question

from pipeline.evaluation.item_scores import chance, item_scores, standard_error, uniform_scores


def test_each_normalisation_may_choose_another_answer() -> None:
    answers = [
        answer(-2.0, "ab", tokens=1, unconditional=-1.0),  # the most likely one
        answer(-2.4, "abcdefgh", tokens=1, unconditional=-2.0),  # by character and byte
        answer(-3.0, "ööö", tokens=3, unconditional=-9.0),  # by token, and against no question
    ]
    expected = {"acc": 0, "acc_norm": 1, "acc_bytes": 1, "acc_token": 2, "acc_mutual_info": 2}
    for metric, chosen in expected.items():
        for right in range(3):
            scores = item_scores(cell([question(0, answers, [right])]))
            assert scores[metric].tolist() == [float(chosen == right)], (metric, right)


def test_probabilities_and_bits_of_the_right_answer() -> None:
    # Probabilities 1/2, 1/4, 1/4 after the softmax.
    likely = [
        answer(math.log(0.2), "abcd", 2),
        answer(math.log(0.1), "ab", 1),
        answer(math.log(0.1), "a", 1),
    ]
    scores = item_scores(cell([question(0, likely, [1]), question(1, likely, [0, 2])]))
    assert scores["choice_probability"] == pytest.approx([0.25, 0.75])
    # (1/2)^2 + (3/4)^2 + (1/4)^2, and (1/2)^2 + (1/4)^2 + (3/4)^2 with two right ones.
    assert scores["brier_score"] == pytest.approx([0.875, 0.875])
    # -log2(0.1) over two bytes, -log2(0.2) over four.
    assert scores["bits_per_byte"] == pytest.approx([math.log2(10) / 2, math.log2(5) / 4])
    assert "acc_mutual_info" not in scores, "no log-likelihoods without the question"


def test_greedy_answers_and_whole_texts() -> None:
    greedy = answer(-1.0, "x", 1) | {"is_greedy": True}
    other = answer(-math.log(16), "abcd", 2)
    one = cell([question(0, [greedy], [0]), question(1, [other], [0])], "loglikelihood")
    assert item_scores(one)["acc"].tolist() == [1, 0]
    text = cell([question(0, [other], [0])], "loglikelihood_rolling")
    assert item_scores(text)["bits_per_byte"] == pytest.approx([1.0])
    choices = item_scores(cell([question(0, [greedy, other], [0])]))
    assert choices["exact_match"].tolist() == [1]


def test_what_the_model_writes_has_the_metrics_of_the_harness() -> None:
    items = [question(0, [], [], exact_match=1.0), question(1, [], [], exact_match=0.0)]
    assert item_scores(cell(items, "generate_until"))["exact_match"].tolist() == [1, 0]


def test_uniform_probabilities_choose_the_fewest_tokens_and_share_ties() -> None:
    answers = [answer(0, "abcdef", 2, -1.0), answer(0, "ab", 1, -1.0), answer(0, "a", 1, -1.0)]
    two = cell([question(0, answers, [1]), question(1, answers, [0])])
    scores = uniform_scores(two, vocabulary=10)
    # One token: the second and third share the first place; the first answer never wins.
    assert scores["acc"] == pytest.approx((1 / 2 + 0) / 2)
    # Tokens per character: 1/3, 1/2, 1. The first answer has the fewest.
    assert scores["acc_norm"] == pytest.approx((0 + 1) / 2)
    assert scores["acc_token"] == scores["acc_mutual_info"] == pytest.approx(1 / 3)
    # Probabilities 10^-2, 10^-1, 10^-1: 1/21, 10/21, 10/21.
    assert scores["choice_probability"] == pytest.approx((10 / 21 + 1 / 21) / 2)


def test_equal_quotients_of_lengths_are_a_tie() -> None:
    answers = [answer(0, "abc", 1), answer(0, "abcdef" * 7, 14)]
    scores = uniform_scores(cell([question(0, answers, [0])]), vocabulary=50257)
    assert scores["acc_norm"] == 0.5


def test_scores_of_a_model_with_uniform_probabilities_are_the_uniform_scores() -> None:
    generator = np.random.default_rng(0)
    items = []
    for number in range(300):
        lengths = generator.integers(1, 6, 4)
        answers = [
            answer(
                -tokens * math.log(97) + generator.normal(0, 1e-9), "x" * (3 * tokens + 1), tokens
            )
            for tokens in map(int, lengths)
        ]
        items.append(question(number, answers, [int(generator.integers(4))]))
    scored = cell(items)
    means = {metric: values.mean() for metric, values in item_scores(scored).items()}
    errors = {metric: standard_error(values) for metric, values in item_scores(scored).items()}
    for metric, expected in uniform_scores(scored, 97).items():
        error = errors[metric]
        assert error is not None
        assert abs(means[metric] - expected) < 3 * error + 1e-6, metric


def test_standard_error_and_chance() -> None:
    assert standard_error(np.array([1.0, 0.0, 0.0, 1.0])) == pytest.approx(math.sqrt(1 / 3 / 4))
    assert standard_error(np.array([1.0])) is None
    two = question(0, [answer(0, "a", 1)] * 2, [1])
    three = question(1, [answer(0, "a", 1)] * 3, [0, 0, 2])
    assert chance([two, three]) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert chance([question(0, [answer(0, "a", 1)], [0])]) is None
