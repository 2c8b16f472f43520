"""Where two curves of the loss over compute cross."""

import math
from collections.abc import Callable

import numpy as np

from pipeline.planning.laws.loss_law import PowerLaw

LOWEST = 1.0
HIGHEST = 1e30
"""FLOPs between which crossings of power laws are looked for; the largest trainings took 1e26."""
STEPS_PER_DECADE = 8
"""Two crossings closer than a step are taken for none."""
ROUNDING = 1e-12
"""Share of a loss below which a difference is rounding."""


def crossings_of(
    first: Callable[[float], float], second: Callable[[float], float], low: float, high: float
) -> list[float]:
    """Return where two curves cross between two computes, in rising order; none for equal curves.

    `first`, `second`: the loss at a compute, in FLOPs.
    """
    # Not at the top: commands that only read laws would wait for it.
    from scipy.optimize import root_scalar

    def difference(log_flops: float) -> float:
        flops = math.exp(log_flops)
        return second(flops) - first(flops)

    steps = max(1, math.ceil(STEPS_PER_DECADE * math.log10(high / low)))
    found: list[float] = []
    last_place = math.nan
    last_difference = 0.0
    for place in np.linspace(math.log(low), math.log(high), steps + 1):
        here = difference(float(place))
        if abs(here) < ROUNDING * second(math.exp(place)):
            continue
        if here * last_difference < 0:
            root = root_scalar(difference, bracket=(last_place, float(place)), xtol=1e-13).root
            found.append(math.exp(float(root)))
        last_place = float(place)
        last_difference = here
    return found


def crossing(first: PowerLaw, second: PowerLaw) -> float | None:
    """Return the compute from which on the order of two laws of compute does not change any more.

    None where the laws do not cross: they are equal, or one is better everywhere.
    """
    found = crossings_of(first.loss, second.loss, LOWEST, HIGHEST)
    if not found:
        return None
    return found[-1]


def crossing_words(first: PowerLaw, second: PowerLaw) -> str:
    """Return what `crossing` found, in words."""
    flops = crossing(first, second)
    if flops is not None:
        better = min(first, second, key=lambda law: law.loss(10 * flops))
        return f"{better.name} is better from {flops:.4g} FLOPs on"
    if first.loss(LOWEST) == second.loss(LOWEST) and first.loss(HIGHEST) == second.loss(HIGHEST):
        return f"{first.name} and {second.name} are not separable"
    better = min(first, second, key=lambda law: law.loss(LOWEST))
    return f"{better.name} is better at every compute"
