"""Compares the disk space that a run's checkpoints will need with the free space.

Reads the checkpoints that exist. Imports no torch.
"""

import shutil
from pathlib import Path

from pipeline.checkpoint.folders import complete_checkpoints, read_checkpoint_manifest
from pipeline.checkpoint.retention import most_kept_at_once, saves_of_run
from pipeline.config.run_config import RunConfig
from pipeline.logs import binary_bytes
from pipeline.store.layout import run_folder, unfinished_checkpoints


def disk_space_needed(config: RunConfig, predicted: float) -> tuple[str, list[str]]:
    """Return a summary of the disk space for checkpoints, and the problems: none or one message.

    `predicted`: bytes of one checkpoint; where the run has checkpoints, the size of the newest
    counts instead.
    """
    # The largest number of checkpoints at a time, and their size.
    folder = run_folder(config).checkpoints
    existing = complete_checkpoints(folder)
    size = predicted
    if existing:
        size = float(_bytes_of(existing[-1]))
    steps = config.total_steps
    saves = saves_of_run(steps, config.checkpoint)
    most = min(most_kept_at_once(steps, config.checkpoint), saves)
    # What a killed save left unfinished is removed at the start, so its space is free.
    unfinished = sum(
        path.stat().st_size for path in unfinished_checkpoints(folder).rglob("*") if path.is_file()
    )
    needed = max(0, most - len(existing)) * size
    free = shutil.disk_usage(_nearest_existing(folder)).free + unfinished
    each = binary_bytes(size)
    room = binary_bytes(free)
    summary = f"up to {most} checkpoints of {each} at a time, {room} free on the disk"
    if needed <= free:
        return summary, []
    return summary, [
        f"paths.run_dir = {config.paths.run_dir}: its disk has {room} free, and {most} checkpoints of "
        f"{each} ({len(existing)} of them there) need {binary_bytes(needed)} more; set "
        "checkpoint.keep_last lower, keep_every_steps higher, keep_log_spaced to false, fewer "
        "keep_steps, or choose another paths.run_dir"
    ]


def _bytes_of(checkpoint: Path) -> int:
    return sum(record["bytes"] for record in read_checkpoint_manifest(checkpoint)["files"].values())


def _nearest_existing(folder: Path) -> Path:
    """Return the folder, or the nearest folder above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())
