"""The best rate of each batch, by hand."""

import math

import pytest

from pipeline.planning.batch_size.hyperbola import StepsToTarget
from pipeline.planning.batch_size.target import TargetMissed, TargetReached
from pipeline.planning.batch_size.tuned_rate import (
    TargetTry,
    largest_within,
    lowest_common_target,
    tuned_batches,
)


def attempt(batch: int, rate: float, tokens: float | None) -> TargetTry:
    missed = TargetMissed("its lowest loss is 5.0000")
    result = missed if tokens is None else TargetReached(tokens, tokens)
    return TargetTry(f"b{batch}-{rate:g}", batch, rate, result)


def test_the_rate_with_the_fewest_tokens_counts() -> None:
    tries = [attempt(10, rate, tokens) for rate, tokens in ((1, 900), (0.5, 1000), (2, 950))]
    (tuned,) = tuned_batches(tries)
    assert (tuned.batch, tuned.rate_factor, tuned.rates_tried) == (10, 1, (0.5, 1, 2))
    assert tuned.tokens == pytest.approx(900)
    assert tuned.steps == pytest.approx(90)
    assert tuned.open_side == ""
    assert tuned.results() == [StepsToTarget(10, 90)]


def test_seeds_are_averaged_in_logarithms_and_all_have_to_reach_the_target() -> None:
    tries = [attempt(10, 1, 400), attempt(10, 1, 900), attempt(10, 2, 300), attempt(10, 2, None)]
    (tuned,) = tuned_batches(tries)
    assert tuned.rate_factor == 1
    assert tuned.tokens == pytest.approx(math.sqrt(400 * 900))
    assert [result.steps for result in tuned.results()] == [40, 90]


@pytest.mark.parametrize(("best", "side"), [(0.5, "lower"), (1, ""), (2, "higher")])
def test_a_best_rate_at_the_end_of_those_tried_is_said(best: float, side: str) -> None:
    tries = [attempt(10, rate, 100 if rate == best else 200) for rate in (0.5, 1, 2)]
    assert tuned_batches(tries)[0].open_side == side


def test_a_rate_that_missed_the_target_bounds_the_best_one() -> None:
    tries = [attempt(10, 0.5, None), attempt(10, 1, 100), attempt(10, 2, None)]
    assert tuned_batches(tries)[0].open_side == ""


def test_a_single_rate_is_open() -> None:
    assert tuned_batches([attempt(10, 1, 100)])[0].open_side == "higher"


def test_a_batch_that_missed_the_target_is_left_out_and_the_smallest_comes_first() -> None:
    tries = [attempt(40, 1, 100), attempt(20, 1, None), attempt(10, 1, 100)]
    assert [tuned.batch for tuned in tuned_batches(tries)] == [10, 40]


def test_the_target_that_every_batch_reached() -> None:
    assert lowest_common_target([(10, 3.0), (10, 2.5), (20, 2.75), (20, 4.0)]) == 2.75


def test_batches_are_as_good_until_the_first_that_is_worse() -> None:
    losses = {10: 3.0, 20: 2.9, 40: 3.01, 80: 3.02, 160: 3.0}
    assert largest_within(losses, 0.0125) == 40
    assert largest_within(losses, 0.1) == 160
    assert largest_within({10: 3.0}, 0.01) == 10


def test_a_batch_that_was_there_before_anything_was_measured_is_left_out() -> None:
    early = TargetTry("early", 10, 2.0, TargetMissed("there", is_early=True))
    assert tuned_batches([attempt(10, 1, 100), early]) == []
