"""The order of the run: sample i is a pure function of (seed, mixture, sequence length, tokens, i).

A source's tokens are one stream, cut into sequences of `sequence_length` inputs; each also reads the token after it,
the last one's target. In every epoch of a source its sequences are permuted with a new key.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pipeline.errors import ConfigError
from pipeline.sampling.mixture import Mixture, make_mixture
from pipeline.sampling.permutation import derive_key, permute
from pipeline.sampling.stream import TokenStream


@dataclass(frozen=True)
class Sample:
    """Where one sample lies."""

    source: str
    epoch: int
    sequence: int
    """Number of the sequence in the source's stream; it begins at token `sequence * sequence_length`."""


@dataclass(frozen=True)
class Order:
    """Every sample's place, looked up without a shuffle index."""

    seed: int
    sequence_length: int
    mixture: Mixture
    sequences: Mapping[str, int]
    """Sequences of each source in one epoch."""

    def locate(self, index: int) -> Sample:
        """Return where sample `index` of the run lies, for any index from 0."""
        source, number = self.mixture.locate(index)
        epoch, position = divmod(number, self.sequences[source])
        return Sample(source, epoch, permute(position, self.sequences[source], _key(self.seed, source, epoch)))

    def epochs(self, samples: int) -> dict[str, float]:
        """Return how often the first `samples` samples go through each source."""
        before = self.mixture.samples_before(samples)
        return {source: count / self.sequences[source] for source, count in before.items()}


@lru_cache(maxsize=1024)
def _key(seed: int, source: str, epoch: int) -> tuple[int, ...]:
    return derive_key(seed, source, epoch)


def sequence_count(tokens: int, sequence_length: int) -> int:
    """Return the sequences in a stream; the last one's final target must exist."""
    return max(0, (tokens - 1) // sequence_length)


def make_order(
    streams: Mapping[str, TokenStream], weights: Mapping[str, float] | None, sequence_length: int, seed: int
) -> Order:
    """Build the run's order; without weights, sources count in proportion to their tokens.

    Raises ConfigError for a source that has weight but not one whole sequence.
    """
    sequences = {name: sequence_count(len(stream), sequence_length) for name, stream in streams.items()}
    if weights is None:
        weights = {name: float(count) for name, count in sequences.items()}
    empty = [name for name, weight in weights.items() if weight > 0 and sequences[name] == 0]
    if empty or not any(weights.values()):
        raise ConfigError(
            [
                f"data.mixture.{name}: its training text has {len(streams[name])} tokens, fewer than one sequence "
                f"(data.sequence_length = {sequence_length}); add text, shorten the sequence or set the weight to 0"
                for name in empty or weights
            ]
        )
    return Order(seed, sequence_length, make_mixture(weights), sequences)


def read_sequence(streams: Mapping[str, TokenStream], source: str, sequence: int, length: int) -> np.ndarray:
    """Return `(length + 1,) int64`: a sequence's inputs and, shifted by one, its targets."""
    return streams[source].read(sequence * length, length + 1)
