"""Guards on learning: updates that are not made, and trouble that a run goes back behind.

All is decided from numbers that the ranks have agreed on and from what a checkpoint holds: every
rank decides alike, and a run that is repeated without the skipped samples decides as the first one
did. Free of torch.
"""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pipeline.checkpoint.state import GuardState
from pipeline.config.run_config import RunConfig
from pipeline.config.run_sections import Guard
from pipeline.sampling.dataset import phase_starts
from pipeline.sampling.order import Order

OF_NORMAL = 1.4826
"""Standard deviations of a normal distribution in its median absolute deviation."""


@dataclass(frozen=True)
class Trouble:
    """Why a run has to go back."""

    reason: str
    steps: int
    """So many of the last steps are suspected: their samples are skipped."""
    is_in_weights: bool
    """Whether the weights after those steps are suspected, too: a spike shows what the step before
    has done."""


def judge(
    state: GuardState, loss: float | None, is_made: bool, settings: Guard
) -> tuple[GuardState, Trouble | None]:
    """Return what is known after one more step, and the trouble if there is any.

    `loss` in nats, None where it was not finite; `is_made`: whether the weights were updated.
    """
    if not is_made or loss is None:
        count = state.not_made + 1
        reason = f"loss or gradient was not finite in {count} steps in a row"
        trouble = (
            Trouble(reason, count, is_in_weights=False)
            if count > settings.max_skipped_updates
            else None
        )
        return replace(state, not_made=count), trouble
    trouble = None
    threshold = settings.spike_deviations
    window = settings.spike_window_steps
    if threshold is not None and len(state.losses) == window:
        median, deviations = deviations_above(state.losses, loss)
        if deviations > threshold:
            reason = (
                f"loss {loss:.4g} is {deviations:.1f} deviations above {median:.4g}, the median of "
                f"{window} steps"
            )
            trouble = Trouble(reason, settings.spike_skipped_steps, is_in_weights=True)
    return GuardState((*state.losses, loss)[-window:]), trouble


def deviations_above(losses: Iterable[float], loss: float) -> tuple[float, float]:
    """Return the median of losses, and how far above it one more lies, in robust standard
    deviations.

    Those are by the median absolute deviation, which the outliers themselves do not widen.
    """
    known = list(losses)
    median = statistics.median(known)
    spread = OF_NORMAL * statistics.median(abs(value - median) for value in known)
    return median, (loss - median) / spread if spread else math.inf if loss > median else 0.0


def is_new_level(config: RunConfig, order: Order, step: int) -> bool:
    """Tell whether losses before a step say nothing of its own: another mixture, batch or length of
    rows begins."""
    plan = config.step_plan
    if step == 1:
        return True
    if (plan.samples(step), plan.sequence_length(step)) != (
        plan.samples(step - 1),
        plan.sequence_length(step - 1),
    ):
        return True
    here, before = (_first_sample(config, order, at) for at in (step, step - 1))
    return any(before < start <= here for start in phase_starts(config))


def _first_sample(config: RunConfig, order: Order, step: int) -> int:
    return order.sample_at(config.step_plan.first_position(step))


def suspected_samples(
    config: RunConfig, order: Order, step: int, steps: int, checkpoint_step: int
) -> tuple[int, int]:
    """Return the samples `[first, end)` of the last steps up to `step`, none of which the
    checkpoint has seen."""
    first = max(step - steps, checkpoint_step) + 1
    plan = config.step_plan
    return order.sample_at(plan.first_position(first)), order.sample_at(
        plan.first_position(step + 1) - 1
    ) + 1
