"""Coefficients of merges by hand."""

import math
from itertools import pairwise

import pytest

from pipeline.config.evaluation_section import MergeWeights
from pipeline.evaluation.merged import merge_coefficients, merged_steps_in_words


def test_a_merge_of_one_is_that_checkpoint() -> None:
    for weights in ("uniform", "linear", "minus-sqrt"):
        assert merge_coefficients([70], weights) == [1.0]


def test_uniform_weights_do_not_depend_on_the_steps() -> None:
    assert merge_coefficients([1, 10, 100, 1000], "uniform") == [0.25] * 4


def test_a_linear_decay_over_three_steps() -> None:
    # From step 10 to 30 the rate falls from 1 to 0: on average 3/4 in the first half, 1/4 in the
    # second. So c = 1 - 3/4, 3/4 - 1/4, 1/4.
    assert merge_coefficients([10, 20, 30], "linear") == pytest.approx([0.25, 0.5, 0.25])
    # The first update covers a quarter of the way, with a mean rate of 7/8, the second the rest.
    assert merge_coefficients([0, 10, 40], "linear") == pytest.approx([1 / 8, 1 / 2, 3 / 8])


def test_a_decay_by_the_square_root_over_three_steps() -> None:
    # The mean of 1 - sqrt(x) is 1 - (2/3) (b^1.5 - a^1.5) / (b - a).
    first = 1 - 2 / 3 * 0.5**1.5 / 0.5
    second = 1 - 2 / 3 * (1 - 0.5**1.5) / 0.5
    assert merge_coefficients([10, 20, 30], "minus-sqrt") == pytest.approx(
        [1 - first, first - second, second]
    )


@pytest.mark.parametrize("weights", ["uniform", "linear", "minus-sqrt"])
def test_the_merge_is_the_sum_of_scaled_updates(weights: MergeWeights) -> None:
    steps = [3, 4, 9, 20, 21]
    values = [5.0, 3.0, 4.0, -1.0, 0.5]
    coefficients = merge_coefficients(steps, weights)
    assert math.isclose(sum(coefficients), 1, rel_tol=1e-12)
    merged = sum(c * value for c, value in zip(coefficients, values, strict=True))
    # theta_0 + w_1 (theta_1 - theta_0) + ..., where w_i is the sum of the later coefficients.
    scales = [sum(coefficients[place:]) for place in range(1, len(steps))]
    updates = [after - before for before, after in pairwise(values)]
    scaled = values[0] + sum(w * update for w, update in zip(scales, updates, strict=True))
    assert math.isclose(merged, scaled, rel_tol=1e-12)
    assert scales == sorted(scales, reverse=True), "later updates are scaled down more"


def test_merges_of_other_steps_have_other_words() -> None:
    assert merged_steps_in_words([512]) == "step 512"
    assert merged_steps_in_words([128, 512, 586]) == "steps 128, 512 and 586"
    assert merged_steps_in_words([256, 512, 586]) == "steps 256, 512 and 586"
    many = merged_steps_in_words([1, 2, 3, 4, 5, 586])
    assert many.startswith("6 checkpoints to step 586 (")
    assert merged_steps_in_words([1, 2, 3, 4, 6, 586]) != many
