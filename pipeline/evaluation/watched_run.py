"""Where a watched run stands: whether it is being trained, whether it is trained to its end.

Reads the leases of the run's folders and the manifest of `train`. Writes nothing.
"""

import time
from pathlib import Path

from pipeline.checkpoint.folders import complete_checkpoints
from pipeline.config.run_config import RunConfig
from pipeline.logs import human_seconds, note
from pipeline.store.artifacts import read_manifest
from pipeline.store.counts import TrainCounts
from pipeline.store.layout import RunFolder, checkpoint_step, run_folder
from pipeline.store.lease import living_holder
from pipeline.store.records import Manifest
from pipeline.store.stages import STAGES

WATCH = "pipeline evaluate --watch"
"""Purpose in the leases that a watch holds."""
TRAIN = next(stage.command for stage in STAGES if stage.name == "train")
"""Purpose in the lease of run_dir while ranks train; `pipeline run` names each of its stages."""
LOOK_SECONDS = 1
"""Seconds between two looks at a watch that is about to end."""
MOST_WAIT_SECONDS = 3600
"""Maximum wait for a watch that is about to end."""


def is_being_trained(run: RunFolder) -> bool:
    """Tell whether a living job trains the run; one of its later stages does not count."""
    holder = living_holder(run.path)
    return holder is not None and holder.get("purpose") == TRAIN


def is_trained(config: RunConfig) -> bool:
    """Tell whether the last training came to the last step of the run file.

    False for a run that was lengthened since, and for one that has saved later checkpoints.
    """
    run = run_folder(config)
    manifest: Manifest[TrainCounts] | None = read_manifest(run.train_manifest)
    if manifest is None:
        return False
    last = checkpoint_step(Path(manifest["counts"]["checkpoint"]))
    return config.total_steps <= last and newest_step(run) <= last


def newest_step(run: RunFolder) -> int:
    """Return the step of the newest complete checkpoint, 0 without one."""
    steps = [checkpoint_step(path) for path in complete_checkpoints(run.checkpoints)]
    return max(steps, default=0)


def wait_for_watch(config: RunConfig) -> None:
    """Wait for a watch that is about to end: the run is trained, its last checkpoint is scored.

    Returns at once where there is no watch, or where it goes on; and after `MOST_WAIT_SECONDS`.
    """
    run = run_folder(config)
    if not _is_watched(run) or not is_trained(config):
        return
    note(
        f"evaluate: waiting for `{WATCH}`, which scores the last checkpoint; its scores are taken "
        f"over (at most {human_seconds(MOST_WAIT_SECONDS)})"
    )
    deadline = time.monotonic() + MOST_WAIT_SECONDS
    while _is_watched(run) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)


def _is_watched(run: RunFolder) -> bool:
    holder = living_holder(run.evaluation)
    return holder is not None and holder.get("purpose") == WATCH
