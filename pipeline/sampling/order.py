"""The order of the run: sample i is a pure function of (seed, mixture, rows of the sources, i).

A source's samples go through its rows in epochs, each permuted with a key of its own. What the run
consumes are the samples in their order, but for ranges that it has been told to skip: so its state
is one number and those ranges.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.sampling.mixture import Mixture, make_mixture
from pipeline.sampling.permutation import Key, derive_key
from pipeline.sampling.shuffle import Shuffle

VERSION = 2
"""Raised whenever samples come in another order for the same settings: a run that has begun in one
cannot go on in another."""
VERSION_RECORD = "order of samples"
"""Name of the version among the settings that a run records at its start; version 1 recorded
none."""

Ranges = tuple[tuple[int, int], ...]
"""Samples `[first, end)`, ascending, apart from each other."""


@dataclass(frozen=True)
class Places:
    """Where samples lie."""

    sample: np.ndarray
    """`(n,) int64`: number of each sample."""
    source: np.ndarray
    """`(n,) int64`: index into the order's names."""
    epoch: np.ndarray
    """`(n,) int64`."""
    row: np.ndarray
    """`(n,) int64`: row of the source."""

    def take(self, chosen: slice | np.ndarray) -> "Places":
        """Return some of them."""
        return Places(
            self.sample[chosen], self.source[chosen], self.epoch[chosen], self.row[chosen]
        )


@dataclass(frozen=True)
class Phase:
    """A part of the run with one mixture."""

    first: int
    """Its first sample."""
    mixture: Mixture
    before: np.ndarray
    """`(sources,) int64`: samples of each source in earlier phases."""


@dataclass(frozen=True)
class Order:
    """Every sample's place, looked up without a shuffle index, both ways."""

    seed: int
    names: tuple[str, ...]
    counts: np.ndarray
    """`(sources,) int64`: rows of each source in one epoch."""
    shuffles: tuple[Shuffle, ...]
    phases: tuple[Phase, ...]
    skipped: Ranges = ()

    def skipping(self, ranges: Ranges) -> "Order":
        """Return the same order without some samples."""
        return replace(self, skipped=ranges)

    def samples(self, positions: np.ndarray) -> np.ndarray:
        """Return the samples `(n,)` that the run consumes at positions `(n,)`: all but the skipped
        ones, in order."""
        samples = np.array(positions, np.int64)
        for first, end in self.skipped:
            samples[samples >= first] += end - first
        return samples

    def sample_at(self, position: int) -> int:
        """Return the sample that the run consumes at one position."""
        return int(self.samples(np.array([position]))[0])

    def locate(self, positions: np.ndarray) -> Places:
        """Return where the samples at positions `(n,)` of the run lie, for any from 0."""
        samples = self.samples(positions)
        source = np.empty_like(samples)
        number = np.empty_like(samples)
        of_phase = (
            np.searchsorted([phase.first for phase in self.phases], samples, side="right") - 1
        )
        for index in np.unique(of_phase).tolist():
            phase = self.phases[index]
            here = of_phase == index
            source[here], number[here] = phase.mixture.locate(samples[here] - phase.first)
            number[here] += phase.before[source[here]]
        epoch, within = np.divmod(number, self.counts[source])
        row = np.empty_like(samples)
        for chosen in np.unique(source).tolist():
            of_source = source == chosen
            for turn in np.unique(epoch[of_source]).tolist():
                here = of_source & (epoch == turn)
                row[here] = self.shuffles[chosen].rows(within[here], self._key(chosen, turn))
        return Places(samples, source, epoch, row)

    def find(self, source: str, rows: np.ndarray, end: int) -> dict[int, np.ndarray]:
        """Return at which positions below `end` the run consumes rows `(n,)` of a source, by epoch
        `{epoch: (n,)}`.

        -1 where it is at or after `end`, or skipped.
        """
        index = self.names.index(source)
        last_sample = int(self.samples(np.array([max(0, end - 1)]))[0])
        used = int(self.samples_before(last_sample + 1)[index])
        found = {}
        for epoch in range(-(-used // int(self.counts[index])) if used else 0):
            within = self.shuffles[index].positions(rows, self._key(index, epoch))
            numbers = epoch * self.counts[index] + within
            positions = np.array(
                [self._position(index, number, used) for number in numbers.tolist()], np.int64
            )
            found[epoch] = np.where(positions < end, positions, -1)
        return found

    def _position(self, source: int, number: int, used: int) -> int:
        """Return where a source's sample with that number is consumed; -1 where it is not, or not
        among `used`."""
        if number >= used:
            return -1
        phase = self.phases[
            bisect_right([int(phase.before[source]) for phase in self.phases], number) - 1
        ]
        sample = phase.first + int(
            phase.mixture.find(source, np.array([number - phase.before[source]]))[0]
        )
        position = sample
        for first, end in self.skipped:
            if first <= sample < end:
                return -1
            position -= end - first if sample >= end else 0
        return position

    def samples_before(self, sample: int) -> np.ndarray:
        """Return how many of the samples below `sample`, skipped or not, come from each source,
        `(sources,) int64`."""
        phase = self.phases[bisect_right([phase.first for phase in self.phases], sample) - 1]
        return phase.before + phase.mixture.samples_before(sample - phase.first)

    def epochs(self, samples: int) -> dict[str, float]:
        """Return how often the first `samples` samples go through each source."""
        before = self.samples_before(samples)
        return {
            name: float(before[i] / max(1, self.counts[i])) for i, name in enumerate(self.names)
        }

    def _key(self, source: int, epoch: int) -> Key:
        return _epoch_key(self.seed, self.names[source], epoch)


def other_version(recorded: Mapping[str, Any], run_dir: Path) -> str | None:
    """Say that a run was begun with samples in another order than they come in now, by what it
    recorded; None if not."""
    version = recorded.get(VERSION_RECORD, 1)
    if version == VERSION:
        return None
    return f"paths.run_dir = {run_dir}: was begun with version {version} of the order of samples; it is {VERSION} now"


@lru_cache(maxsize=1024)
def _epoch_key(seed: int, source: str, epoch: int) -> Key:
    return derive_key(seed, source, epoch)


def make_order(
    seed: int,
    shuffles: Mapping[str, Shuffle],
    counts: Mapping[str, int],
    weights: Sequence[tuple[int, Sequence[float | Fraction]]],
) -> Order:
    """Build the order of a run from `(first sample, weight of each source)` of its phases; the
    first begins at 0."""
    phases: list[Phase] = []
    before = np.zeros(len(counts), np.int64)
    for first, shares in weights:
        if phases:
            before = phases[-1].before + phases[-1].mixture.samples_before(first - phases[-1].first)
        phases.append(Phase(first, make_mixture(shares), before))
    names = tuple(counts)
    return Order(
        seed,
        names,
        np.array(list(counts.values()), np.int64),
        tuple(shuffles[name] for name in names),
        tuple(phases),
    )
