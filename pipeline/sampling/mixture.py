"""Which source a sample comes from: weights that hold over every window, without dice.

Sources are interleaved over a period by Tijdeman's rule, which keeps each source's count within 1 of its exact share
after every sample; the period repeats. So the source of sample i, and how many samples of that source came before,
are looked up, whatever i is.
Source: Tijdeman 1980, "The chairman assignment problem", Discrete Mathematics 32.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PERIOD = 1 << 14
"""Samples after which the interleaving repeats; weights are rounded to multiples of 1 / PERIOD."""


@dataclass(frozen=True)
class Mixture:
    """The interleaving of one period."""

    counts: np.ndarray
    """`(sources,) int64`: samples of each source in a period; they sum to PERIOD."""
    source: np.ndarray
    """`(PERIOD,) int64`: source of each sample."""
    rank: np.ndarray
    """`(PERIOD,) int64`: samples of that source earlier in the period."""
    places: tuple[np.ndarray, ...]
    """Of each source `(counts,) int64`: its samples' places in the period."""

    def locate(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the sources `(n,)` of samples `(n,)`, and each one's number among that source's samples."""
        periods, offsets = np.divmod(np.asarray(indices, np.int64), PERIOD)
        sources = self.source[offsets]
        return sources, periods * self.counts[sources] + self.rank[offsets]

    def find(self, source: int, numbers: np.ndarray) -> np.ndarray:
        """Return which samples `(n,)` are a source's samples with these numbers; the source has weight."""
        periods, ranks = np.divmod(np.asarray(numbers, np.int64), self.counts[source])
        return periods * PERIOD + self.places[source][ranks]

    def samples_before(self, index: int) -> np.ndarray:
        """Return how many of the samples below `index` come from each source, `(sources,) int64`."""
        period, offset = divmod(index, PERIOD)
        return period * self.counts + np.bincount(self.source[:offset], minlength=len(self.counts))


def make_mixture(weights: Sequence[float]) -> Mixture:
    """Build the interleaving for weights, which need not sum to 1; sources of weight 0 never come."""
    shares = np.array(weights, np.float64)
    counts = _round_to_period(shares / shares.sum())
    source = _interleave(counts)
    places = tuple(np.flatnonzero(source == i) for i in range(len(counts)))
    rank = np.zeros(PERIOD, np.int64)
    for place in places:
        rank[place] = np.arange(len(place))
    return Mixture(counts, source, rank, places)


def _round_to_period(shares: np.ndarray) -> np.ndarray:
    """Largest remainders, but at least one sample for every source that has weight."""
    exact = shares * PERIOD
    least = (shares > 0).astype(np.int64)
    counts = np.maximum(np.floor(exact).astype(np.int64), least)
    while (missing := PERIOD - int(counts.sum())) != 0:
        step = 1 if missing > 0 else -1
        may = (least == 1) & (counts + step >= least)
        counts[int(np.argmax(np.where(may, (exact - counts) * step, -np.inf)))] += step
    return counts


def _interleave(counts: np.ndarray) -> np.ndarray:
    """Assign each place of the period: among the sources that may come now, the one whose deadline is nearest.

    With k sources and share w, a source's next sample (number x + 1) may come at place t once
    w * t - x >= 1 / (2k - 2), and must come before w * t - x exceeds 1 - 1 / (2k - 2).
    """
    present = np.flatnonzero(counts).tolist()
    if len(present) == 1:
        return np.full(PERIOD, present[0])
    twice = 2 * len(present) - 2  # slack is 1 / twice; in whole numbers, so that nothing hangs on a rounding
    of_source = {source: _times(int(counts[source]), twice) for source in present}
    coming: list[list[tuple[float, int, int]]] = [[] for _ in range(PERIOD)]  # by the first place they may come at
    for source in present:
        first, deadline = of_source[source][0]
        coming[first].append((deadline, source, 0))
    order, ready = np.empty(PERIOD, np.int64), []
    for place in range(PERIOD):
        for sample in coming[place]:
            heapq.heappush(ready, sample)
        _, order[place], used = heapq.heappop(ready)
        times = of_source[int(order[place])]
        if used + 1 < len(times):
            first, deadline = times[used + 1]
            coming[max(first, place + 1)].append((deadline, int(order[place]), used + 1))
    return order


def _times(count: int, twice: int) -> list[tuple[int, float]]:
    """Return of each of a source's samples the first place that it may come at, and its deadline."""
    numbers = np.arange(count)
    first = -(-(numbers * twice + 1) * PERIOD // (count * twice)) - 1
    deadline = (numbers + 1 - 1 / twice) / (count / PERIOD)
    return list(zip(first.tolist(), deadline.tolist(), strict=True))
