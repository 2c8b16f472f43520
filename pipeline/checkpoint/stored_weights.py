"""Reads a checkpoint's weights and moments, whatever ZeRO stage and number of ranks wrote them.

Export, branch, conversion and resharding read through it. ZeRO keeps fp32 weights and the
optimizer's moments as flat tensors that are sharded among the ranks, one file per rank. Where each
part of a parameter lies follows from the shapes and the order of the parameters, which a checkpoint
holds. At ZeRO 0 every parameter is a flat tensor of its own, in one file. Files are mapped into
memory, so that only what is asked for is read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import torch
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler

from pipeline.checkpoint.deepspeed_files import (
    FlatTensors,
    GroupState,
    ModelFile,
    Scaler,
    ShardFile,
    ShardState,
)
from pipeline.checkpoint.files import Content, decoding_file, load_file
from pipeline.checkpoint.folders import read_checkpoint_manifest
from pipeline.checkpoint.integrity import verify_bytes, with_remedy
from pipeline.engine.optimizers.optimizer_kind import moment_names, state_with
from pipeline.engine.shards import Slot, copy_slots, slots_of_ranks
from pipeline.errors import DataError
from pipeline.model.given_weights import GivenWeights
from pipeline.model.language_model import PREFIX
from pipeline.store.layout import manifest_path

COUNTERS = ("global_steps", "global_samples", "skipped_steps")
"""Counters of DeepSpeed's engine that a checkpoint holds."""


@dataclass(frozen=True)
class RankShard:
    """What one rank wrote: fp32 weights and moments, flat `(elements,)`, by group of parameters."""

    weights: Sequence[torch.Tensor]
    states: Mapping[int, GroupState]
    """The optimizer's state by group: moments as long as the weights, and Adam's step.

    Empty before the first step.
    """
    scaler: Mapping[str, Scaler | bool]
    """State of fp16's loss scaler, by DeepSpeed's names."""


@dataclass(frozen=True)
class StoredWeights:
    """Weights and moments of a checkpoint; tensors are mapped into memory, not read."""

    groups: Sequence[Mapping[str, torch.Size]]
    """`{name: shape}` by group, in the order in which the flat tensors hold the parameters."""
    slots: Sequence[Sequence[Slot]]
    """Each rank's stretches of parameters in its flat tensors."""
    shard: Callable[[int], RankShard]
    """Open a rank's file, once."""
    buffers: Mapping[str, torch.Tensor]
    """The model's persistent tensors that are not parameters."""
    counters: Mapping[str, int]

    @cached_property
    def shapes(self) -> Mapping[str, torch.Size]:
        return {name: shape for named in self.groups for name, shape in named.items()}

    @property
    def adam_step(self) -> float | None:
        """Number of steps for Adam's bias corrections; None before the first step."""
        return next(
            (float(state["step"]) for state in self.shard(0).states.values() if "step" in state),
            None,
        )

    def names_with(self, moment: str) -> list[str]:
        """Return the parameters that have a moment; those of Muon and AdamW differ in moments."""
        groups = {group for group, state in self.shard(0).states.items() if moment in state}
        names = {slot.name for slots in self.slots for slot in slots if slot.group in groups}
        return [name for name in self.shapes if name in names]

    def weights_of(self, rank: int) -> Sequence[torch.Tensor]:
        """Return the weights that a rank holds: one flat tensor for each parameter group."""
        return self.shard(rank).weights

    def moments_of(self, moment: str) -> Callable[[int], Mapping[int, torch.Tensor]]:
        """Return a function from a rank to its flat moments, by group that has the moment."""

        def moments(rank: int) -> Mapping[int, torch.Tensor]:
            by_group = {
                group: state.get(moment) for group, state in self.shard(rank).states.items()
            }
            return {
                group: tensor
                for group, tensor in by_group.items()
                if isinstance(tensor, torch.Tensor)
            }

        return moments

    def weight(self, name: str) -> torch.Tensor:
        """Return a copy of one parameter, in fp32."""
        return self._whole(name, self.weights_of)

    def moment_reader(self, moment: str) -> Callable[[str], torch.Tensor]:
        """Return a function that copies a moment of one parameter."""
        flat = self.moments_of(moment)
        return lambda name: self._whole(name, flat)

    @cached_property
    def _pieces(self) -> Mapping[str, list[list[Slot]]]:
        """The slots that make up each parameter, by rank."""
        pieces: dict[str, list[list[Slot]]] = {
            name: [[] for _ in self.slots] for name in self.shapes
        }
        for rank, slots in enumerate(self.slots):
            for slot in slots:
                pieces[slot.name][rank].append(slot)
        return pieces

    def _whole(self, name: str, flat: Callable[[int], FlatTensors]) -> torch.Tensor:
        size = self.shapes[name].numel()
        (whole,) = copy_slots([size], [Slot(name, 0, size, 0, 0)], self._pieces[name], flat)
        return whole.view(self.shapes[name])


