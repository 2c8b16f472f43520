"""The order of the run: sample i is a pure function of (seed, mixture, rows of the sources, i).

A source's samples go through the source's rows in epochs; each epoch is permuted with its own key.
The run consumes the samples in order, except for skipped ranges. So the state of the order is one
number, the samples consumed, and the skipped ranges. Reads and writes no files.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np

from pipeline.sampling.mixture import Mixture, make_mixture
from pipeline.sampling.permutation import Key, derive_key
from pipeline.sampling.shuffle import Shuffle
from pipeline.store.records import Json

VERSION = 2
"""Version of the order: increased by every change that reorders samples for the same settings. A run
begun with one version cannot be resumed with another."""
VERSION_RECORD = "order of samples"
"""Key of the version in the settings that a run records at its start; version 1 recorded none."""

Ranges = tuple[tuple[int, int], ...]
"""Ranges `[first, end)` of samples, ascending; they neither overlap nor touch."""


@dataclass(frozen=True)
class Places:
    """The source, epoch and row of each of n samples."""

    sample: np.ndarray
    """`(n,) int64`: number of each sample."""
    source: np.ndarray
    """`(n,) int64`: index into the order's names."""
    epoch: np.ndarray
    """`(n,) int64`: epoch of the source, from 0."""
    row: np.ndarray
    """`(n,) int64`: row within the source."""

    def take(self, chosen: slice | np.ndarray) -> "Places":
        """Return the places of the chosen samples."""
        return Places(
            self.sample[chosen], self.source[chosen], self.epoch[chosen], self.row[chosen]
        )


@dataclass(frozen=True)
class Phase:
    """A part of the run with one mixture."""

    first: int
    """First sample of the phase."""
    mixture: Mixture
    before: np.ndarray
    """`(sources,) int64`: samples of each source in earlier phases."""


@dataclass(frozen=True)
class Order:
    """Finds the place of a sample, and the samples of a row, without a shuffle index."""

    seed: int
    names: tuple[str, ...]
    counts: np.ndarray
    """`(sources,) int64`: rows of each source in one epoch."""
    shuffles: tuple[Shuffle, ...]
    phases: tuple[Phase, ...]
    skipped: Ranges = ()

    def skipping(self, ranges: Ranges) -> "Order":
        """Return the same order without the samples in `ranges`."""
        return replace(self, skipped=ranges)

    def samples(self, positions: np.ndarray) -> np.ndarray:
        """Return the samples `(n,)` that the run consumes at positions `(n,)`, skipped ones left out."""
        samples = np.array(positions, np.int64)
        for first, end in self.skipped:
            samples[samples >= first] += end - first
        return samples

    def sample_at(self, position: int) -> int:
        """Return the sample that the run consumes at one position."""
        return int(self.samples(np.array([position]))[0])

    def locate(self, positions: np.ndarray) -> Places:
        """Return the places of the samples at positions `(n,)` of the run; any position from 0."""
        # The mixture of a sample's phase decides its source, and its number among that source's.
        samples = self.samples(positions)
        source = np.empty_like(samples)
        number = np.empty_like(samples)
        of_phase = (
            np.searchsorted(np.array([phase.first for phase in self.phases]), samples, side="right")
            - 1
        )
        for index in map(int, np.unique(of_phase)):
            phase = self.phases[index]
            here = of_phase == index
            source[here], number[here] = phase.mixture.locate(samples[here] - phase.first)
            number[here] += phase.before[source[here]]
        # The shuffle of a source and epoch decides the row.
        epoch, within = np.divmod(number, self.counts[source])
        row = np.empty_like(samples)
        for chosen in np.unique(source).tolist():
            of_source = source == chosen
            for chosen_epoch in np.unique(epoch[of_source]).tolist():
                here = of_source & (epoch == chosen_epoch)
                key = self._key(chosen, chosen_epoch)
                row[here] = self.shuffles[chosen].rows(within[here], key)
        return Places(samples, source, epoch, row)

    def find(self, source: str, rows: np.ndarray, end: int) -> dict[int, np.ndarray]:
        """Return the positions below `end` that consume rows `(n,)` of a source: `{epoch: (n,)}`.

        -1 where the run skips a row, or consumes it at or after `end`.
        """
        index = self.names.index(source)
        last_sample = int(self.samples(np.array([max(0, end - 1)]))[0])
        used = int(self.samples_before(last_sample + 1)[index])
        begun_epochs = 0
        if used:
            begun_epochs = -(-used // int(self.counts[index]))
        positions_of_epochs: dict[int, np.ndarray] = {}
        for epoch in range(begun_epochs):
            within = self.shuffles[index].positions(rows, self._key(index, epoch))
            numbers = epoch * self.counts[index] + within
            positions = np.array(
                [self._position(index, number, used) for number in numbers.tolist()], np.int64
            )
            positions_of_epochs[epoch] = np.where(positions < end, positions, -1)
        return positions_of_epochs

    def _position(self, source: int, number: int, used: int) -> int:
        """Return the position that consumes a source's sample of that number.

        -1 where the sample is skipped, or not among the first `used` samples of the source.
        """
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
            if sample >= end:
                position -= end - first
        return position

    def samples_before(self, sample: int) -> np.ndarray:
        """Return the number of samples below `sample` from each source, `(sources,) int64`.

        Skipped samples count too.
        """
        phase = self.phases[bisect_right([phase.first for phase in self.phases], sample) - 1]
        return phase.before + phase.mixture.samples_before(sample - phase.first)

    def epochs(self, samples: int) -> dict[str, float]:
        """Return how many epochs of each source the first `samples` samples are."""
        before = self.samples_before(samples)
        return {
            name: float(before[i] / max(1, self.counts[i])) for i, name in enumerate(self.names)
        }

    def _key(self, source: int, epoch: int) -> Key:
        return _epoch_key(self.seed, self.names[source], epoch)


def other_version(recorded: Mapping[str, Json], run_dir: Path) -> str | None:
    """Return a message where a run was begun with another version of the order, else None.

    `recorded`: the settings that the run recorded at its start.
    """
    version = recorded.get(VERSION_RECORD, 1)
    if version == VERSION:
        return None
    return (
        f"paths.run_dir = {run_dir}: was begun with version {version} of the order of samples; "
        f"it is {VERSION} now"
    )


@lru_cache(maxsize=1024)
def _epoch_key(seed: int, source: str, epoch: int) -> Key:
    return derive_key(seed, source, epoch)


def make_order(
    seed: int,
    shuffles: Mapping[str, Shuffle],
    counts: Mapping[str, int],
    weights: Sequence[tuple[int, Sequence[float | Fraction]]],
) -> Order:
    """Build the order of a run.

    `weights`: for each phase its first sample and the weight of each source; the first phase begins
    at sample 0.
    """
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
