"""Which checkpoints are made, and which of them stay. Free of torch."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.config.run_sections import Checkpoint
from pipeline.store.layout import checkpoint_step


def is_save_due(step: int, settings: Checkpoint) -> bool:
    """Tell whether a checkpoint is due after a step that is neither the last nor one that is told
    to stop."""
    return step % settings.save_every_steps == 0 or is_never_pruned(step, settings)


def is_never_pruned(step: int, settings: Checkpoint) -> bool:
    """Tell whether a step's checkpoint is never deleted: multiples of `keep_every_steps`, powers of
    two if `keep_log_spaced`."""
    every = settings.keep_every_steps
    return (every is not None and step % every == 0) or (
        settings.keep_log_spaced and step & (step - 1) == 0
    )


def checkpoints_to_prune(
    checkpoints: Sequence[Path], saved: Path, settings: Checkpoint
) -> list[Path]:
    """Return which checkpoints to delete now that `saved` is complete; `checkpoints` are all that
    are, oldest first.

    Those before it beyond the `keep_last` newest that need not stay for ever. Later ones were
    damaged, so that the run went back behind them; they must not push out good ones.
    """
    at = checkpoints.index(saved)
    newest = set(checkpoints[max(0, at + 1 - settings.keep_last) : at + 1])
    older = [
        p
        for p in checkpoints[:at]
        if p not in newest and not is_never_pruned(checkpoint_step(p), settings)
    ]
    return [*older, *checkpoints[at + 1 :]]


def most_kept_at_once(total_steps: int, settings: Checkpoint) -> int:
    """Return the largest number of checkpoints that lie on the disk at once, the one that is being
    written included."""
    for_ever = (
        set(range(settings.keep_every_steps, total_steps + 1, settings.keep_every_steps))
        if settings.keep_every_steps
        else set()
    )
    if settings.keep_log_spaced:
        for_ever |= {1 << power for power in range(total_steps.bit_length())}
    return len(for_ever) + settings.keep_last + 1
