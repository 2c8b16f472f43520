"""When a run reached a target loss, read off its validations. Pure arithmetic."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Evaluation:
    """One validation of a run."""

    tokens: float
    """Tokens that the run had been trained on."""
    loss: float | None
    """None where it was not finite."""


@dataclass(frozen=True)
class TargetReached:
    """When a run reached a target loss."""

    tokens: float
    """Interpolated between the two validations around the target."""
    tokens_evaluated: float
    """Tokens at the first validation at or below the target: an upper bound of `tokens`."""


@dataclass(frozen=True)
class TargetMissed:
    """Why nothing tells when a run reached a target loss."""

    reason: str
    is_early: bool = False
    """Whether the run was there before anything was measured."""


def target_reached(
    evaluations: Sequence[Evaluation], target: float, *, step_tokens: float = 0.0
) -> TargetReached | TargetMissed:
    """Return when the loss was first at or below a target; validations in the order of the run.

    Between two validations the loss is taken as linear in log tokens, as learning curves nearly are
    over short stretches. A loss that is not finite is above every target. A target that is reached at
    the first validation is missed: nothing tells how much earlier that was. `step_tokens`: tokens of the
    run's first step, before which nothing can be validated; it decides the remedy.
    """
    finite = [
        (evaluation, evaluation.loss) for evaluation in evaluations if evaluation.loss is not None
    ]
    if not finite:
        return TargetMissed("it has no finite validation loss")
    place = next((number for number, (_, loss) in enumerate(finite) if loss <= target), None)
    if place is None:
        lowest = min(loss for _, loss in finite)
        return TargetMissed(f"its lowest loss is {lowest:.4f}")
    if place == 0:
        if finite[0][0].tokens <= step_tokens:
            reason = (
                "it was there after its first step, before which it is not validated; ask for a lower "
                "loss (question.target_losses), or leave this batch out"
            )
        else:
            reason = "it was there at its first validation; raise rules.validations"
        return TargetMissed(reason, is_early=True)

    # Between the last validation above the target and the first one that is not.
    before, loss_before = finite[place - 1]
    after, loss_after = finite[place]
    share = (loss_before - target) / (loss_before - loss_after)
    logarithm = math.log(before.tokens) + share * math.log(after.tokens / before.tokens)
    return TargetReached(math.exp(logarithm), after.tokens)
