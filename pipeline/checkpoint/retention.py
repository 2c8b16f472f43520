"""Which steps are saved as checkpoints, and which checkpoints are kept. Imports no torch."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.config.run_sections import Checkpoint
from pipeline.store.layout import checkpoint_step
from pipeline.store.lease import living_holder


def is_save_due(step: int, settings: Checkpoint) -> bool:
    """Tell whether the settings ask for a checkpoint after a step.

    The last step of a run, and a step that stops early, are saved besides.
    """
    return step % settings.save_every_steps == 0 or is_never_pruned(step, settings)


def is_never_pruned(step: int, settings: Checkpoint) -> bool:
    """Tell whether pruning always keeps a step's checkpoint.

    These are the multiples of `keep_every_steps`, those of `keep_steps` and, with
    `keep_log_spaced`, the powers of two.
    """
    every = settings.keep_every_steps
    if every is not None and step % every == 0:
        return True
    if step in settings.keep_steps:
        return True
    return settings.keep_log_spaced and step & (step - 1) == 0


def checkpoints_to_prune(
    checkpoints: Sequence[Path], saved: Path, settings: Checkpoint
) -> list[Path]:
    """Return the checkpoints to delete now that `saved` is complete.

    `checkpoints`: all complete ones, oldest first. Up to `saved`, the `keep_last` newest are kept,
    those that are never pruned, and those that another process reads now, which the next save
    deletes. All later ones are deleted: the run rolled back past them, and they must not take the
    place of good ones.
    """
    at = checkpoints.index(saved)
    newest = set(checkpoints[max(0, at + 1 - settings.keep_last) : at + 1])
    older = [
        p
        for p in checkpoints[:at]
        if p not in newest
        and not is_never_pruned(checkpoint_step(p), settings)
        and living_holder(p) is None
    ]
    return [*older, *checkpoints[at + 1 :]]


def most_kept_at_once(total_steps: int, settings: Checkpoint) -> int:
    """Return the largest number of checkpoints on the disk at once, with the one being written."""
    return len(_never_pruned(total_steps, settings)) + settings.keep_last + 1


def saves_of_run(total_steps: int, settings: Checkpoint) -> int:
    """Return the number of checkpoints that a run saves, that of its last step included."""
    every = settings.save_every_steps
    between = {step for step in _never_pruned(total_steps, settings) if step % every}
    if total_steps % every:
        between.add(total_steps)
    return total_steps // every + len(between)


def kept_at_the_end(total_steps: int, settings: Checkpoint) -> int:
    """Return the number of checkpoints of a finished run, that of its last step included."""
    newest: list[int] = []
    step = total_steps
    while step > 0 and len(newest) < settings.keep_last:
        if step == total_steps or is_save_due(step, settings):
            newest.append(step)
        step -= 1
    return len(_never_pruned(total_steps, settings).union(newest))


def _never_pruned(total_steps: int, settings: Checkpoint) -> set[int]:
    """Return the steps whose checkpoints pruning always keeps."""
    steps: set[int] = set()
    if settings.keep_every_steps:
        every = settings.keep_every_steps
        steps.update(range(every, total_steps + 1, every))
    if settings.keep_log_spaced:
        steps.update(1 << power for power in range(total_steps.bit_length()))
    steps.update(step for step in settings.keep_steps if step <= total_steps)
    return steps
