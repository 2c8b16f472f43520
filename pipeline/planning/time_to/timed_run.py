"""A run on its way to a target: what it had reached, and taken, at each validation. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """A loss or a score of a run, with what the run had taken by then."""

    step: int
    tokens: int
    value: float | None
    """None where it was not finite."""
    seconds: float | None
    """From the first launch of the ranks, restarts and lost steps included; None where unknown."""
    device_seconds: float | None
    joules: float | None
    """None where no device told its energy."""


@dataclass(frozen=True)
class TimedRun:
    """One run."""

    name: str
    """For people, unique among the runs compared."""
    recipe: str
    """What it shares with its other seeds."""
    ranks: int
    batch_tokens: int
    tokens_per_second: float
    """Median over its steps, without validations and saves."""
    losses: Sequence[Reading]
    """Validation losses in nats a token, oldest first."""
    scores: Mapping[str, Sequence[Reading]]
    """Task -> scores of its checkpoints, oldest first."""
    left_out: str = ""
    """Why it counts for no target; empty where it does."""
