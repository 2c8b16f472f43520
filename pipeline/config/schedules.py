"""Learning-rate schedules: pure functions of the tokens trained so far, a class for each kind.

`SCHEDULES` in `kinds.py` is their table. A new kind is a class here, or in a file of its own, and a
line there.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

from pipeline.config.kinds import SCHEDULES
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import Schedule

SHARED_FIELDS = ("kind", "warmup_tokens")
"""Fields of the section `schedule` that every kind takes."""


class ScheduleKind(ABC):
    """The learning rate from the end of the warm-up on, as a fraction of the peak."""

    optional_fields: ClassVar[tuple[str, ...]] = ()
    """Further fields of the section that this kind takes."""
    required_fields: ClassVar[tuple[str, ...]] = ()
    """Further fields that it needs."""
    ends_in_decay: ClassVar[bool] = False
    """Whether the run's length counts in the last tokens alone: a longer run goes on from before
    them as if it had been as long from the start."""

    @abstractmethod
    def fraction_after_warmup(self, schedule: Schedule, tokens: int, total: int) -> float:
        """Return the fraction of the peak when `tokens` of `total` are consumed; at least those of
        the warm-up are."""

    def problems(self, schedule: Schedule) -> list[str]:
        """Name values of its fields with which it is not defined."""
        return []


class Linear(ScheduleKind):
    """Falls in a line to the final fraction at the end of the run (Bergsma et al. 2025)."""

    optional_fields = ("final_learning_rate_fraction",)

    def fraction_after_warmup(self, schedule: Schedule, tokens: int, total: int) -> float:
        """Return the fraction of the peak."""
        return _fallen(schedule, _progress_after_warmup(schedule, tokens, total))


class Cosine(ScheduleKind):
    """Falls by half a cosine to the final fraction at the end of the run.

    Source: Loshchilov and Hutter 2017; as in Brown et al. 2020, appendix B.
    """

    optional_fields = ("final_learning_rate_fraction",)

    def fraction_after_warmup(self, schedule: Schedule, tokens: int, total: int) -> float:
        """Return the fraction of the peak."""
        progress = _progress_after_warmup(schedule, tokens, total)
        return _fallen(schedule, 0.5 * (1 - math.cos(math.pi * progress)))


class WarmupStableDecay(ScheduleKind):
    """Stays at the peak until the last `decay_tokens` (Hu et al. 2024).

    Over those it falls by the square root of the progress (Hägele et al. 2024, section 3.2) or in a
    line.
    """

    optional_fields = ("decay_shape", "final_learning_rate_fraction")
    required_fields = ("decay_tokens",)
    ends_in_decay = True

    def fraction_after_warmup(self, schedule: Schedule, tokens: int, total: int) -> float:
        """Return the fraction of the peak."""
        decay = schedule.decay_tokens or 0
        begin = total - decay
        if tokens <= begin:
            return _fallen(schedule, 0.0)
        progress = (tokens - begin) / decay
        if schedule.decay_shape == "linear":
            return _fallen(schedule, progress)
        return _fallen(schedule, math.sqrt(progress))


class InverseSquareRoot(ScheduleKind):
    """Falls as sqrt(warm-up / tokens) (Vaswani et al. 2017, section 5.3)."""

    def fraction_after_warmup(self, schedule: Schedule, tokens: int, total: int) -> float:
        """Return the fraction of the peak."""
        return math.sqrt(schedule.warmup_tokens / tokens)

    def problems(self, schedule: Schedule) -> list[str]:
        """Refuse a run without a warm-up."""
        if schedule.warmup_tokens > 0:
            return []
        return [
            f"schedule.warmup_tokens = 0: must be above 0 for {schedule.kind}, whose peak lies at "
            "its end"
        ]


class Constant(ScheduleKind):
    """Stays at the peak."""

    def fraction_after_warmup(self, schedule: Schedule, tokens: int, total: int) -> float:
        """Return the fraction of the peak."""
        return 1.0


def _progress_after_warmup(schedule: Schedule, tokens: int, total: int) -> float:
    """Return which part of the tokens between warm-up and the end of the run are consumed."""
    warmup = schedule.warmup_tokens
    return (tokens - warmup) / max(1, total - warmup)


def _fallen(schedule: Schedule, share: float) -> float:
    """Return the fraction of the peak after this share of the way from 1 down to the final one."""
    final = schedule.final_learning_rate_fraction
    return final + (1 - final) * (1 - share)


def schedule_kind(schedule: Schedule) -> ScheduleKind:
    """Return the kind that the run file names."""
    return SCHEDULES[schedule.kind]


def learning_rate(config: RunConfig, step: int) -> float:
    """Return the learning rate of optimizer step `step` (from 1): the scaled peak times the
    schedule's fraction."""
    plan = config.step_plan
    tokens = min(plan.tokens_after(step), plan.total_tokens)
    peak = config.optimizer.peak_learning_rate * config.learning_rate_factor
    return peak * fraction_of_peak(config, tokens, plan.total_tokens)


def fraction_of_peak(config: RunConfig, tokens: int, total: int) -> float:
    """Return the learning rate when `tokens` of `total` are consumed, as a fraction of the peak.

    Warm-up is linear from 0 to 1, whatever the kind.
    """
    schedule = config.schedule
    if tokens < schedule.warmup_tokens:
        return tokens / schedule.warmup_tokens
    return schedule_kind(schedule).fraction_after_warmup(schedule, tokens, total)


def schedule_problems(schedule: Schedule, train_tokens: int) -> list[str]:
    """Name fields that the kind of schedule does not take, needs, or is not defined with, and parts
    that do not fit into the run."""
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
    """Compare whether a field is given with whether the kind of schedule takes it."""
    value = getattr(schedule, name)
    default = type(schedule).model_fields[name].default
    requiring = [kind for kind in SCHEDULES.paths if name in SCHEDULES[kind].required_fields]
    if requiring and (schedule.kind in requiring) != (value != default):
        return [
            f"schedule.{name} = {value}: given exactly when schedule.kind is "
            f"{' or '.join(requiring)}"
        ]
    taking = [kind for kind in SCHEDULES.paths if name in SCHEDULES[kind].optional_fields]
    if schedule.kind in [*requiring, *taking] or value == default:
        return []
    return [
        f"schedule.{name} = {value}: kind {schedule.kind} has none, only {', '.join(taking)}; "
        "leave it out"
    ]
