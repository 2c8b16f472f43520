"""Loading a checkpoint of ZeRO 1, 2 or 3 that is divided otherwise: by another number of ranks, or by other groups.

ZeRO keeps fp32 weights and Adam's moments as flat tensors cut among the ranks. Where each stretch of each parameter
lies follows from the parameters' shapes and order, which a checkpoint holds. So every rank copies what it needs from
the old ranks' shards, which are mapped into memory and not read whole, into a shard of its own, and hands that to the
function with which DeepSpeed loads shards. Nothing is written to disk.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from deepspeed.checkpoint.constants import (
    BASE_OPTIMIZER_STATE,
    FP32_FLAT_GROUPS,
    LOSS_SCALER,
    OPTIMIZER_STATE_DICT,
    PARAM_SHAPES,
    SINGLE_PARTITION_OF_FP32_GROUPS,
)

from pipeline.errors import DataError
from pipeline.training.engine import Engine

MOMENTS = ("exp_avg", "exp_avg_sq")
SCALER_KEYS = (LOSS_SCALER, "dynamic_loss_scale", "overflow")
COUNTERS = ("global_steps", "global_samples", "skipped_steps")


@dataclass(frozen=True)
class Slot:
    """Where a stretch of one parameter, taken as a vector, lies in one rank's flat tensors. All in elements."""

    name: str
    start: int
    """Its first element in the parameter."""
    length: int
    group: int
    """Which of the rank's flat tensors."""
    offset: int
    """Its first element in that tensor."""


def is_divided_alike(engine: Engine, checkpoint: Path, ranks: int) -> bool:
    """Tell whether what `ranks` ranks have saved lies as the engine's own shards do, so that DeepSpeed can load it.

    A template decides too: ZeRO 3's `sub_group_size` and `round_robin_gradients` change groups and order.
    """
    stage = engine.zero_optimization_stage()
    if stage == 0:
        return True  # every rank has everything, and one file holds it
    return ranks == dist.get_world_size() and _model_states(checkpoint, stage)[PARAM_SHAPES] == _shapes(engine)


def load(engine: Engine, checkpoint: Path, ranks: int) -> None:
    """Load what `ranks` ranks have saved at the engine's ZeRO stage; every rank calls it. The random state is left.

    Raises DataError where optimizer states lie on NVMe, outside the shards.
    """
    if engine.zero_nvme_offload_optimizer() or (checkpoint / "offloaded_tensors").exists():
        raise DataError(
            f"{checkpoint}: was written with ranks = {ranks}, this job has {dist.get_world_size()}, and optimizer states "
            "on NVMe cannot be divided anew. Set launch.ranks to match, and leave the deepspeed template as it was."
        )
    stage, optimizer = engine.zero_optimization_stage(), engine.optimizer
    weights = FP32_FLAT_GROUPS if stage == 3 else SINGLE_PARTITION_OF_FP32_GROUPS
    model_states = _model_states(checkpoint, stage)
    shards = [
        _open(checkpoint, f"zero_pp_rank_{rank}_mp_rank_00_optim_states")[OPTIMIZER_STATE_DICT] for rank in range(ranks)
    ]
    if stage == 3:
        optimizer.checkpoint_event_prologue()  # gives up the whole copies of small parameters
    mine = optimizer.state_dict()  # the form of this rank's shard
    sizes = _flat_sizes(optimizer, mine, stage)
    if stage == 3:
        before = even_slots(model_states[PARAM_SHAPES], ranks)
        after = even_slots(_shapes(engine), dist.get_world_size())
    else:
        parts = [flat.numel() for flat in shards[0][weights]]
        before = vector_slots(model_states[PARAM_SHAPES], parts, ranks)
        after = vector_slots(_shapes(engine), sizes, dist.get_world_size())
    _fill(mine, sizes, after[dist.get_rank()], shards, before)
    optimizer.load_state_dict([mine] * dist.get_world_size(), load_from_fp32_weights=True)
    if stage == 3:
        optimizer.checkpoint_event_epilogue()
    else:
        optimizer.update_lp_params()  # the weights of the forward pass follow the fp32 ones
    for name, buffer in engine.module.named_buffers():
        if name in model_states["module"]:
            buffer.copy_(model_states["module"][name])
    for counter in COUNTERS:
        setattr(engine, counter, model_states[counter])


def master_weights(
    checkpoint: Path, stage: int, ranks: int
) -> tuple[dict[str, torch.Size], Callable[[str], torch.Tensor]]:
    """Return the shapes of a checkpoint's parameters, and a function that copies one of them, in fp32, by its name."""
    states = _model_states(checkpoint, stage)
    if stage == 0:
        whole = states["module"]
        if any(value.dtype != torch.float32 for value in whole.values()):
            raise DataError(
                f"{checkpoint}: ZeRO 0 keeps its fp32 weights out of reach there; take one of ZeRO 1, 2 or 3"
            )
        return {name: value.shape for name, value in whole.items()}, whole.__getitem__
    weights = FP32_FLAT_GROUPS if stage == 3 else SINGLE_PARTITION_OF_FP32_GROUPS
    shards = [
        _open(checkpoint, f"zero_pp_rank_{rank}_mp_rank_00_optim_states")[OPTIMIZER_STATE_DICT][weights]
        for rank in range(ranks)
    ]
    shapes = states[PARAM_SHAPES]
    parts = [flat.numel() for flat in shards[0]]
    slots = even_slots(shapes, ranks) if stage == 3 else vector_slots(shapes, parts, ranks)
    sizes = {name: shape for named in shapes for name, shape in named.items()}

    def read(name: str) -> torch.Tensor:
        size = sizes[name].numel()
        pieces = [[slot for slot in its if slot.name == name] for its in slots]
        return copy_slots([size], [Slot(name, 0, size, 0, 0)], pieces, shards)[0].view(sizes[name])

    return sizes, read


