"""The jump of the learning rate where a larger `train.train_tokens` lengthens a run that has begun.

Reads checkpoints' manifests. Free of torch.
"""

from dataclasses import dataclass

from pipeline.checkpoint.folders import complete_checkpoints, read_checkpoint_manifest
from pipeline.checkpoint.retention import is_never_pruned
from pipeline.config.run_config import RunConfig
from pipeline.config.schedules import learning_rate, schedule_kind
from pipeline.store.events import EventDetails
from pipeline.store.layout import run_folder

LENGTHENED = "lengthened"
"""Kind of the event of a run whose learning rate jumps because the run was lengthened."""
SMALLEST_JUMP = 1e-6
"""Minimum difference between two learning rates that counts as a jump, as a fraction of the peak."""


@dataclass(frozen=True)
class RateJump:
    """A jump of the learning rate between two steps, because the run became longer."""

    train_tokens_before: int
    train_tokens: int
    step: int
    """Step of the newest checkpoint: the last step that followed the shorter schedule."""
    rate_before: float
    """Learning rate at `step`."""
    rate_after: float
    """Learning rate at the step after `step`."""
    step_before_decay: int | None
    """Step of the newest checkpoint from which the longer run continues without a jump.

    None where no such checkpoint is kept, or where the schedule's every step depends on the length.
    """

    def event(self, message: str) -> EventDetails:
        """Return the fields of the `lengthened` event."""
        return {
            "train_tokens_before": self.train_tokens_before,
            "train_tokens": self.train_tokens,
            "step": self.step,
            "rate_before": self.rate_before,
            "rate_after": self.rate_after,
            "step_before_decay": self.step_before_decay,
            "message": message,
        }


def with_length(config: RunConfig, train_tokens: int) -> RunConfig:
    """Return the same settings with another `train.train_tokens`."""
    train = config.train.model_copy(update={"train_tokens": train_tokens})
    return config.model_copy(update={"train": train})


def find_rate_jump(config: RunConfig, train_tokens_before: int) -> RateJump | None:
    """Return the jump of the learning rate where a run resumes with more tokens than before.

    None where the run is not longer, has no checkpoint, or the rate does not jump.
    """
    # Only a run with steps left to make can jump.
    if config.train.train_tokens <= train_tokens_before:
        return None
    checkpoints = complete_checkpoints(run_folder(config).checkpoints)
    steps = [read_checkpoint_manifest(path)["state"]["step"] for path in checkpoints]
    if not steps or steps[-1] >= config.total_steps:
        return None
    # Compare both schedules at the newest checkpoint.
    shorter = with_length(config, train_tokens_before)
    if _has_same_rate(shorter, config, steps[-1]):
        return None

    # A schedule that ends in a decay may have a checkpoint from before the decay.
    step_before_decay = None
    if schedule_kind(config.schedule).ends_in_decay:
        same = [step for step in steps if _has_same_rate(shorter, config, step)]
        step_before_decay = max(same, default=None)
    return RateJump(
        train_tokens_before,
        config.train.train_tokens,
        steps[-1],
        learning_rate(shorter, steps[-1]),
        learning_rate(config, steps[-1] + 1),
        step_before_decay,
    )


def describe_rate_jump(config: RunConfig, jump: RateJump) -> str:
    """Describe the jump of the learning rate and the remedy, for the user."""
    # What happens.
    kind = config.schedule.kind
    run_dir = config.paths.run_dir
    effect = (
        f"train.train_tokens {jump.train_tokens_before:,} -> {jump.train_tokens:,}: schedule.kind "
        f"{kind} ends later, so the learning rate jumps from {jump.rate_before:.3g} at step "
        f"{jump.step} to {jump.rate_after:.3g} at step {jump.step + 1}. "
    )

    # What to do instead, which depends on the checkpoints and on the schedule.
    if jump.step_before_decay is not None:
        return effect + (
            "To continue from before the decay, choose another paths.run_dir, with train.init_from "
            f"= {run_dir}@{jump.step_before_decay} and train.init_take = "
            f"everything{_warn_of_pruning(config, jump.step_before_decay)}"
        )
    if schedule_kind(config.schedule).ends_in_decay:
        return effect + (
            "No checkpoint from before the decay is kept (checkpoint.keep_every_steps). To "
            "continue from these weights with a warm-up, choose another paths.run_dir, with "
            f"train.init_from = {run_dir}"
        )
    return effect + (
        "The earlier steps followed the schedule of the shorter run: to compare with a run of this "
        "length, train one from the start in another paths.run_dir; to continue from these weights "
        f"with a warm-up, add train.init_from = {run_dir}. A run that may be lengthened needs "
        "schedule.kind wsd or constant"
    )


def _warn_of_pruning(config: RunConfig, step: int) -> str:
    """Return a warning where the run's next saves delete the checkpoint of `step`, else nothing."""
    if is_never_pruned(step, config.checkpoint):
        return ""
    return (
        ". The next saves delete that checkpoint (checkpoint.keep_last = "
        f"{config.checkpoint.keep_last}): to use it, stop this run now, or start it with "
        f"checkpoint.keep_every_steps = {step}"
    )


def _has_same_rate(shorter: RunConfig, longer: RunConfig, step: int) -> bool:
    peak = longer.optimizer.peak_learning_rate * longer.learning_rate_factor
    return abs(learning_rate(shorter, step) - learning_rate(longer, step)) <= SMALLEST_JUMP * peak
