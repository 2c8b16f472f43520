"""Which source a sample comes from: weights that hold over every window, without dice.

Sources are interleaved over a period by Tijdeman's rule, which keeps each source's count within 1 of its exact share
after every sample; the period repeats. So the source of sample i, and how many samples of that source came before,
are looked up, whatever i is.
Source: Tijdeman 1980, "The chairman assignment problem", Discrete Mathematics 32.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

PERIOD = 1 << 14
"""Samples after which the interleaving repeats; weights are rounded to multiples of 1 / PERIOD."""


@dataclass(frozen=True)
class Mixture:
    """The interleaving of one period."""

    names: tuple[str, ...]
    counts: np.ndarray
    """`(sources,) int64`: samples of each source in a period; they sum to PERIOD."""
    source: np.ndarray
    """`(PERIOD,) int32`: source of each sample."""
    rank: np.ndarray
    """`(PERIOD,) int64`: samples of that source earlier in the period."""

    def locate(self, index: int) -> tuple[str, int]:
        """Return the source of sample `index` and its number among that source's samples."""
        period, offset = divmod(index, PERIOD)
        source = int(self.source[offset])
        return self.names[source], period * int(self.counts[source]) + int(self.rank[offset])

    def samples_before(self, index: int) -> dict[str, int]:
        """Return how many of the samples below `index` come from each source."""
        period, offset = divmod(index, PERIOD)
        within = np.bincount(self.source[:offset], minlength=len(self.names))
        return {name: int(period * self.counts[i] + within[i]) for i, name in enumerate(self.names)}


def make_mixture(weights: Mapping[str, float]) -> Mixture:
    """Build the interleaving for positive weights, which need not sum to 1; sources of weight 0 are left out."""
    names = tuple(name for name, weight in weights.items() if weight > 0)
    shares = np.array([weights[name] for name in names], np.float64)
    counts = _round_to_period(shares / shares.sum())
    source = _interleave(counts)
    rank = np.zeros(PERIOD, np.int64)
    for i in range(len(names)):
        rank[source == i] = np.arange(counts[i])
    return Mixture(names, counts, source, rank)


def _round_to_period(shares: np.ndarray) -> np.ndarray:
    """Largest remainders, but at least one sample for every source."""
    exact = shares * PERIOD
    counts = np.maximum(np.floor(exact).astype(np.int64), 1)
    while (missing := PERIOD - int(counts.sum())) != 0:
        step = 1 if missing > 0 else -1
        error = np.where(counts + step >= 1, (exact - counts) * step, -np.inf)
        counts[int(np.argmax(error))] += step
    return counts


def _interleave(counts: np.ndarray) -> np.ndarray:
    """Assign each place of the period: among the sources that may come now, the one whose deadline is nearest.

    With k sources and share w, a source's next sample (number x + 1) may come at place t once
    w * t - x >= 1 / (2k - 2), and must come before w * t - x exceeds 1 - 1 / (2k - 2).
    """
    sources = len(counts)
    if sources == 1:
        return np.zeros(PERIOD, np.int32)
    shares, slack = counts / PERIOD, 1 / (2 * sources - 2)
    used = np.zeros(sources, np.int64)
    order = np.empty(PERIOD, np.int32)
    for place in range(PERIOD):
        ready = (shares * (place + 1) - used >= slack - 1e-9) & (used < counts)
        deadline = np.where(ready, (used + 1 - slack) / shares, np.inf)
        order[place] = chosen = int(np.argmin(deadline))
        used[chosen] += 1
    return order
