"""When runs reached a target, and what they had taken by then. Pure arithmetic.

A target is reached at the first validation, or scored checkpoint, that is at or beyond it: nothing is
interpolated, so that a time was really taken. It is too long by at most the interval since the reading
before, which is told beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.planning.batch_size.target import Evaluation, TargetMissed, target_reached
from pipeline.planning.time_to.timed_run import Reading, TimedRun


@dataclass(frozen=True)
class Target:
    """What is to be reached: a validation loss from above, or a task's score from below."""

    value: float
    task: str | None = None
    """None for the validation loss."""

    @property
    def label(self) -> str:
        """The target in a few words."""
        if self.task is None:
            return f"loss {self.value:g}"
        return f"{self.task} {self.value:g}"

    def readings(self, run: TimedRun) -> Sequence[Reading]:
        """Return the readings of a run that tell when it was reached."""
        if self.task is None:
            return run.losses
        return run.scores.get(self.task, ())

    def sign(self) -> float:
        """Return 1 where lower values are better, -1 where higher ones are."""
        return 1.0 if self.task is None else -1.0


@dataclass(frozen=True)
class Arrival:
    """A run and a target: when it was there, or why nothing tells."""

    run: TimedRun
    target: Target
    at: Reading | None
    """The first reading at or beyond the target; None where there is none that counts."""
    before: Reading | None = None
    """The reading before it."""
    reason: str = ""
    """Why there is no time; empty where there is."""
    is_early: bool = False
    """Whether it was there at its first reading already, so that nothing tells when."""

    @property
    def seconds(self) -> float | None:
        """Time to the target; None where it was not reached, or nothing tells the time."""
        if self.at is None:
            return None
        return self.at.seconds

    @property
    def interval_seconds(self) -> float | None:
        """By how much the time may be too long: since the reading before."""
        if self.at is None or self.before is None:
            return None
        if self.at.seconds is None or self.before.seconds is None:
            return None
        return self.at.seconds - self.before.seconds


def arrival(run: TimedRun, target: Target) -> Arrival:
    """Return when a run reached a target."""
    if run.left_out:
        return Arrival(run, target, None, reason=run.left_out)
    readings = target.readings(run)
    sign = target.sign()
    evaluations = [
        Evaluation(reading.tokens, None if reading.value is None else sign * reading.value)
        for reading in readings
    ]
    result = target_reached(evaluations, sign * target.value)
    if isinstance(result, TargetMissed):
        reason = _reason(target, readings)
        return Arrival(run, target, None, reason=reason, is_early=result.is_early)
    place = next(
        number
        for number, reading in enumerate(readings)
        if reading.tokens == result.tokens_evaluated
    )
    return Arrival(run, target, readings[place], readings[place - 1])


def _best(target: Target, readings: Sequence[Reading]) -> float | None:
    """Return the best value of some readings; None where none is finite."""
    values = [target.sign() * reading.value for reading in readings if reading.value is not None]
    if not values:
        return None
    return target.sign() * min(values)


def _is_beyond(target: Target, value: float | None) -> bool:
    """Tell whether a value is at a target or better."""
    return value is not None and target.sign() * value <= target.sign() * target.value


def _reason(target: Target, readings: Sequence[Reading]) -> str:
    """Return why nothing tells when a target was reached."""
    best = _best(target, readings)
    if best is None:
        if target.task is None:
            return "no finite validation loss"
        return "its checkpoints have no score"
    if not _is_beyond(target, best):
        return f"not reached; its best is {best:.4g}"
    what = "validation" if target.task is None else "scored checkpoint"
    return f"there at its first {what} already"


def refusal(target: Target, arrivals: Sequence[Arrival]) -> str:
    """Return why a target tells no times, with the remedy; empty where at least one run reached it."""
    if any(each.at is not None for each in arrivals):
        return ""
    counted = [each.run for each in arrivals if not each.run.left_out]
    best = _best(target, [reading for run in counted for reading in target.readings(run)])
    if best is None:
        return (
            f"{target.label}: no run has {_what(target)}; train and evaluate the runs, or ask for another "
            "target"
        )
    if not _is_beyond(target, best):
        side = "above" if target.task is None else "below"
        return (
            f"{target.label}: no run reached it, the best is {best:.4g}; ask for a target at or {side} "
            "that, or train longer"
        )
    return (
        f"{target.label}: every run that reached it was there at its first reading, so that nothing tells "
        "when; ask for a harder target, or read more often (rules.validations, evaluation.models)"
    )


def _what(target: Target) -> str:
    if target.task is None:
        return "a validation loss"
    return f"scores of {target.task}"
