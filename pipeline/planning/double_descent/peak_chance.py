"""Whether all seeds have a peak at the same size, and how often chance alone shows one as clear.

The highest of several noisy means is a peak, whatever was measured, and so is the value of each seed
that made it the highest. So the places of the peak and of the minima at both sides are chosen on all
seeds but one, and that one is tested there. Reads and writes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

ORDERS = 4000
"""Random orders in which the values of the seeds are tried."""
SEED = 0


@dataclass(frozen=True)
class PeakTest:
    """What the seeds show at the places that the others have chosen."""

    peak_seeds: int
    """Seeds that are lower at both minima than at the peak."""
    lower_seeds: int
    """Those of them that are lower at the last minimum than at the first one."""
    chance: float
    """Share of random orders in which all seeds show a peak, the least clear one at least as high above
    its minima as the least clear one here; 1 where a seed shows none."""


def peak_test(values: Array, *, orders: int = ORDERS, seed: int = SEED) -> PeakTest:
    """Return what each seed shows where the others have their peak.

    `values`: `(seeds, sizes)`, two seeds and three sizes at least, without gaps. The random orders
    shuffle the values of each seed over the sizes, by themselves: where a size says nothing of the
    value, no order is more likely than another, so that a chance below 0.05 is met in one of twenty
    studies of noise, whatever the number of seeds and sizes.
    """
    rises, falls = _at_places_of_others(values[np.newaxis])
    heights = np.minimum(rises, falls)[0]
    ends_lower = (rises < falls)[0]
    is_peak = heights > 0
    chance = 1.0
    if is_peak.all():
        generator = np.random.default_rng(seed)
        shuffled = generator.permuted(np.repeat(values[np.newaxis], orders, axis=0), axis=2)
        rises_by_chance, falls_by_chance = _at_places_of_others(shuffled)
        lowest = np.minimum(rises_by_chance, falls_by_chance).min(axis=1)
        as_clear = int((lowest >= heights.min()).sum())
        # The order that was measured is one of them.
        chance = (1 + as_clear) / (1 + orders)
    return PeakTest(int(is_peak.sum()), int((is_peak & ends_lower).sum()), chance)


def _at_places_of_others(studies: Array) -> tuple[Array, Array]:
    """Return how far each seed's peak is above its first and its last minimum, `(studies, seeds)`.

    `studies`: `(studies, seeds, sizes)`. The places are those of the mean over the other seeds; both
    heights are -inf where that has no peak inside.
    """
    rises: list[Array] = []
    falls: list[Array] = []
    row = np.arange(len(studies))
    for left_out in range(studies.shape[1]):
        first, peak, last, has_peak = _places(np.delete(studies, left_out, axis=1).mean(axis=1))
        own = studies[:, left_out]
        rises.append(np.where(has_peak, own[row, peak] - own[row, first], -np.inf))
        falls.append(np.where(has_peak, own[row, peak] - own[row, last], -np.inf))
    return np.stack(rises, axis=1), np.stack(falls, axis=1)


def _places(curves: Array) -> Sequence[npt.NDArray[np.intp]]:
    """Return first minimum, peak, last minimum, and whether there is a peak, of curves `(curves, sizes)`.

    The peak is where a curve is highest above the higher one of the lowest values at both sides.
    """
    lowest_before = np.minimum.accumulate(curves, axis=1)
    lowest_after = np.minimum.accumulate(curves[:, ::-1], axis=1)[:, ::-1]
    heights = curves[:, 1:-1] - np.maximum(lowest_before[:, :-2], lowest_after[:, 2:])
    peak = 1 + heights.argmax(axis=1)
    size = np.arange(curves.shape[1])
    first = np.where(size < peak[:, np.newaxis], curves, np.inf).argmin(axis=1)
    last = np.where(size > peak[:, np.newaxis], curves, np.inf).argmin(axis=1)
    return first, peak, last, heights.max(axis=1) > 0
