"""A checkpoint's weights and moments as whole tensors by name, in safetensors: no pickle, no ranks, no ZeRO."""

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from pipeline.artifacts import temporary_path, write_json
from pipeline.training import reshard
from pipeline.training.checkpoint_folders import read_checkpoint_manifest


def write_plain(checkpoint: Path, output: Path) -> None:
    """Write `weights.safetensors`, one file for each moment, and `state.json` into a new folder, whole or not at all.

    One file is in memory at a time.
    """
    manifest = read_checkpoint_manifest(checkpoint)
    stored = reshard.open_stored(checkpoint, manifest["zero_stage"], manifest["ranks"])
    partial = temporary_path(output.absolute())
    partial.mkdir(parents=True)
    try:
        _write(partial / "weights.safetensors", list(stored.shapes), stored.weight)
        for moment in reshard.MOMENTS:
            if names := stored.names_with(moment):
                _write(partial / f"{moment}.safetensors", names, stored.moment_reader(moment))
        write_json(partial / "state.json", {**manifest["state"], "adam_step": stored.adam_step})
        partial.rename(output)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write(path: Path, names: list[str], read: Callable[[str], torch.Tensor]) -> None:
    save_file({name: read(name).contiguous() for name in names}, path)