def vector_slots(shapes: Sequence[Mapping[str, torch.Size]], parts: Sequence[int], ranks: int) -> list[list[Slot]]:
    """Return each rank's slots at ZeRO 1 and 2, from `[{name: shape}]` and the length of a part, by group.

    There a group of parameters is one vector, cut into equal parts wherever the cuts fall.
    DeepSpeed's own record of it, `param_slice_mappings`, is wrong under `round_robin_gradients`: the order is another one.
    """
    slots: list[list[Slot]] = [[] for _ in range(ranks)]
    for group, (named, part) in enumerate(zip(shapes, parts, strict=True)):
        begin = 0
        for name, shape in named.items():
            end = begin + shape.numel()
            for rank in range(begin // part, (end - 1) // part + 1):
                first, last = max(begin, rank * part), min(end, (rank + 1) * part)
                slots[rank].append(Slot(name, first - begin, last - first, group, first - rank * part))
            begin = end
    return slots


def even_slots(shapes: Sequence[Mapping[str, torch.Size]], ranks: int) -> list[list[Slot]]:
    """Return each rank's slots at ZeRO 3, from `[{name: shape}]` by group.

    There every parameter is cut into equal parts; the last ones are padded, so that some may hold nothing.
    """
    slots: list[list[Slot]] = [[] for _ in range(ranks)]
    for group, named in enumerate(shapes):
        offset = 0
        for name, shape in named.items():
            part = math.ceil(shape.numel() / ranks)
            for rank in range(ranks):
                length = min(part, shape.numel() - rank * part)
                if length > 0:
                    slots[rank].append(Slot(name, rank * part, length, group, offset))
            offset += part
    return slots


def copy_slots(
    sizes: Sequence[int],
    slots: Sequence[Slot],
    old_slots: Sequence[Sequence[Slot]],
    old: Sequence[Sequence[torch.Tensor]],
) -> list[torch.Tensor]:
    """Return one rank's flat tensors, `sizes` elements long, copied from the old ranks' `old[rank][group]`.

    What no slot covers is padding and zero. Raises AssertionError where the old ones lack a part of a slot.
    """
    pieces: dict[str, list[tuple[Slot, torch.Tensor]]] = {}
    for its_slots, flat in zip(old_slots, old, strict=True):
        for slot in its_slots:
            pieces.setdefault(slot.name, []).append((slot, flat[slot.group]))
    new = [torch.zeros(size) for size in sizes]
    for slot in slots:
        copied = 0
        for piece, flat in pieces.get(slot.name, []):
            begin = max(slot.start, piece.start)
            length = min(slot.start + slot.length, piece.start + piece.length) - begin
            if length > 0:
                stretch = flat.narrow(0, piece.offset + begin - piece.start, length)
                new[slot.group].narrow(0, slot.offset + begin - slot.start, length).copy_(stretch)
                copied += length
        assert copied == slot.length, f"{copied} of the {slot.length} elements of {slot} are in the checkpoint"
    return new


def _fill(
    mine: dict[str, Any], sizes: list[int], slots: list[Slot], shards: list[dict[str, Any]], before: list[list[Slot]]
) -> None:
    """Replace the content of this rank's shard."""
    weights = FP32_FLAT_GROUPS if FP32_FLAT_GROUPS in mine else SINGLE_PARTITION_OF_FP32_GROUPS
    inner = OPTIMIZER_STATE_DICT if FP32_FLAT_GROUPS in mine else BASE_OPTIMIZER_STATE
    mine[weights] = copy_slots(sizes, slots, before, [shard[weights] for shard in shards])
    mine.update({key: shards[0][key] for key in SCALER_KEYS if key in shards[0]})
    old = [shard[inner]["state"] for shard in shards]
    if not old[0]:  # fp16 has skipped every step so far
        return
    state: dict[int, dict[str, Any]] = {
        # Adam's step, which corrects its bias. Each group counts in its own tensor: a shared one would count double.
        group: {"step": deepcopy(old[0][0]["step"])}
        for group in range(len(sizes))
    }
    for moment in MOMENTS:
        flat = [[groups[group][moment] for group in sorted(groups)] for groups in old]
        for group, values in enumerate(copy_slots(sizes, slots, before, flat)):
            state[group][moment] = values
    mine[inner]["state"] = state


def _flat_sizes(optimizer: Any, shard: dict[str, Any], stage: int) -> list[int]:
    """Return the lengths of this rank's flat tensors, padding included."""
    if stage == 3:
        return [flat.numel() for flat in shard[FP32_FLAT_GROUPS]]
    return [group["params"][0].numel() for group in optimizer.param_groups]


def _shapes(engine: Engine) -> list[Mapping[str, torch.Size]]:
    """Return `[{name: shape}]` by group, in the order in which the engine's flat tensors hold them."""
    return engine._get_zero_param_shapes()


def _model_states(checkpoint: Path, stage: int) -> dict[str, Any]:
    return _open(checkpoint, "zero_pp_rank_0_mp_rank_00_model_states" if stage == 3 else "mp_rank_00_model_states")


def _open(checkpoint: Path, name: str) -> dict[str, Any]:
    """Return a file's content, its tensors mapped into memory. In bf16 DeepSpeed begins some names with `bf16_`."""
    (path,) = [path for path in (checkpoint / f"{name}.pt", checkpoint / f"bf16_{name}.pt") if path.is_file()]
    return torch.load(path, map_location="cpu", mmap=True, weights_only=False)
