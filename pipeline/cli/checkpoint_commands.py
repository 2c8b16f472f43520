"""`pipeline checkpoints`: what a run has saved, whether it is sound, what need not stay, and all of
one in plain files.

Free of torch but for `convert`.
"""

import time
from pathlib import Path
from typing import Any

from pipeline.checkpoint.folders import (
    broken_checkpoints,
    complete_checkpoints,
    read_checkpoint_manifest,
    read_latest,
    remove_checkpoint,
)
from pipeline.checkpoint.integrity import damaged_files
from pipeline.checkpoint.retention import checkpoints_to_prune
from pipeline.config.run_sections import Checkpoint
from pipeline.errors import DataError, UserError
from pipeline.logs import console, human_bytes, note, print_json, print_wide
from pipeline.store.layout import RunFolder, checkpoint_name, checkpoint_step, manifest_path
from pipeline.store.lease import Lease

LEAST_WIDTH = 100


def list_checkpoints(run_dir: Path, as_json: bool) -> None:
    """Print every folder with a checkpoint's name, oldest first. Nothing but manifests is read."""
    folder = _folder(run_dir)
    records = [_record(path) for path in complete_checkpoints(folder)]
    records += [
        {"checkpoint": path.name, "flaw": flaw} for path, flaw in broken_checkpoints(folder).items()
    ]
    records.sort(key=lambda record: record["checkpoint"])
    if as_json:
        print_json({"checkpoints": records, "latest": read_latest(folder)})
        return
    from rich.table import Table

    shown = Table(box=None, pad_edge=False)
    shown.add_column("checkpoint")
    for heading in ("tokens", "ZeRO", "ranks", "size"):
        shown.add_column(heading, justify="right")
    shown.add_column("written")
    for record in records:
        if "flaw" in record:
            shown.add_row(record["checkpoint"], "", "", "", "", f"no checkpoint: {record['flaw']}")
        else:
            ends = (
                str(record["zero_stage"]),
                str(record["ranks"]),
                human_bytes(record["bytes"]),
                record["written"],
            )
            shown.add_row(record["checkpoint"], f"{record['tokens']:,}", *ends)
    print_wide(shown, LEAST_WIDTH)


def _record(checkpoint: Path) -> dict[str, Any]:
    manifest = read_checkpoint_manifest(checkpoint)
    written = time.localtime(manifest_path(checkpoint).stat().st_mtime)
    return {
        "checkpoint": checkpoint.name,
        "step": manifest["state"]["step"],
        "tokens": manifest["state"]["tokens"],
        "zero_stage": manifest["zero_stage"],
        "ranks": manifest["ranks"],
        "bytes": sum(record["bytes"] for record in manifest["files"].values()),
        "written": time.strftime("%Y-%m-%d %H:%M", written),
    }


def verify_checkpoints(run_dir: Path, step: int | None) -> None:
    """Read every byte of one checkpoint or of all. Raises DataError that names what is damaged,
    file by file."""
    folder = _folder(run_dir)
    chosen = complete_checkpoints(folder) if step is None else [_checkpoint(folder, step)]
    problems = [
        f"{path.name}: {flaw}"
        for path, flaw in broken_checkpoints(folder).items()
        if step in (None, checkpoint_step(path))
    ]
    for path in chosen:
        damaged = damaged_files(path)
        problems += [f"{path.name}: {line}" for line in damaged]
        if not damaged:
            note(f"{path.name}: every byte is as it was written")
    if problems:
        raise DataError("\n".join([f"{folder}: damaged", *(f"  - {line}" for line in problems)]))


def prune_checkpoints(run_dir: Path, settings: Checkpoint, dry_run: bool) -> None:
    """Delete what the settings do not keep, as a save would; the newest is verified before anything
    goes."""
    folder = _folder(run_dir)
    with Lease(run_dir, "pipeline checkpoints prune"):
        checkpoints = complete_checkpoints(folder)
        if not checkpoints:
            raise UserError(f"{folder}: holds no complete checkpoint; nothing was deleted")
        newest = checkpoints[-1]
        going = checkpoints_to_prune(checkpoints, newest, settings)
        if going and (damage := damaged_files(newest)):
            raise DataError(
                f"{newest}: is damaged: {', '.join(damage)}. Nothing was deleted: an older one may "
                "be the last good one."
            )
        for path in going:
            size = _record(path)["bytes"]
            if not dry_run:
                remove_checkpoint(path)
            console.print(
                f"{'would delete' if dry_run else 'deleted'} {path.name}, {human_bytes(size)}"
            )
        if not going:
            note(f"nothing to delete: {len(checkpoints)} checkpoints, all of which stay")


def convert_checkpoint(run_dir: Path, step: int | None, output: Path) -> None:
    """Write a checkpoint's fp32 weights and optimizer moments, whole and by name, as safetensors,
    whoever wrote it.

    `weights.safetensors`, one file for each moment, and `state.json`, which says step, tokens and
    Adam's step. Raises DataError where the checkpoint is damaged, UserError where the output
    exists.
    """
    folder = _folder(run_dir)
    checkpoints = complete_checkpoints(folder)
    if step is None and not checkpoints:
        raise UserError(f"{folder}: holds no complete checkpoint")
    chosen = checkpoints[-1] if step is None else _checkpoint(folder, step)
    if output.exists():
        raise UserError(f"{output}: exists; name a folder that is to be made")
    from pipeline.checkpoint.plain_files import write_plain

    others = [str(checkpoint_step(path)) for path in checkpoints if path != chosen]
    remedy = (
        f"Restore it from a copy, or give another --step: {', '.join(others) or 'there is none'}"
    )
    write_plain(chosen, output, remedy)
    note(f"wrote {chosen.name} to {output}")


def _folder(run_dir: Path) -> Path:
    folder = RunFolder(run_dir).checkpoints
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give a run's folder, or its run file")
    return folder


def _checkpoint(folder: Path, step: int) -> Path:
    chosen = folder / checkpoint_name(step)
    there = complete_checkpoints(folder)
    if chosen in there:
        return chosen
    flaw = broken_checkpoints(folder).get(chosen)
    steps = ", ".join(str(checkpoint_step(path)) for path in there) or "none"
    raise UserError(f"{chosen}: {flaw or 'no such checkpoint'}; complete are those of step {steps}")
