"""The order by throughput beside that by time to a target, by hand."""

from dataclasses import replace

import pytest

from pipeline.planning.time_to.rank_orders import orders_sentence, rank_orders
from pipeline.planning.time_to.targets import Arrival, Target
from pipeline.planning.time_to.timed_run import Reading, TimedRun

TARGET = Target(3.0)


def arrived(
    recipe: str,
    speed: float,
    seconds: float | None,
    left_out: str = "",
    is_early: bool = False,
    interval: float = 0.0,
    looked_at: float | None = None,
) -> Arrival:
    run = TimedRun(recipe, recipe, 1, 10, speed, [], {}, left_out)
    if seconds is None:
        # Looked at for longer than any other recipe took, and never there.
        last = Reading(3, 30, 9.0, 1000.0 if looked_at is None else looked_at, None, None)
        run = replace(run, losses=[last])
        return Arrival(run, TARGET, None, is_early=is_early)
    at = Reading(2, 20, 3.0, seconds, seconds, None)
    before = Reading(1, 10, 4.0, seconds - interval, seconds - interval, None)
    return Arrival(run, TARGET, at, before, is_early=is_early)


def test_orders_that_disagree_are_counted_in_pairs() -> None:
    """a is the fastest and arrives last, b and c are in the same order in both; d never arrives."""
    orders = rank_orders(
        [arrived("b", 20, 50), arrived("a", 30, 90), arrived("c", 10, 60), arrived("d", 5, None)]
    )
    assert [(each.name, each.throughput_rank, each.time_rank) for each in orders.recipes] == [
        ("a", 1, 3),
        ("b", 2, 1),
        ("c", 3, 2),
        ("d", 4, None),
    ]
    assert (orders.disagreeing, orders.pairs) == (2, 6)
    assert orders_sentence(orders, "loss 3") == (
        "By tokens/s: a (30), b (20), c (10), d (5). By time to loss 3: b (50.0 s), c (60.0 s), "
        "a (90.0 s); not reached by d. The two orders disagree in 2 of 6 pairs: throughput is "
        "necessary, not sufficient."
    )


def test_orders_that_agree_are_said_to_agree() -> None:
    orders = rank_orders([arrived("a", 30, 40), arrived("b", 20, 50)])
    assert orders.disagreeing == 0
    assert "Here the two orders agree" in orders_sentence(orders, "loss 3")


def test_the_fastest_that_never_arrives_disagrees_with_all_that_do() -> None:
    orders = rank_orders([arrived("a", 30, None), arrived("b", 20, 50), arrived("c", 10, None)])
    # a and c: neither arrived, so nothing is compared.
    assert (orders.disagreeing, orders.pairs) == (1, 2)


def test_a_recipe_that_was_there_before_its_first_reading_is_in_no_pair() -> None:
    early = arrived("a", 30, None, is_early=True)
    orders = rank_orders([early, arrived("b", 20, 50), arrived("c", 10, 40)])
    assert (orders.disagreeing, orders.pairs) == (1, 1)
    assert "; before its first reading, and so in no pair: a. The two" in orders_sentence(
        orders, "loss 3"
    )
    assert orders_sentence(rank_orders([early, arrived("b", 20, 50)]), "loss 3") == ""


def test_pairs_within_one_interval_between_readings_are_not_compared() -> None:
    """a was there between 30 and 40 s, b between 35 and 45 s, c between 40 and 50 s."""
    orders = rank_orders(
        [
            arrived("a", 30, 40, interval=10),
            arrived("b", 20, 45, interval=10),
            arrived("c", 10, 50, interval=10),
        ]
    )
    assert (orders.disagreeing, orders.pairs, orders.untold) == (0, 1, 2)
    assert "; in 2 pairs the seeds or the interval between readings leave an order open. Here" in (
        orders_sentence(orders, "loss 3")
    )


def test_pairs_whose_seeds_overlap_in_speed_are_not_compared() -> None:
    seeds = [arrived("a", 10, 20), arrived("a", 40, 30), arrived("b", 20, 90), arrived("b", 15, 80)]
    orders = rank_orders(seeds)
    assert orders.recipes[0].speeds == (10, 40)
    assert orders.recipes[0].times == (20, 30)
    assert (orders.disagreeing, orders.pairs, orders.untold) == (0, 0, 1)


def test_a_recipe_that_ended_before_the_other_arrived_may_have_been_first() -> None:
    """a is not there after 44 s, where its training ends; b was there between 35 and 45 s."""
    slow = arrived("b", 20, 45, interval=10)
    orders = rank_orders([arrived("a", 30, None, looked_at=44), slow])
    assert (orders.disagreeing, orders.pairs, orders.untold) == (0, 0, 1)
    orders = rank_orders([arrived("a", 30, None, looked_at=46), slow])
    assert (orders.disagreeing, orders.pairs, orders.untold) == (1, 1, 0)


def test_speeds_within_two_percent_are_no_order() -> None:
    """103 x .98 is below 100 x 1.02, 105 x .98 above it."""
    slow = arrived("b", 100, 20)
    assert rank_orders([arrived("a", 103, 90), slow]).untold == 1
    assert rank_orders([arrived("a", 105, 90), slow]).untold == 0


def test_many_recipes_are_not_all_named() -> None:
    orders = rank_orders([arrived(f"r{i}", 30 - i, 10 + i) for i in range(10)])
    assert "r7 (23) and 2 more. By time" in orders_sentence(orders, "loss 3")


def test_seeds_of_a_recipe_are_averaged_and_all_have_to_arrive() -> None:
    orders = rank_orders([arrived("a", 10, 20), arrived("a", 40, 80), arrived("b", 5, 5)])
    (first, second) = orders.recipes
    assert (first.tokens_per_second, first.seconds) == pytest.approx((20, 40))
    assert second.name == "b"
    orders = rank_orders([arrived("a", 10, 20), arrived("a", 40, None), arrived("b", 5, 5)])
    assert orders.recipes[0].seconds is None


def test_one_recipe_has_no_order() -> None:
    orders = rank_orders([arrived("a", 10, 20), arrived("b", 20, 30, left_out="other text")])
    assert orders_sentence(orders, "loss 3") == ""
    assert orders_sentence(rank_orders([arrived("a", 1, None), arrived("b", 2, None)]), "x") == ""
    # A run of which no event tells the time is in neither order.
    reached = Arrival(arrived("c", 30, 1).run, TARGET, Reading(1, 10, 3.0, None, None, None))
    assert rank_orders([reached]).recipes == []
