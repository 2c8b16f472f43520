"""Learning-rate schedules: one class for each kind, a pure function of the tokens consumed.

`SCHEDULES` in `kinds.py` is the table of kinds. A new kind is a class here, or in a file of its
own, and one line there.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

from pipeline.config.kinds import SCHEDULES
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import Schedule

SHARED_FIELDS = ("kind", "warmup_tokens")
"""Fields of the section `schedule` that every kind uses."""


class ScheduleKind(ABC):
    """A kind of schedule: the learning rate after the warm-up, as a fraction of the peak."""

    optional_fields: ClassVar[tuple[str, ...]] = ()
    """Other fields of the section that this kind uses."""
    required_fields: ClassVar[tuple[str, ...]] = ()
    """Other fields of the section that this kind requires."""
    ends_in_decay: ClassVar[bool] = False
    """Whether the length of the run changes the learning rate only in a decay at the end.

    If so, a longer run can continue from before the decay, with the learning rates that it would
    have had from the start.
    """

    @abstractmethod
    def fraction_after_warmup(self, schedule: Schedule, tokens: int, total: int) -> float:
        """Return the fraction of the peak after `tokens` of `total` tokens.

        `tokens` is at least `schedule.warmup_tokens`.
        """

    def problems(self, schedule: Schedule) -> list[str]:
        """Return a message for each value with which this kind is not defined."""
        return []


class Linear(ScheduleKind):
    """Rate that falls linearly to the final fraction of the peak at the end of the run.

    Source: Bergsma et al. 2025."""

    optional_fields = ("final_learning_rate_fraction",)

    def fraction_after_warmup(self, schedule: Schedule, tokens: int, total: int) -> float:
        """Return the fraction of the peak."""
        return falling_fraction(schedule, progress_after_warmup(schedule, tokens, total))


class Cosine(ScheduleKind):
    """Rate that falls by half a cosine to the final fraction of the peak at the end of the run.

    Source: Loshchilov and Hutter 2017; as in Brown et al. 2020, appendix B.
    """

    optional_fields = ("final_learning_rate_fraction",)

    def fraction_after_warmup(self, schedule: Schedule, tokens: int, total: int) -> float:
        """Return the fraction of the peak."""
        progress = progress_after_warmup(schedule, tokens, total)
        return falling_fraction(schedule, 0.5 * (1 - math.cos(math.pi * progress)))


class WarmupStableDecay(ScheduleKind):
    """Rate that stays at the peak until the last `decay_tokens` (Hu et al. 2024).

    Over those tokens it falls by the square root of the progress (Hägele et al. 2024, section 3.2)
    or linearly.
    """

    optional_fields = ("decay_shape", "final_learning_rate_fraction")
    required_fields = ("decay_tokens",)
    ends_in_decay = True

    def fraction_after_warmup(self, schedule: Schedule, tokens: int, total: int) -> float:
        """Return the fraction of the peak."""
        decay = schedule.decay_tokens or 0
        decay_begin = total - decay
        if tokens <= decay_begin:
            return falling_fraction(schedule, 0.0)
        progress = (tokens - decay_begin) / decay
        if schedule.decay_shape == "linear":
            return falling_fraction(schedule, progress)
        return falling_fraction(schedule, math.sqrt(progress))


class InverseSquareRoot(ScheduleKind):
    """Falls as sqrt(warm-up tokens / tokens) (Vaswani et al. 2017, section 5.3)."""

    def fraction_after_warmup(self, schedule: Schedule, tokens: int, total: int) -> float:
        """Return the fraction of the peak."""
        return math.sqrt(schedule.warmup_tokens / tokens)

    def problems(self, schedule: Schedule) -> list[str]:
        """Refuse a run without a warm-up."""
        if schedule.warmup_tokens > 0:
            return []
        return [
            f"schedule.warmup_tokens = 0: must be above 0 for {schedule.kind}, whose peak is at "
            "the end of the warm-up"
        ]


class Constant(ScheduleKind):
    """Stays at the peak."""

    def fraction_after_warmup(self, schedule: Schedule, tokens: int, total: int) -> float:
        """Return the fraction of the peak."""
        return 1.0


def progress_after_warmup(schedule: Schedule, tokens: int, total: int) -> float:
    """Return the fraction consumed of the tokens from the warm-up to the end of the run."""
    warmup = schedule.warmup_tokens
    return (tokens - warmup) / max(1, total - warmup)


def falling_fraction(schedule: Schedule, share: float) -> float:
    """Return the fraction of the peak after `share`, 0 to 1, of the way down to the final fraction."""
    final = schedule.final_learning_rate_fraction
    return final + (1 - final) * (1 - share)


def schedule_kind(schedule: Schedule) -> ScheduleKind:
    """Return the object of the kind `schedule.kind`."""
    return SCHEDULES[schedule.kind]


def learning_rate(config: RunConfig, step: int) -> float:
    """Return the learning rate of optimizer step `step`, counted from 1.

    It is the scaled peak times the fraction that the schedule gives.
    """
    plan = config.step_plan
    tokens = min(plan.tokens_after(step), plan.total_tokens)
    peak = config.optimizer.peak_learning_rate * config.learning_rate_factor
    return peak * fraction_of_peak(config, tokens, plan.total_tokens)


def fraction_of_peak(config: RunConfig, tokens: int, total: int) -> float:
    """Return the learning rate after `tokens` of `total` tokens, as a fraction of the peak.

    The warm-up rises linearly from 0 to 1 with every kind of schedule.
    """
    schedule = config.schedule
    if tokens < schedule.warmup_tokens:
        return tokens / schedule.warmup_tokens
    return schedule_kind(schedule).fraction_after_warmup(schedule, tokens, total)


def schedule_problems(schedule: Schedule, train_tokens: int) -> list[str]:
    """Return a message for each field that does not fit the kind of schedule or the run's length."""
    problems = [
        problem
        for name in type(schedule).model_fields
        if name not in SHARED_FIELDS
        for problem in _field_problems(schedule, name)
    ]
    problems += schedule_kind(schedule).problems(schedule)
    if schedule.warmup_tokens + (schedule.decay_tokens or 0) > train_tokens:
        problems.append(
            f"schedule.warmup_tokens = {schedule.warmup_tokens}: warm-up and decay together must "
            f"not be longer than train.train_tokens = {train_tokens}"
        )
    return problems


def _field_problems(schedule: Schedule, name: str) -> list[str]:
    """Return a message if a field is set that the kind does not use, or not set that it requires."""
    value = getattr(schedule, name)
    default = type(schedule).model_fields[name].default
    requiring = [kind for kind in SCHEDULES.paths if name in SCHEDULES[kind].required_fields]
    if requiring and (schedule.kind in requiring) != (value != default):
        return [
            f"schedule.{name} = {value}: must be set if schedule.kind is "
            f"{' or '.join(requiring)}, and only then"
        ]
    taking = [kind for kind in SCHEDULES.paths if name in SCHEDULES[kind].optional_fields]
    if schedule.kind in [*requiring, *taking] or value == default:
        return []
    return [
        f"schedule.{name} = {value}: kind {schedule.kind} does not use it, only "
        f"{', '.join(taking)}; leave it out"
    ]
