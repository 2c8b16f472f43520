"""Comparisons against hand computations, scipy's tests and permutations counted one by one."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.evaluation.comparing.paired_tests import (
    ALPHA,
    POWER,
    holm,
    least_changed_items,
    mcnemar_p_value,
    mean_of_tasks,
    noise_around_trend,
    noise_of_difference,
    paired_difference,
    paired_t_p_value,
    smallest_visible_difference,
)


def test_a_difference_by_hand() -> None:
    """Ten questions: the second model gains three and loses one."""
    first = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], float)
    second = np.array([1, 1, 1, 0, 1, 1, 1, 0, 0, 0], float)
    result = paired_difference(first, second)
    assert result.items == 10
    assert result.difference == pytest.approx(0.2, abs=1e-15)
    # differences: three of 1, one of -1, six of 0; sum of squares 4 - 10 * 0.04 = 3.6
    assert result.standard_error == pytest.approx(math.sqrt(3.6 / 9 / 10), abs=1e-15)
    assert result.test == "McNemar"
    # 4 changed: twice P(at most 1 of 4) = 2 * 5 / 16
    assert result.p_value == 0.625
    # 6 of 10 must change at least: 2 / 2^6 = 0.03, and 2 / 2^5 = 0.06 is too large
    assert least_changed_items() == 6
    assert result.smallest_visible == pytest.approx(max(0.6, (2.262157 + 0.883404) * 0.2), abs=1e-6)


def test_a_difference_of_other_scores_by_hand() -> None:
    first = np.array([1.0, 2.0, 3.0, 4.0])
    second = np.array([1.5, 2.5, 4.5, 5.5])
    result = paired_difference(first, second)
    assert result.test == "paired t"
    assert result.difference == 1.0
    assert result.standard_error == pytest.approx(math.sqrt(1 / 3 / 4))  # differences .5 .5 1.5 1.5
    expected = stats.ttest_rel(second, first)
    assert result.p_value == pytest.approx(expected.pvalue, rel=1e-12)
    freedom = stats.t(3)
    assert result.smallest_visible == pytest.approx(
        (freedom.ppf(1 - ALPHA / 2) + freedom.ppf(POWER)) * math.sqrt(1 / 12), rel=1e-9
    )


def permutation_p_value(differences: np.ndarray) -> float:
    """Return the share of all choices of signs whose sum is as far from 0 as the one seen."""
    seen = abs(differences.sum())
    changed = differences[differences != 0]
    sums = [
        abs((changed * signs).sum()) for signs in itertools.product((1, -1), repeat=len(changed))
    ]
    return float(np.mean([total >= seen - 1e-9 for total in sums]))


@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=11))
def test_mcnemar_is_the_share_of_all_signs(changes: list[int]) -> None:
    differences = np.array(changes, float)
    gained = int((differences > 0).sum())
    lost = int((differences < 0).sum())
    expected = permutation_p_value(differences)
    assert mcnemar_p_value(gained, lost) == pytest.approx(expected, abs=1e-12)
    binomial = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar_p_value(gained, lost) == pytest.approx(binomial, abs=1e-12)


def test_the_paired_t_is_near_the_share_of_all_signs() -> None:
    generator = np.random.default_rng(1)
    differences = generator.normal(0.4, 1, 14)
    result = paired_difference(np.zeros(14), differences)
    assert result.p_value == pytest.approx(permutation_p_value(differences), abs=0.02)


def test_a_thousand_questions_have_an_exact_p_value() -> None:
    assert mcnemar_p_value(600, 400) == pytest.approx(stats.binomtest(600, 1000).pvalue, rel=1e-9)
    assert mcnemar_p_value(5000, 5000) == 1.0


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_the_smallest_visible_difference_is_found_as_often_as_stated(scale: float) -> None:
    """Of 4,000 samples with that true difference, a share of POWER gives p below ALPHA."""
    items = 60
    size = smallest_visible_difference(scale / math.sqrt(items), items)
    samples = np.random.default_rng(2).normal(size, scale, (4000, items))
    found = np.mean([paired_difference(np.zeros(items), row).p_value < ALPHA for row in samples])
    assert found == pytest.approx(POWER, abs=4 * math.sqrt(POWER * (1 - POWER) / 4000))


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([], []),
        ([0.04], [0.04]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # 3 x .01; 2 x .03; .04, not below .06
        ([0.5, 0.6, 0.02], [1.0, 1.0, 0.06]),
        ([0.02, 0.02], [0.04, 0.04]),
    ],
)
def test_holm_by_hand(p_values: list[float], expected: list[float]) -> None:
    assert holm(p_values) == pytest.approx(expected)


def test_a_mean_of_tasks_by_hand() -> None:
    result = mean_of_tasks([0.1, 0.3], [0.03, 0.04])
    assert result.mean == pytest.approx(0.2)
    assert result.standard_error == pytest.approx(0.025)  # sqrt(.0009 + .0016) / 2
    assert result.p_value == pytest.approx(2 * stats.norm.sf(8), rel=1e-9)
    assert result.smallest_visible == pytest.approx((1.959964 + 0.841621) * 0.025, rel=1e-6)
    assert mean_of_tasks([0.1], [None]).p_value is None
    assert mean_of_tasks([0.0], [0.0]).p_value == 1.0


def test_noise_is_what_is_left_beside_the_trend() -> None:
    # 1 above the line of its neighbours, then 1 below: both squares times 1 / (1 + 1/4 + 1/4)
    assert noise_around_trend([0, 1, 2, 3], [0, 1, 0, 1]) == pytest.approx(math.sqrt(2 / 3))
    # the neighbours of 1 are 0 and 4: their line is at 1/4 x 8 = 2; those of 4 are 1 and 8
    assert noise_around_trend([0, 1, 4, 8], [0, 5, 8, 8]) == pytest.approx(
        math.sqrt(
            (3**2 / (1 + 9 / 16 + 1 / 16) + (8 - 5 * 4 / 7 - 8 * 3 / 7) ** 2 / (1 + 25 / 49)) / 2
        )
    )
    assert noise_around_trend([1, 2, 4, 7], [5, 7, 11, 17]) == pytest.approx(0, abs=1e-12)
    assert noise_around_trend([0, 1, 2], [1, 2, 4]) is None


def test_noise_on_a_bent_trend_is_found() -> None:
    generator = np.random.default_rng(3)
    tokens = np.linspace(1, 10, 400)
    scores = np.log(tokens) + generator.normal(0, 0.05, 400)
    assert noise_around_trend(tokens.tolist(), scores.tolist()) == pytest.approx(0.05, rel=0.1)


def test_noise_of_a_difference() -> None:
    assert noise_of_difference(3.0, 4.0) == 5.0
    assert noise_of_difference(None, 1.0) == pytest.approx(math.sqrt(2))
    assert noise_of_difference(None, None) is None


def test_what_is_too_little_to_test() -> None:
    single = paired_difference(np.array([1.0]), np.array([0.0]))
    assert (single.p_value, single.standard_error, single.smallest_visible) == (None, None, None)
    same = paired_difference(np.array([1.0, 0.0] * 6), np.array([1.0, 0.0] * 6))
    assert same.p_value == 1.0
    assert same.smallest_visible == 0.5  # 6 of 12
    few = paired_difference(np.array([1.0, 0.0]), np.array([0.0, 0.0]))
    assert few.smallest_visible is None  # 6 of 2 would have to change
    assert paired_t_p_value(0.0, 0.0, 5) == 1.0
    assert paired_t_p_value(0.5, 0.0, 5) == 0.0
