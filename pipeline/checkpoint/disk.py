"""What a run's checkpoints will take on the disk, held against what is free there. Free of
torch."""

import shutil
from pathlib import Path

from pipeline.checkpoint.folders import complete_checkpoints, read_checkpoint_manifest
from pipeline.checkpoint.retention import is_save_due, most_kept_at_once
from pipeline.config.run_config import RunConfig
from pipeline.store.layout import run_folder, unfinished_checkpoints

GIB = 2**30


def disk_space_needed(config: RunConfig, predicted: float) -> tuple[str, list[str]]:
    """Say what checkpoints of `predicted` bytes each come to, and why it cannot be where the disk
    has too little free.

    Of a run that has some already the newest one's size counts instead.
    """
    folder = run_folder(config).checkpoints
    there = complete_checkpoints(folder)
    size = float(_bytes_of(there[-1])) if there else predicted
    most = min(most_kept_at_once(config.total_steps, config.checkpoint), _saves(config))
    unfinished = sum(
        path.stat().st_size for path in unfinished_checkpoints(folder).rglob("*") if path.is_file()
    )  # removed at the start
    needed = max(0, most - len(there)) * size
    free = shutil.disk_usage(_existing(folder)).free + unfinished
    told = f"up to {most} checkpoints of {_gib(size)} at a time, {_gib(free)} free on the disk"
    if needed <= free:
        return told, []
    return told, [
        f"paths.run_dir = {config.paths.run_dir}: its disk has {_gib(free)} free, and {most} "
        f"checkpoints of {_gib(size)} "
        f"({len(there)} of them there) need {_gib(needed)} more; set checkpoint.keep_last lower, "
        "keep_every_steps higher, "
        "keep_log_spaced to false, or choose another paths.run_dir"
    ]


def _saves(config: RunConfig) -> int:
    """Return how many checkpoints a run makes, the last one included; counted only where they may
    be few."""
    total = config.total_steps
    every = config.checkpoint.save_every_steps
    if total > 100_000 or total // every > 100:
        return total
    return sum(is_save_due(step, config.checkpoint) for step in range(1, total)) + 1


def _bytes_of(checkpoint: Path) -> int:
    return sum(record["bytes"] for record in read_checkpoint_manifest(checkpoint)["files"].values())


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _gib(count: float) -> str:
    return f"{count / GIB:,.1f} GiB" if count >= 0.1 * GIB else f"{count / 2**20:,.1f} MiB"
