"""Whether throughput tells which recipe reaches a target first: two orders of the same runs. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from pipeline.errors import first_of
from pipeline.logs import counted_noun
from pipeline.planning.time_to.targets import Arrival

MOST_NAMED = 8
"""Recipes that a sentence names; the table has all."""
SPEED_ERROR = 0.02
"""Share by which the tokens a second of a run may be others when it is made again, both ways."""


@dataclass(frozen=True)
class RankedRecipe:
    """A recipe in both orders; means over its seeds."""

    name: str
    tokens_per_second: float
    seconds: float | None
    """To the target; None where a seed did not reach it, or nothing tells the time."""
    speeds: tuple[float, float]
    """Lowest and highest tokens a second of its seeds."""
    times: tuple[float, float]
    """Since when, at the earliest, and until when, at the latest, a seed can have reached the target:
    from the reading before, or from the last one of a seed that is not there yet, to infinity."""
    is_early: bool
    """Whether a seed was at the target at its first reading already: it may have been the first of all."""
    throughput_rank: int
    """From 1, the most tokens a second."""
    time_rank: int | None
    """From 1, the shortest time; None without a time."""


@dataclass(frozen=True)
class RankOrders:
    """Both orders, by the target."""

    recipes: Sequence[RankedRecipe]
    """By throughput, the fastest first."""
    disagreeing: int
    """Pairs of recipes that one order has the other way round. One that did not reach the target comes
    after all that did."""
    pairs: int
    """Pairs that are compared: none of both was too early, at least one reached the target, and the
    order of both is told by the readings."""
    untold: int
    """Pairs that are not compared, as seeds or the interval between readings may change an order."""


def rank_orders(arrivals: Sequence[Arrival]) -> RankOrders:
    """Return both orders of the recipes for one target.

    Runs that are left out, and those whose time is not recorded, are in none.
    """
    # Geometric means over the seeds of a recipe.
    by_recipe: dict[str, list[Arrival]] = {}
    for each in arrivals:
        is_timeless = each.at is not None and each.seconds is None
        if not each.run.left_out and not is_timeless:
            by_recipe.setdefault(each.run.recipe, []).append(each)
    throughputs = {
        recipe: _mean([each.run.tokens_per_second for each in own])
        for recipe, own in by_recipe.items()
    }
    times = {recipe: _mean_time(own) for recipe, own in by_recipe.items()}

    # Both orders.
    by_throughput = sorted(by_recipe, key=lambda recipe: -throughputs[recipe])
    timed = {recipe: seconds for recipe, seconds in times.items() if seconds is not None}
    by_time = sorted(timed, key=lambda recipe: timed[recipe])
    recipes = [
        RankedRecipe(
            name=recipe,
            tokens_per_second=throughputs[recipe],
            seconds=times[recipe],
            speeds=_range([each.run.tokens_per_second for each in by_recipe[recipe]]),
            times=_possible_times(by_recipe[recipe]),
            is_early=any(each.is_early for each in by_recipe[recipe]),
            throughput_rank=number,
            time_rank=by_time.index(recipe) + 1 if recipe in timed else None,
        )
        for number, recipe in enumerate(by_throughput, start=1)
    ]

    # Pairs: the first of each has the higher throughput.
    comparable = [recipe for recipe in recipes if not recipe.is_early]
    arrived = [
        pair
        for pair in combinations(comparable, 2)
        if any(each.time_rank is not None for each in pair)
    ]
    compared = [pair for pair in arrived if _is_told(*pair)]
    disagreeing = [pair for pair in compared if _last(pair[0]) > _last(pair[1])]
    return RankOrders(recipes, len(disagreeing), len(compared), len(arrived) - len(compared))


def _is_told(one: RankedRecipe, other: RankedRecipe) -> bool:
    """Tell whether no seed and no interval between readings could change an order of two recipes."""
    if _overlap(_with_error(one.speeds), _with_error(other.speeds)):
        return False
    return not _overlap(one.times, other.times)


def _with_error(speeds: tuple[float, float]) -> tuple[float, float]:
    return speeds[0] * (1 - SPEED_ERROR), speeds[1] * (1 + SPEED_ERROR)


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return max(one[0], other[0]) < min(one[1], other[1])


def _range(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _possible_times(arrivals: Sequence[Arrival]) -> tuple[float, float]:
    """Return when a seed can have been at the target, at the earliest and at the latest."""
    earliest: list[float] = []
    latest: list[float] = []
    for each in arrivals:
        if each.seconds is not None:
            earliest.append(each.seconds - (each.interval_seconds or 0.0))
            latest.append(each.seconds)
        else:
            earliest.append(_last_reading(each))
            latest.append(math.inf)
    return min(earliest), max(latest)


def _last_reading(arrival: Arrival) -> float:
    """Return until when a run was looked at that did not reach its target, in seconds."""
    times = [reading.seconds for reading in arrival.target.readings(arrival.run)]
    return max((seconds for seconds in times if seconds is not None), default=0.0)


def _last(recipe: RankedRecipe) -> float:
    """Return the place in the order by time; behind all others where the target was not reached."""
    return math.inf if recipe.time_rank is None else recipe.time_rank


def _mean(values: Sequence[float]) -> float:
    """Return the geometric mean; of one value itself, without rounding."""
    if len(values) == 1:
        return values[0]
    return math.exp(sum(map(math.log, values)) / len(values))


def _mean_time(arrivals: Sequence[Arrival]) -> float | None:
    """Return the geometric mean of the times of all seeds; None where one has none."""
    known = [each.seconds for each in arrivals if each.seconds]
    if len(known) < len(arrivals):
        return None
    return _mean(known)


def orders_sentence(orders: RankOrders, target: str) -> str:
    """Return both orders in words, and whether throughput would have told the winner.

    Empty where no two recipes can be compared.
    """
    if not orders.pairs:
        return ""

    # Both orders, and who is not in that by time.
    timed = [recipe for recipe in orders.recipes if recipe.time_rank is not None]
    by_speed = [f"{recipe.name} ({recipe.tokens_per_second:,.0f})" for recipe in orders.recipes]
    by_time = [
        f"{recipe.name} ({recipe.seconds:,.1f} s)"
        for recipe in sorted(timed, key=lambda recipe: recipe.time_rank or 0)
    ]
    sentence = f"By tokens/s: {first_of(by_speed, MOST_NAMED)}. By time to {target}: {first_of(by_time, MOST_NAMED)}"
    early = [recipe.name for recipe in orders.recipes if recipe.is_early]
    missed = [
        recipe.name for recipe in orders.recipes if recipe.time_rank is None and not recipe.is_early
    ]
    if missed:
        sentence += f"; not reached by {first_of(missed, MOST_NAMED)}"
    if early:
        sentence += f"; before its first reading, and so in no pair: {first_of(early, MOST_NAMED)}"

    if orders.untold:
        counted = counted_noun(orders.untold, "pair")
        sentence += f"; in {counted} the seeds or the interval between readings leave an order open"

    # What they say together.
    if orders.disagreeing:
        return (
            f"{sentence}. The two orders disagree in {orders.disagreeing} of {orders.pairs} pairs: "
            "throughput is necessary, not sufficient."
        )
    return (
        f"{sentence}. Here the two orders agree, which a faster recipe that learns less would not."
    )
