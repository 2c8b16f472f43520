"""Guards on learning: they count skipped updates and decide when a run has to roll back.

They decide from agreed figures and from the state that a checkpoint holds. So every rank decides
alike, and a second run without the skipped samples decides as the first one did. Free of torch.
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

DEVIATIONS_PER_MAD = 1.4826
"""Standard deviation of a normal distribution, divided by its median absolute deviation."""


@dataclass(frozen=True)
class Trouble:
    """Why a run has to roll back."""

    reason: str
    steps: int
    """Number of the latest steps that are suspected: their samples are skipped."""
    is_in_weights: bool
    """Whether the weights after those steps are suspected as well.

    After a spike they are: the loss of a step shows what the update before it did.
    """


def apply_guards(
    state: GuardState, loss: float | None, is_made: bool, settings: Guard
) -> tuple[GuardState, Trouble | None]:
    """Return the guards' state after one more step, and the trouble where there is any.

    `loss` in nats, None where it was not finite; `is_made`: whether the weights were updated.
    """
    # Count updates that were not made: too many in a row are trouble.
    trouble = None
    if not is_made or loss is None:
        count = state.not_made + 1
        if count > settings.max_skipped_updates:
            reason = f"loss or gradient was not finite in {count} steps in a row"
            trouble = Trouble(reason, count, is_in_weights=False)
        return replace(state, not_made=count), trouble

    # Compare the loss with a full window of earlier ones: a spike is trouble.
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
    """Return the median of `losses`, and how far `loss` is above it in robust standard deviations.

    The standard deviation is estimated from the median absolute deviation, which outliers do not
    widen.
    """
    window = list(losses)
    median = statistics.median(window)
    spread = DEVIATIONS_PER_MAD * statistics.median(abs(value - median) for value in window)
    if spread:
        return median, (loss - median) / spread
    if loss > median:
        return median, math.inf
    return median, 0.0


def starts_new_level(config: RunConfig, order: Order, step: int) -> bool:
    """Tell whether a step is the first one with a new mixture, batch size or row length.

    If so, its loss cannot be compared with the losses of earlier steps. True for step 1.
    """
    if step == 1:
        return True
    plan = config.step_plan
    if plan.samples(step) != plan.samples(step - 1):
        return True
    if plan.sequence_length(step) != plan.sequence_length(step - 1):
        return True
    sample = _first_sample(config, order, step)
    sample_before = _first_sample(config, order, step - 1)
    return any(sample_before < start <= sample for start in phase_starts(config))


def _first_sample(config: RunConfig, order: Order, step: int) -> int:
    return order.sample_at(config.step_plan.first_position(step))


def suspected_samples(
    config: RunConfig, order: Order, step: int, steps: int, checkpoint_step: int
) -> tuple[int, int]:
    """Return the samples `[first, end)` of the last `steps` steps up to `step`.

    Leaves out samples of steps up to `checkpoint_step`, which the checkpoint has already seen.
    """
    plan = config.step_plan
    first_step = max(step - steps, checkpoint_step) + 1
    first = order.sample_at(plan.first_position(first_step))
    last = order.sample_at(plan.first_position(step + 1) - 1)
    return first, last + 1
