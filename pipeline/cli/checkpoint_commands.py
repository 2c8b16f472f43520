"""`pipeline checkpoints`: list, verify, prune, convert or merge the checkpoints of a run.

Reads run_dir/checkpoints; `prune` deletes there, `convert` and `merge` write a folder of
safetensors. Only these two import torch.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from pydantic import ValidationError

from pipeline.checkpoint.folders import (
    broken_checkpoints,
    checkpoint_of_step,
    complete_checkpoints,
    read_checkpoint_manifest,
    read_latest,
    remove_checkpoint,
)
from pipeline.checkpoint.integrity import damaged_files
from pipeline.checkpoint.retention import checkpoints_to_prune
from pipeline.config.evaluation_section import Merge
from pipeline.config.run_sections import Checkpoint
from pipeline.errors import ConfigError, DataError, UserError
from pipeline.logs import console, human_bytes, note, print_json, print_wide
from pipeline.store.artifacts import import_function
from pipeline.store.layout import RunFolder, checkpoint_step, manifest_path
from pipeline.store.lease import Lease
from pipeline.store.recorded_run import recorded_config

LEAST_WIDTH = 100
"""Columns of the table: a narrower terminal breaks lines rather than words."""


class ListedCheckpoint(TypedDict):
    """A complete checkpoint, as `list --json` prints it."""

    checkpoint: str
    """Name of the folder."""
    step: int
    tokens: int
    zero_stage: int
    ranks: int
    bytes: int
    written: str
    """Local time, `2000-01-31 23:59`."""


class BrokenFolder(TypedDict):
    """A folder that has a checkpoint's name and is none, as `list --json` prints it."""

    checkpoint: str
    """Name of the folder."""
    flaw: str


def list_checkpoints(run_dir: Path, as_json: bool) -> None:
    """Print every folder with a checkpoint's name, oldest first; reads only manifests."""
    folder = _checkpoints_of(run_dir)
    records: list[ListedCheckpoint | BrokenFolder] = []
    for path in complete_checkpoints(folder):
        records.append(_listed(path))
    for path, flaw in broken_checkpoints(folder).items():
        records.append({"checkpoint": path.name, "flaw": flaw})
    records.sort(key=lambda record: record["checkpoint"])
    if as_json:
        print_json({"checkpoints": records, "latest": read_latest(folder)})
    else:
        _print_checkpoints(records)


def _print_checkpoints(records: Sequence[ListedCheckpoint | BrokenFolder]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("checkpoint")
    for heading in ("tokens", "ZeRO", "ranks", "size"):
        table.add_column(heading, justify="right")
    table.add_column("written")
    for record in records:
        if "flaw" in record:
            table.add_row(record["checkpoint"], "", "", "", "", f"no checkpoint: {record['flaw']}")
            continue
        table.add_row(
            record["checkpoint"],
            f"{record['tokens']:,}",
            str(record["zero_stage"]),
            str(record["ranks"]),
            human_bytes(record["bytes"]),
            record["written"],
        )
    print_wide(table, LEAST_WIDTH)


def _listed(checkpoint: Path) -> ListedCheckpoint:
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
    """Read every byte of one checkpoint or of all. Raises DataError naming each damaged file."""
    folder = _checkpoints_of(run_dir)
    chosen = complete_checkpoints(folder)
    if step is not None:
        chosen = [checkpoint_of_step(folder, step)]
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
    """Delete the checkpoints that the settings do not keep, as a save would.

    Verifies the newest one first and raises DataError where it is damaged.
    """
    folder = _checkpoints_of(run_dir)
    with Lease(run_dir, "pipeline checkpoints prune"):
        checkpoints = complete_checkpoints(folder)
        if not checkpoints:
            raise UserError(f"{folder}: holds no complete checkpoint; nothing was deleted")
        newest = checkpoints[-1]
        to_delete = checkpoints_to_prune(checkpoints, newest, settings)
        if not to_delete:
            note(f"nothing to delete: {len(checkpoints)} checkpoints, all of which are kept")
            return

        # An older checkpoint may be the last good one.
        damage = damaged_files(newest)
        if damage:
            raise DataError(
                f"{newest}: is damaged: {', '.join(damage)}. Nothing was deleted: an older one may "
                "be the last good one."
            )

        for path in to_delete:
            size = human_bytes(_listed(path)["bytes"])
            if dry_run:
                console.print(f"would delete {path.name}, {size}")
            else:
                remove_checkpoint(path)
                console.print(f"deleted {path.name}, {size}")


def convert_checkpoint(run_dir: Path, step: int | None, output: Path) -> None:
    """Write a checkpoint's fp32 weights and optimizer moments, whole and by name, as safetensors.

    Works for every ZeRO stage and number of ranks. Writes `weights.safetensors`, one file for each
    moment, and `state.json` with step, tokens and Adam's step. Raises DataError where the
    checkpoint is damaged, UserError where the output exists.
    """
    folder = _checkpoints_of(run_dir)

    chosen = checkpoint_of_step(folder, step)
    if output.exists():
        raise UserError(f"{output}: exists already; choose a folder that does not exist yet")

    # Imports torch, so only after the mistakes that need no torch.
    from pipeline.checkpoint.plain_files import write_plain

    others = [str(checkpoint_step(path)) for path in complete_checkpoints(folder) if path != chosen]
    remedy = (
        f"Restore it from a copy, or give another --step: {', '.join(others) or 'there is none'}"
    )
    write_plain(chosen, output, remedy)
    note(f"wrote {chosen.name} to {output}")


def merge_checkpoints(
    run: Path, output: Path, last: int | None, steps: str | None, weights: str
) -> None:
    """Average checkpoints of a run, and write the result as a transformers folder.

    Raises ConfigError for options that do not fit together, or a checkpoint that is not there.
    """
    chosen = step_numbers("--steps", steps)
    try:
        merge = Merge.model_validate({"last": last, "steps": chosen, "weights": weights})
    except ValidationError as error:
        problems = [f"--{problem['loc'][0]}: {problem['msg']}" for problem in error.errors()]
        raise ConfigError(problems) from None
    export_merge = import_function("pipeline.evaluation.merged:export_merge")
    export_merge(recorded_config(run, []), merge, output)


def step_numbers(option: str, text: str | None) -> tuple[int, ...]:
    """Return the steps in a list such as `100,200`. Raises ConfigError for anything else."""
    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",")]
    wrong = [part for part in parts if not (part.isascii() and part.isdigit())]
    if wrong:
        raise ConfigError([f"{option} {text}: {wrong[0]!r} is no step; write numbers, as 100,200"])
    return tuple(map(int, parts))


def _checkpoints_of(run_dir: Path) -> Path:
    folder = RunFolder(run_dir).checkpoints
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give a run's folder, or its run file")
    return folder
