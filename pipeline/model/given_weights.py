"""Given weights for a model, in the place of drawn ones: another run's, or those of a transformers
folder.

Rank 0 alone reads them. Sharded parameters are gathered one at a time; whole ones reach the other
ranks when DeepSpeed broadcasts the model of rank 0, as `deepspeed.initialize` does at every ZeRO
stage.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from pipeline.errors import DataError, first_of
from pipeline.store.pretrained_folders import open_model

SHOWN = 5


@dataclass(frozen=True)
class GivenWeights:
    """The parameters of a model by their names in transformers; tied ones under one of their names,
    or each."""

    where: str
    """Where they come from, for messages."""
    shapes: Mapping[str, torch.Size]
    read: Callable[[str], torch.Tensor] | None
    """Return one of them in fp32. None on other ranks than 0."""
    buffers: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Persistent tensors that are no parameters; none where other ranks than 0 need them, too."""


@torch.no_grad()
def put_weights(model: PreTrainedModel, weights: GivenWeights, is_sharded: bool) -> None:
    """Copy weights into a model before `deepspeed.initialize`; every rank calls it.

    Raises DataError, on every rank, where a parameter is missing, has another shape, or is not the
    model's.
    """
    own = dict(model.named_parameters())
    shapes = {
        name: getattr(p, "ds_shape", p.shape) for name, p in own.items()
    }  # sharded ones show shape (0,)
    every_name = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    outside = set(model.state_dict()) - every_name
    problems = [
        _listed("missing", [name for name in own if name not in weights.shapes]),
        _listed("not of this model", [name for name in weights.shapes if name not in every_name]),
        _listed(
            "of another shape",
            [
                f"{name} {tuple(weights.shapes[name])} instead of {tuple(shape)}"
                for name, shape in shapes.items()
                if name in weights.shapes and weights.shapes[name] != shape
            ],
        ),
        _listed(
            "state outside of parameters, which is not taken over",
            sorted(outside - weights.buffers.keys()),
        ),
    ]
    found = [problem for problem in problems if problem]
    if found:
        raise DataError(f"{weights.where}: does not fit the model: {'; '.join(found)}")
    for name, parameter in own.items():
        with gathered_parameters([parameter]) if is_sharded else nullcontext():
            if weights.read is not None:
                parameter.copy_(weights.read(name))
    for name, buffer in model.named_buffers():
        if name in weights.buffers:
            buffer.copy_(weights.buffers[name])


def pretrained_weights(folder: Path, architecture: PretrainedConfig) -> GivenWeights:
    """Read a transformers folder's safetensors as transformers does, old names of weights included.

    Raises DataError where a weight is missing, left over, of another shape, or the folder has no
    safetensors or brings code.
    """
    where = f"model.pretrained = {folder}"
    transformers_logging.disable_progress_bar()
    model, loaded = open_model(
        folder,
        where,
        config=architecture,
        dtype=torch.float32,
        ignore_mismatched_sizes=True,  # named below, with the others
        output_loading_info=True,
    )
    problems = [
        _listed("missing", sorted(loaded["missing_keys"])),
        _listed("not of this model", sorted(loaded["unexpected_keys"])),
        _listed("of another shape", sorted(str(entry[0]) for entry in loaded["mismatched_keys"])),
    ]
    found = [problem for problem in problems if problem]
    if found:
        raise DataError(f"{where}: its weights do not fit its config.json: {'; '.join(found)}")
    parameters = dict(model.named_parameters())
    return GivenWeights(
        where,
        {name: p.shape for name, p in parameters.items()},
        lambda name: parameters[name].detach(),
    )


def gathered_parameters(parameters: list[torch.nn.Parameter]) -> Any:
    """Make sharded parameters whole on every rank, and share what rank 0 writes into them."""
    import deepspeed

    return deepspeed.zero.GatheredParameters(parameters, modifier_rank=0)


def _listed(what: str, names: list[str]) -> str:
    return f"{what}: {first_of(names, SHOWN)}" if names else ""
