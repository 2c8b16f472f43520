"""The learning rate at which each batch reached a target with the fewest tokens. Pure arithmetic."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.planning.batch_size.hyperbola import StepsToTarget
from pipeline.planning.batch_size.target import TargetMissed, TargetReached


@dataclass(frozen=True)
class TargetTry:
    """One run, and when it reached the target."""

    name: str
    batch: int
    """B, in tokens."""
    rate_factor: float
    """Its peak learning rate, as a multiple of that of the batch by rule."""
    result: TargetReached | TargetMissed


@dataclass(frozen=True)
class TunedBatch:
    """A batch at its best learning rate."""

    batch: int
    rate_factor: float
    tries: tuple[TargetTry, ...]
    """Its runs at that rate, one a seed; all of them reached the target."""
    rates_tried: tuple[float, ...]
    """In rising order."""

    @property
    def tokens(self) -> float:
        """E: geometric mean over the seeds."""
        return _mean_tokens(self.tries)

    @property
    def steps(self) -> float:
        """S = E / B."""
        return self.tokens / self.batch

    @property
    def open_side(self) -> str:
        """Where a better rate may be, as the best one is the last that was tried: higher or lower.

        Empty where rates on both sides were tried.
        """
        if self.rate_factor == self.rates_tried[-1]:
            return "higher"
        if self.rate_factor == self.rates_tried[0]:
            return "lower"
        return ""

    def results(self) -> list[StepsToTarget]:
        """Return steps and tokens of each seed, for the fit."""
        return [StepsToTarget(self.batch, tokens / self.batch) for tokens in _tokens(self.tries)]


def tuned_batches(tries: Sequence[TargetTry]) -> list[TunedBatch]:
    """Return each batch at the rate with the fewest tokens to the target, smallest batch first.

    A rate at which a seed missed the target does not count. A batch that reached it at no rate is not
    among them, nor one of which a run was there before anything was measured.
    """
    tuned: list[TunedBatch] = []
    for batch in sorted({each.batch for each in tries}):
        own = [each for each in tries if each.batch == batch]
        if any(isinstance(each.result, TargetMissed) and each.result.is_early for each in own):
            continue
        rates = sorted({each.rate_factor for each in own})
        by_rate = {rate: tuple(each for each in own if each.rate_factor == rate) for rate in rates}
        reached = {rate: runs for rate, runs in by_rate.items() if _have_all_reached(runs)}
        if reached:
            best = min(reached, key=lambda rate: _mean_tokens(reached[rate]))
            tuned.append(TunedBatch(batch, best, reached[best], tuple(rates)))
    return tuned


def lowest_common_target(losses: Sequence[tuple[int, float]]) -> float:
    """Return the lowest loss that every batch has reached at one of its rates.

    `losses`: batch, and the lowest validation loss of each run.
    """
    lowest: dict[int, float] = {}
    for batch, loss in losses:
        lowest[batch] = min(loss, lowest.get(batch, math.inf))
    return max(lowest.values())


def _have_all_reached(tries: Sequence[TargetTry]) -> bool:
    return all(isinstance(each.result, TargetReached) for each in tries)


def _tokens(tries: Sequence[TargetTry]) -> list[float]:
    return [each.result.tokens for each in tries if isinstance(each.result, TargetReached)]


def _mean_tokens(tries: Sequence[TargetTry]) -> float:
    logarithms = [math.log(tokens) for tokens in _tokens(tries)]
    return math.exp(sum(logarithms) / len(logarithms))


def largest_within(losses: Mapping[int, float], tolerance: float) -> int:
    """Return the largest batch up to which none is worse than the smallest by more than `tolerance`.

    `losses`: batch -> its loss at its best rate after the same tokens. Source: Merrill et al. 2025
    (arXiv:2505.23971), who branch off a checkpoint.
    """
    smallest, *larger = sorted(losses)
    largest = smallest
    for batch in larger:
        if losses[batch] > losses[smallest] + tolerance:
            break
        largest = batch
    return largest
