"""The shape of a measure over the size of a model: where it falls, rises, and falls again.

A rise or a fall counts where every seed shows it. Reads and writes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean


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
    rising_seeds: int
    """Seeds whose value at the peak is above that at the first minimum."""
    falling_seeds: int
    """Seeds whose value at the last minimum is below that at the peak."""
    lower_seeds: int
    """Seeds whose value at the last minimum is below that at the first one."""

    @property
    def has_peak(self) -> bool:
        """Whether every seed rises to the peak and falls after it."""
        return self.rising_seeds == self.seeds == self.falling_seeds

    @property
    def is_below_first(self) -> bool:
        """Whether in every seed the second descent ends below the first one."""
        return self.has_peak and self.lower_seeds == self.seeds


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
    lowest one at larger x: above the higher of the two. Only seeds that have all three points count.
    """
    # The most prominent peak of the means.
    bands = seed_bands(curve)
    prominences = [_prominence(bands, place) for place in range(1, len(bands) - 1)]
    if not prominences or max(prominences) <= 0:
        return None
    place = 1 + prominences.index(max(prominences))
    peak = bands[place]
    first = min(bands[:place], key=_mean)
    last = min(bands[place + 1 :], key=_mean)

    # How many seeds show it.
    at_first = curve[first.x]
    at_peak = curve[peak.x]
    at_last = curve[last.x]
    seeds = sorted(at_first.keys() & at_peak.keys() & at_last.keys())
    if not seeds:
        return None
    return DescentShape(
        first_minimum=first,
        peak=peak,
        last_minimum=last,
        seeds=len(seeds),
        rising_seeds=sum(at_peak[seed] > at_first[seed] for seed in seeds),
        falling_seeds=sum(at_last[seed] < at_peak[seed] for seed in seeds),
        lower_seeds=sum(at_last[seed] < at_first[seed] for seed in seeds),
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
