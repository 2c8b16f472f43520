"""Writes a checkpoint's weights and moments as whole tensors by name, in safetensors.

Such files need no pickle, no DeepSpeed and no knowledge of ranks.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch

from pipeline.checkpoint.folders import read_checkpoint_manifest
from pipeline.checkpoint.stored_weights import read_verified
from pipeline.engine.optimizers.optimizer_kind import moment_names
from pipeline.store.files import temporary_path, write_json


def write_plain(checkpoint: Path, output: Path, remedy: str) -> None:
    """Write a checkpoint as safetensors files into a new folder, whole or not at all.

    Writes `weights.safetensors`, one file for each moment, and `state.json`; one file is in memory
    at a time. Raises DataError, which ends with `remedy`, where the checkpoint is damaged.
    """
    stored = read_verified(checkpoint, remedy)
    partial = temporary_path(output.absolute())
    partial.mkdir(parents=True)
    try:
        _write(partial / "weights.safetensors", list(stored.shapes), stored.weight)
        for moment in moment_names():
            names = stored.names_with(moment)
            if names:
                _write(partial / f"{moment}.safetensors", names, stored.moment_reader(moment))
        write_json(
            partial / "state.json",
            {**read_checkpoint_manifest(checkpoint)["state"], "adam_step": stored.adam_step},
        )
        partial.rename(output)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write(path: Path, names: list[str], read: Callable[[str], torch.Tensor]) -> None:
    safetensors.torch.save_file({name: read(name).contiguous() for name in names}, path)
