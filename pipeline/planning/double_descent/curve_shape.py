"""The shape of a measure over the size of a model: where it falls, rises, and falls again.

A peak counts where every seed shows it at the places of the others, and chance seldom does. Reads and
writes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from pipeline.planning.double_descent.peak_chance import PeakTest, peak_test

MOST_CHANCE = 0.05
"""Largest share of random studies that may show as much as a study whose peak counts."""


@dataclass(frozen=True)
class SeedBand:
    """A measure at one size, over seeds."""

    x: float
    mean: float
    low: float | None
    """Smallest value of a seed; None with a single seed, which shows no band."""
    high: float | None


@dataclass(frozen=True)
class DescentShape:
    """First descent, peak and second descent of a curve that has a peak inside."""

    first_minimum: SeedBand
    """The lowest mean at a smaller size than the peak's."""
    peak: SeedBand
    last_minimum: SeedBand
    """The lowest mean at a larger size than the peak's."""
    seeds: int
    """Seeds that were measured at every size: those that are tested."""
    test: PeakTest | None
    """What each of them shows where the others have their peak; None with fewer than two."""

    @property
    def has_peak_in_every_seed(self) -> bool:
        """Whether every seed has a peak at the place that the others have chosen."""
        return self.test is not None and self.test.peak_seeds == self.seeds

    @property
    def has_peak(self) -> bool:
        """Whether every seed has the peak, and values in random order seldom do."""
        return (
            self.test is not None
            and self.has_peak_in_every_seed
            and self.test.chance <= MOST_CHANCE
        )

    @property
    def lower_chance(self) -> float:
        """Chance that all seeds end below the first minimum where both minima are equal: 1 / 2^seeds.

        That is of seeds that are independent. As they choose each other's places, it is a little more.
        """
        return 0.5**self.seeds

    @property
    def is_lower_in_every_seed(self) -> bool:
        """Whether every seed has the peak and ends below its first minimum."""
        return self.test is not None and self.test.lower_seeds == self.seeds

    @property
    def is_below_first(self) -> bool:
        """Whether the second descent ends below the first in every seed, and seldom does by chance."""
        return self.has_peak and self.is_lower_in_every_seed and self.lower_chance <= MOST_CHANCE


SeedValues = Mapping[int, float]
"""Seed -> value."""


def seed_bands(curve: Mapping[float, SeedValues]) -> list[SeedBand]:
    """Return mean and range over seeds at each x, ascending. `curve`: x -> values of its seeds.

    The mean is within the range, as it is computed exactly and rounded once. `fmean` rounds twice: of
    three seeds at 0.4 it returns 0.4000000000000001.
    """
    bands: list[SeedBand] = []
    for x in sorted(curve):
        values = list(curve[x].values())
        low = None
        high = None
        if len(values) > 1:
            low = min(values)
            high = max(values)
        bands.append(SeedBand(x, mean(values), low, high))
    return bands


def descent_shape(curve: Mapping[float, SeedValues]) -> DescentShape | None:
    """Return the shape of a curve, None where its mean has no peak inside.

    The peak is the x at which the mean is highest above both the lowest mean at smaller x and the
    lowest one at larger x: above the higher of the two. Seeds that lack an x are not tested.
    """
    # The most prominent peak of the means.
    bands = seed_bands(curve)
    prominences = [_prominence(bands, place) for place in range(1, len(bands) - 1)]
    if not prominences or max(prominences) <= 0:
        return None
    place = 1 + prominences.index(max(prominences))

    # Whether the seeds agree on it.
    seeds = sorted(set.intersection(*(set(values) for values in curve.values())))
    test = None
    if len(seeds) > 1:
        test = peak_test(np.array([[curve[band.x][seed] for band in bands] for seed in seeds]))
    return DescentShape(
        first_minimum=min(bands[:place], key=_mean),
        peak=bands[place],
        last_minimum=min(bands[place + 1 :], key=_mean),
        seeds=len(seeds),
        test=test,
    )


def interpolation_threshold(
    curve: Mapping[float, SeedValues], largest_error: float
) -> float | None:
    """Return the x from which on the mean train error is at most `largest_error`; None without one.

    Larger ones all are: a single width that happens to fit, with worse ones above it, does not count.
    """
    threshold = None
    for band in reversed(seed_bands(curve)):
        if band.mean > largest_error:
            break
        threshold = band.x
    return threshold


def _mean(band: SeedBand) -> float:
    return band.mean


def _prominence(bands: Sequence[SeedBand], place: int) -> float:
    """Return how far a mean is above the lowest ones on both sides."""
    left = min(band.mean for band in bands[:place])
    right = min(band.mean for band in bands[place + 1 :])
    return bands[place].mean - max(left, right)
