"""Types of the files that DeepSpeed writes into a checkpoint, as far as they are read here.

The names are those of deepspeed 0.19.8 (deepspeed/checkpoint/constants.py). Reads and writes
nothing: `files.py` reads such files.
"""

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypeAlias, TypedDict

import torch
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler

Scaler: TypeAlias = DynamicLossScaler | LossScaler
GroupState: TypeAlias = Mapping[str, torch.Tensor | float]
"""An optimizer's state of one group: name -> moment, and `step` -> number of steps."""
FlatTensors: TypeAlias = Sequence[torch.Tensor] | Mapping[int, torch.Tensor]
"""A rank's flat tensors by group."""


class StateByGroup(TypedDict):
    """The part of an optimizer's saved state that is read here."""

    state: Mapping[int, GroupState]


class ModelFile(TypedDict):
    """The file of what is not sharded; at ZeRO 0, of everything."""

    module: Mapping[str, torch.Tensor]
    """Weights and buffers, in the format of the forward pass."""
    buffer_names: Sequence[str]
    param_shapes: Sequence[Mapping[str, torch.Size]]
    """`{name: shape}` by group, at ZeRO 1 to 3."""
    parameter_names: Sequence[str]
    """Names in the order of the optimizer's states, at ZeRO 0."""
    optimizer: StateByGroup
    """At ZeRO 0, where each parameter is a group."""
    global_steps: int
    global_samples: int
    skipped_steps: int


class ShardState(TypedDict):
    """The optimizer's part of a rank's file."""

    single_partition_of_fp32_groups: Sequence[torch.Tensor]
    """Flat fp32 weights by group, at ZeRO 1 and 2."""
    base_optimizer_state: StateByGroup
    """At ZeRO 1 and 2."""
    fp32_flat_groups: Sequence[torch.Tensor]
    """Flat fp32 weights by group, at ZeRO 3."""
    optimizer_state_dict: StateByGroup
    """At ZeRO 3."""
    loss_scaler: NotRequired[Scaler]
    dynamic_loss_scale: NotRequired[bool]
    overflow: NotRequired[bool]


class ShardFile(TypedDict):
    """A rank's file of ZeRO 1 to 3."""

    optimizer_state_dict: ShardState
