"""Load given weights into a model: from another run's checkpoint, or from a transformers folder.

Rank 0 alone reads the weights. Sharded parameters are gathered one at a time. Whole parameters
reach the other ranks when DeepSpeed broadcasts rank 0's model, as `deepspeed.initialize` does at
every ZeRO stage.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from pipeline.errors import DataError, listed_problems
from pipeline.store.pretrained_folders import open_weights


@dataclass(frozen=True)
class GivenWeights:
    """The parameters of a model, by their names in transformers.

    Tied parameters may be there under one of their names, or under each.
    """

    where: str
    """Checkpoint or setting that the weights come from, for messages."""
    shapes: Mapping[str, torch.Size]
    read: Callable[[str], torch.Tensor] | None
    """Function that returns a parameter in fp32, by its name. None on all ranks except rank 0."""
    buffers: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Persistent tensors that are not parameters; empty if ranks besides rank 0 would need them."""


@torch.no_grad()
def put_weights(model: PreTrainedModel, weights: GivenWeights, is_sharded: bool) -> None:
    """Copy weights into a model before `deepspeed.initialize`; every rank calls it.

    Raises DataError, on every rank, where a parameter is missing, has another shape, or is not the
    model's.
    """
    # Compare names and shapes. A parameter that ZeRO 3 has sharded shows shape (0,).
    own = dict(model.named_parameters())
    shapes = {name: getattr(p, "ds_shape", p.shape) for name, p in own.items()}
    every_name = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    outside = set(model.state_dict()) - every_name
    other_shapes = [
        f"{name} {tuple(weights.shapes[name])} instead of {tuple(shape)}"
        for name, shape in shapes.items()
        if name in weights.shapes and weights.shapes[name] != shape
    ]
    problems = listed_problems(
        {
            "missing": [name for name in own if name not in weights.shapes],
            "not of this model": [name for name in weights.shapes if name not in every_name],
            "of another shape": other_shapes,
            "state outside of parameters, which is not taken over": sorted(
                outside - weights.buffers.keys()
            ),
        }
    )
    if problems:
        raise DataError(f"{weights.where}: does not fit the model: {problems}")

    # Copy them, gathered one parameter at a time where they are sharded.
    for name, parameter in own.items():
        access = nullcontext()
        if is_sharded:
            access = gathered_parameters([parameter])
        with access:
            if weights.read is not None:
                parameter.copy_(weights.read(name))
    for name, buffer in model.named_buffers():
        if name in weights.buffers:
            buffer.copy_(weights.buffers[name])


def pretrained_weights(folder: Path, architecture: PretrainedConfig) -> GivenWeights:
    """Return the weights of a transformers folder, read by transformers itself from safetensors.

    So old names of weights are translated. Raises DataError where a weight is missing, left over or
    of another shape, and where the folder has no safetensors or brings code.
    """
    where = f"model.pretrained = {folder}"
    disable_progress_bar()
    model = open_weights(folder, where, architecture)
    parameters = dict(model.named_parameters())
    return GivenWeights(
        where,
        {name: p.shape for name, p in parameters.items()},
        lambda name: parameters[name].detach(),
    )


def gathered_parameters(parameters: list[torch.nn.Parameter]) -> AbstractContextManager[None]:
    """Gather sharded parameters on every rank; at the end shard what rank 0 has written."""
    import deepspeed

    return deepspeed.zero.GatheredParameters(parameters, modifier_rank=0)
