"""What a larger `train.train_tokens` does to the learning rate of a run that has begun. Free of
torch."""

from dataclasses import dataclass

from pipeline.checkpoint.folders import complete_checkpoints, read_checkpoint_manifest
from pipeline.checkpoint.retention import is_never_pruned
from pipeline.config.run_config import RunConfig
from pipeline.config.schedules import learning_rate, schedule_kind
from pipeline.store.events import EventDetails
from pipeline.store.layout import run_folder

LENGTHENED = "lengthened"
"""Event of a run whose learning rate has jumped so."""
LEAST_JUMP = 1e-6
"""Fraction of the peak below which it has not."""


@dataclass(frozen=True)
class Jump:
    """Where a run goes on with another learning rate than that which it had come to."""

    train_tokens_before: int
    train_tokens: int
    step: int
    """The newest checkpoint's, the last one by the schedule of the earlier length."""
    rate_before: float
    """At that step."""
    rate_after: float
    """At the step after it."""
    step_before_decay: int | None
    """The newest checkpoint from which the run goes on as if it had been this long from the start;
    None where none has been kept, or the schedule depends on the length everywhere."""

    def event(self, message: str) -> EventDetails:
        """Return it for events.jsonl."""
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
    """Return the same run with another length."""
    return config.model_copy(
        update={"train": config.train.model_copy(update={"train_tokens": train_tokens})}
    )


def find_jump(config: RunConfig, train_tokens_before: int) -> Jump | None:
    """Return the jump of the learning rate at a resume of a run that was to be shorter; None where
    there is none."""
    if config.train.train_tokens <= train_tokens_before:
        return None
    checkpoints = complete_checkpoints(run_folder(config).checkpoints)
    steps = [read_checkpoint_manifest(path)["state"]["step"] for path in checkpoints]
    if not steps or steps[-1] >= config.total_steps:
        return None
    shorter = with_length(config, train_tokens_before)
    if _had_the_same_rate(shorter, config, steps[-1]):
        return None
    same = [step for step in steps if _had_the_same_rate(shorter, config, step)]
    return Jump(
        train_tokens_before,
        config.train.train_tokens,
        steps[-1],
        learning_rate(shorter, steps[-1]),
        learning_rate(config, steps[-1] + 1),
        max(same) if same and schedule_kind(config.schedule).ends_in_decay else None,
    )


def describe_jump(config: RunConfig, jump: Jump) -> str:
    """Say what happens to the learning rate, and what to do instead."""
    kind = config.schedule.kind
    run_dir = config.paths.run_dir
    what = (
        f"train.train_tokens {jump.train_tokens_before:,} -> {jump.train_tokens:,}: schedule.kind "
        f"{kind} ends later, so the "
        f"learning rate, {jump.rate_before:.3g} at step {jump.step}, is {jump.rate_after:.3g} at "
        f"step {jump.step + 1}. "
    )
    if jump.step_before_decay is not None:
        return what + (
            f"To go on from before the decay, choose another paths.run_dir, with train.init_from = "
            f"{run_dir}@{jump.step_before_decay} and train.init_take = "
            f"everything{_pruned_soon(config, jump.step_before_decay)}"
        )
    if schedule_kind(config.schedule).ends_in_decay:
        return what + (
            "No checkpoint from before the decay has been kept (checkpoint.keep_every_steps). To "
            "go on from these weights "
            f"with a warm-up, choose another paths.run_dir, with train.init_from = {run_dir}"
        )
    return what + (
        "The steps before were trained by the schedule of the shorter run: to compare with a run "
        "of this length, train one "
        "from the start in another paths.run_dir; to go on from these weights with a warm-up, add "
        f"train.init_from = {run_dir}. "
        "A run that may be lengthened has schedule.kind wsd or constant"
    )


def _pruned_soon(config: RunConfig, step: int) -> str:
    """Return what to add about a checkpoint that the run's next saves delete; nothing where it
    stays."""
    if is_never_pruned(step, config.checkpoint):
        return ""
    return (
        ". The next saves delete that checkpoint (checkpoint.keep_last = "
        f"{config.checkpoint.keep_last}): to use it, stop this "
        f"run now, or start it with checkpoint.keep_every_steps = {step}"
    )


def _had_the_same_rate(shorter: RunConfig, longer: RunConfig, step: int) -> bool:
    peak = longer.optimizer.peak_learning_rate * longer.learning_rate_factor
    return abs(learning_rate(shorter, step) - learning_rate(longer, step)) <= LEAST_JUMP * peak