def read_verified(checkpoint: Path, remedy: str) -> StoredWeights:
    """Compare all bytes of a checkpoint with their checksums in this process, then open it.

    Raises DataError that names the damaged files and ends with `remedy`, here or where a shard is
    opened later.
    """
    verify_bytes(checkpoint, remedy)
    with with_remedy(remedy):
        stored = open_stored_weights(checkpoint)

    def shard(rank: int) -> RankShard:
        with with_remedy(remedy):
            return stored.shard(rank)

    return replace(stored, shard=shard)


def open_stored_weights(checkpoint: Path) -> StoredWeights:
    """Open a verified checkpoint. Raises DataError where a file is not what a save writes."""
    manifest = read_checkpoint_manifest(checkpoint)
    stage = manifest["zero_stage"]
    ranks = manifest["ranks"]
    # Each rank wrote a file; lists for more ranks than that could use up the memory.
    if ranks > len(manifest["files"]):
        raise DataError(
            f"{manifest_path(checkpoint)}: has {ranks:,} ranks and {len(manifest['files'])} files"
        )
    # What is not sharded, and at ZeRO 0 everything, is in one file.
    path = _path_of_model(checkpoint, stage)
    model: ModelFile = load_file(path, mmap=True)
    with decoding_file(path):
        buffers = {name: _plain(model["module"][name]) for name in model["buffer_names"]}
        counters = {name: _count(model[name]) for name in COUNTERS}
        if stage == 0:
            groups, whole = _whole_shard(model)
            slots = [
                [
                    Slot(name, 0, s.numel(), g, 0)
                    for g, named in enumerate(groups)
                    for name, s in named.items()
                ]
            ]
            return StoredWeights(groups, slots, lambda _: whole, buffers, counters)
        groups = _groups(model)
    # The sizes of rank 0's flat tensors say where each parameter lies on every rank.
    first = _open_shard(checkpoint, stage, 0, [None] * len(groups))
    sizes = [flat.numel() for flat in first.weights]
    with decoding_file(path):
        slots = slots_of_ranks(stage, groups, sizes, ranks)
        if any(
            slot.offset + slot.length > sizes[slot.group] for of_rank in slots for slot in of_rank
        ):
            raise ValueError(f"its parameters are larger than the {ranks} shards beside it")

    @cache
    def shard(rank: int) -> RankShard:
        if rank == 0:
            return first
        return _open_shard(checkpoint, stage, rank, sizes)

    return StoredWeights(groups, slots, shard, buffers, counters)


def parameter_groups(checkpoint: Path) -> list[dict[str, torch.Size]]:
    """Return `{name: shape}` by group of parameters, of a checkpoint of ZeRO 1 to 3.

    Raises DataError as `open_stored_weights` does.
    """
    path = _path_of_model(checkpoint, read_checkpoint_manifest(checkpoint)["zero_stage"])
    model: ModelFile = load_file(path, mmap=True)
    with decoding_file(path):
        return _groups(model)


def stored_as_weights(checkpoint: Path, stored: StoredWeights) -> GivenWeights:
    """Return a checkpoint's parameters under the names that transformers gives them."""
    shapes = {name.removeprefix(PREFIX): shape for name, shape in stored.shapes.items()}
    return GivenWeights(str(checkpoint), shapes, lambda name: stored.weight(PREFIX + name))


def _groups(model: ModelFile) -> list[dict[str, torch.Size]]:
    return [
        {name: _shape(shape) for name, shape in named.items()} for named in model["param_shapes"]
    ]


def _open_shard(checkpoint: Path, stage: int, rank: int, sizes: Sequence[int | None]) -> RankShard:
    """Open a rank's file of ZeRO 1 to 3.

    `sizes`: elements of each of its flat tensors, None where unknown.
    """
    path = _path(checkpoint, f"zero_pp_rank_{rank}_mp_rank_00_optim_states")
    file: ShardFile = load_file(path, mmap=True)
    with decoding_file(path):
        content = file["optimizer_state_dict"]
        if stage == 3:
            weights = content["fp32_flat_groups"]
            inner = content["optimizer_state_dict"]
        else:
            weights = content["single_partition_of_fp32_groups"]
            inner = content["base_optimizer_state"]
        if len(weights) != len(sizes):
            raise ValueError(f"has {len(weights)} groups of parameters instead of {len(sizes)}")
        flat = [_flat(tensor, size) for tensor, size in zip(weights, sizes, strict=True)]
        scaler = _scaler(content)
        states = _states(inner["state"], [tensor.numel() for tensor in flat])
        if states and len(states) != len(flat):
            raise ValueError(f"has optimizer states of {len(states)} groups instead of {len(flat)}")
        return RankShard(flat, states, scaler)


