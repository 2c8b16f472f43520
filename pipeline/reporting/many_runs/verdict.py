"""Which run ends lowest, and how far apart chance alone sets runs. Pure."""

import itertools
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.reporting.many_runs.comparable import Basis
from pipeline.reporting.many_runs.compared_run import ComparedRun
from pipeline.reporting.many_runs.setting_differences import flat_settings

DIGITS = 4
"""Decimals of a loss that are printed; runs are not ranked by more."""
MOST_STEPS_OF_A_MEAN = 50
PARTS_OF_A_RUN = 10
"""A training loss at the end is the mean of the last of so many parts of the steps: one step alone is
too noisy."""
MOST_OTHERS = 5
"""Maximum number of runs that are named beside the lowest one; the page's table has all."""
SEED = "train.seed"


@dataclass(frozen=True)
class EndLoss:
    """The loss with which a run ends."""

    run: ComparedRun
    name: str
    loss: float
    """As printed: runs whose losses differ by less are equal."""
    tokens: int


def end_losses(runs: Sequence[ComparedRun], names: Sequence[str], basis: Basis) -> list[EndLoss]:
    """Return the last loss of each run that has one, the lowest first; ties in the order given.

    Held-out losses are the last ones measured, training losses means of the last steps.
    """
    ends: list[EndLoss] = []
    for run, name in zip(runs, names, strict=True):
        losses = [(basis.loss(point), point.tokens) for point in run.points]
        known = [(loss, tokens) for loss, tokens in losses if loss is not None]
        if not known:
            continue
        loss, tokens = known[-1]
        if not basis.is_held_out:
            loss = last_training_loss(run) or loss
        ends.append(EndLoss(run, name, round(loss, DIGITS), tokens))
    return sorted(ends, key=lambda end: end.loss)


def steps_of_mean(run: ComparedRun) -> int:
    """Return how many of the last steps the training loss at the end is a mean of."""
    return max(1, min(MOST_STEPS_OF_A_MEAN, len(run.points) // PARTS_OF_A_RUN))


def last_training_loss(run: ComparedRun) -> float | None:
    """Return the mean training loss of the last steps; None where none of them has a loss."""
    last = run.points[-steps_of_mean(run) :]
    losses = [point.loss for point in last if point.loss is not None]
    if not losses:
        return None
    return statistics.fmean(losses)


def verdict_sentences(runs: Sequence[ComparedRun], names: Sequence[str], basis: Basis) -> list[str]:
    """Return which run ends lowest, by how much, and how large a difference chance makes."""
    ends = end_losses(runs, names, basis)
    if not ends:
        return []
    lowest = [end for end in ends if end.loss == ends[0].loss]
    sentence = f"Lowest {_which(runs, basis)}: {_named(lowest)}"
    others = _others(ends[len(lowest) :], ends[0].loss)
    if others:
        sentence += f" ({others})"
    sentence += "."
    if len({end.tokens for end in ends}) > 1:
        sentence += (
            " The runs end after different numbers of tokens; the curves show the way there."
        )
    return [sentence, _chance(ends)]


def _which(runs: Sequence[ComparedRun], basis: Basis) -> str:
    """Return in words which loss at the end is compared."""
    if basis.unit == "bits per byte":
        return "bits per byte of held-out text at the end"
    if basis.is_held_out:
        return "validation loss at the end"
    counts = sorted({steps_of_mean(run) for run in runs})
    if counts == [1]:
        return "training loss, of the last step"
    if len(counts) == 1:
        return f"training loss, mean of the last {counts[0]} steps"
    return f"training loss, mean of the last {counts[0]} to {counts[-1]} steps"


def _named(lowest: Sequence[EndLoss]) -> str:
    """Return the run with the lowest loss; all of them where the printed digits are the same."""
    loss = f"{lowest[0].loss:.{DIGITS}f}"
    if len(lowest) == 1:
        return f"{lowest[0].name}, {loss}"
    named = [end.name for end in lowest[: MOST_OTHERS + 1]]
    if len(lowest) > len(named):
        named.append(f"{len(lowest) - len(named)} more")
    listed = f"{', '.join(named[:-1])} and {named[-1]}"
    return f"{loss}, with no difference between {listed}"


def _others(ends: Sequence[EndLoss], lowest: float) -> str:
    """Return how far the others are above; the first ones, and how far the rest goes."""
    listed = [f"{end.name} {end.loss - lowest:+.{DIGITS}f}" for end in ends[:MOST_OTHERS]]
    rest = ends[MOST_OTHERS:]
    if rest:
        listed.append(f"{len(rest)} more up to {rest[-1].loss - lowest:+.{DIGITS}f}")
    return "; ".join(listed)


def _chance(ends: Sequence[EndLoss]) -> str:
    """Return how far apart runs of the same settings end."""
    distances = distances_of_seeds(ends)
    if not distances:
        return (
            f"No two of the runs differ in {SEED} alone: nothing here tells how large a difference chance "
            "makes."
        )
    pairs = "1 pair" if len(distances) == 1 else f"median of {len(distances)} pairs"
    return (
        f"Runs that differ in {SEED} alone end {statistics.median(distances):.{DIGITS}f} apart ({pairs}): "
        "a difference of that size is what chance makes."
    )


def distances_of_seeds(ends: Sequence[EndLoss]) -> list[float]:
    """Return the differences of the losses of all pairs of runs that differ in the seed at most."""
    losses: dict[str, list[float]] = {}
    for end in ends:
        settings = {**flat_settings(end.run.config), SEED: None, "tokens": end.tokens}
        losses.setdefault(json.dumps(settings, default=str), []).append(end.loss)
    return [
        abs(one - other)
        for of_settings in losses.values()
        for one, other in itertools.combinations(of_settings, 2)
    ]