def _scaler(content: ShardState) -> dict[str, Scaler | bool]:
    """Return the state of the loss scaler, as far as a rank's file holds it."""
    scaler: dict[str, Scaler | bool] = {}
    if "loss_scaler" in content:
        _check_scaler(content["loss_scaler"])
        scaler["loss_scaler"] = content["loss_scaler"]
    if "dynamic_loss_scale" in content:
        scaler["dynamic_loss_scale"] = content["dynamic_loss_scale"]
    if "overflow" in content:
        scaler["overflow"] = content["overflow"]
    return scaler


def _whole_shard(model: ModelFile) -> tuple[list[dict[str, torch.Size]], RankShard]:
    """Return the parameters of a ZeRO 0 checkpoint, each as its own group, and their content."""
    weights = {name: _plain(model["module"][name]) for name in model["parameter_names"]}
    if any(weight.dtype != torch.float32 for weight in weights.values()):
        raise ValueError(
            "its fp32 weights cannot be read, as it was made at ZeRO 0 in another precision; use a "
            "checkpoint made at ZeRO 1, 2 or 3"
        )
    moments = moment_names()
    flat = {
        group: {
            key: _plain(value).flatten() if key in moments else value
            for key, value in state.items()
        }
        for group, state in model["optimizer"]["state"].items()
    }
    states = _states(flat, [weight.numel() for weight in weights.values()])
    groups = [{name: _shape(weight.shape)} for name, weight in weights.items()]
    return groups, RankShard([weight.flatten() for weight in weights.values()], states, {})


def _states(
    states: Mapping[int, GroupState], sizes: Sequence[int]
) -> dict[int, dict[str, torch.Tensor | float]]:
    """Return an optimizer's moments and count of steps by group.

    Raises ValueError where they do not belong to the weights.
    """
    if not set(states) <= set(range(len(sizes))):
        raise ValueError(f"has optimizer states of groups beyond its {len(sizes)} groups")
    moments = moment_names()
    checked: dict[int, dict[str, torch.Tensor | float]] = {}
    for group, state in states.items():
        checked[group] = {key: _flat(state[key], sizes[group]) for key in moments if key in state}
        if not checked[group]:
            raise ValueError(f"has no moments in group {group}")
        form = state_with(checked[group])
        if form is None or (form.counts_steps and not float(state["step"]) > 0):
            raise ValueError(f"lacks a part of the optimizer's state in group {group}")
        if form.counts_steps:
            checked[group]["step"] = state["step"]
    return checked


def _check_scaler(scaler: Scaler | None) -> None:
    """Raise ValueError where the attributes of a loss scaler have other types than those of a new
    one."""
    if scaler is None:
        return
    new = LossScaler(1)
    if isinstance(scaler, DynamicLossScaler):
        new = DynamicLossScaler(1.0, 2.0, 1, 1.0, 1, False)
    for name, value in vars(new).items():
        expected: tuple[type, ...] = (value.__class__,)
        if isinstance(value, float | int):
            expected = (float, int)
        if not isinstance(getattr(scaler, name), expected):
            raise ValueError(f"has a loss scaler whose {name} is {getattr(scaler, name)!r}")


def _flat(tensor: torch.Tensor | float, size: int | None) -> torch.Tensor:
    flat = _plain(tensor)
    if flat.dim() != 1 or flat.dtype != torch.float32 or size not in (None, flat.numel()):
        raise ValueError(
            f"has a {flat.dtype} tensor of shape {tuple(flat.shape)} instead of {size or ''} floats"
        )
    return flat.detach()


def _plain(tensor: torch.Tensor | float) -> torch.Tensor:
    """Return a tensor that is contiguous in the file: any other may be larger than the file."""
    if not isinstance(tensor, torch.Tensor) or not tensor.is_contiguous():
        raise TypeError(f"has a {type(tensor).__name__} with holes instead of a tensor")
    return tensor


def _shape(shape: Content) -> torch.Size:
    if not isinstance(shape, torch.Size) or min(shape, default=1) < 1:
        raise ValueError(f"has a parameter of shape {shape}")
    return shape


def _count(value: int) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"has a count of {value!r}")
    return value


def _path_of_model(checkpoint: Path, stage: int) -> Path:
    """Return DeepSpeed's file of what is not sharded."""
    if stage == 3:
        return _path(checkpoint, "zero_pp_rank_0_mp_rank_00_model_states")
    return _path(checkpoint, "mp_rank_00_model_states")


def _path(checkpoint: Path, name: str) -> Path:
    """Return a file of a checkpoint. In bf16 DeepSpeed begins some names with `bf16_`."""
    for path in (checkpoint / f"{name}.pt", checkpoint / f"bf16_{name}.pt"):
        if path.is_file():
            return path
    raise DataError(f"{checkpoint / name}.pt: is missing")
