"""Loading a checkpoint of ZeRO 1, 2 or 3 that is divided otherwise: by another number of ranks, or by other groups.

ZeRO keeps fp32 weights and the optimizer's moments as flat tensors cut among the ranks. Where each stretch of each parameter
lies follows from the parameters' shapes and order, which a checkpoint holds. So every rank copies what it needs from
the old ranks' shards, which are mapped into memory and not read whole, into a shard of its own, and hands that to the
function with which DeepSpeed loads shards. Nothing is written to disk.
"""

from collections.abc import Sequence
from copy import deepcopy
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
from pipeline.training.shards import Slot, flat_tensors, group_shapes, slots_of_ranks

MOMENTS = ("exp_avg", "exp_avg_sq", "momentum_buffer")
"""AdamW's two, Muon's one."""
SCALER_KEYS = (LOSS_SCALER, "dynamic_loss_scale", "overflow")
COUNTERS = ("global_steps", "global_samples", "skipped_steps")


def is_divided_alike(engine: Engine, checkpoint: Path, ranks: int) -> bool:
    """Tell whether what `ranks` ranks have saved lies as the engine's own shards do, so that DeepSpeed can load it.

    A template decides too: ZeRO 3's `sub_group_size` and `round_robin_gradients` change groups and order.
    """
    stage = engine.zero_optimization_stage()
    if stage == 0:
        return True  # every rank has everything, and one file holds it
    return ranks == dist.get_world_size() and _model_states(checkpoint, stage)[PARAM_SHAPES] == group_shapes(engine)


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
    sizes = [flat.numel() for flat in (mine[FP32_FLAT_GROUPS] if stage == 3 else flat_tensors(engine))]
    before = slots_of_ranks(stage, model_states[PARAM_SHAPES], [flat.numel() for flat in shards[0][weights]], ranks)
    after = slots_of_ranks(stage, group_shapes(engine), sizes, dist.get_world_size())
    _fill(mine, sizes, after, shards, before)
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
    mine: dict[str, Any],
    sizes: list[int],
    slots: list[list[Slot]],
    shards: list[dict[str, Any]],
    before: list[list[Slot]],
) -> None:
    """Replace the content of this rank's shard; `slots` are those of all ranks now, `before` those of the checkpoint."""
    weights = FP32_FLAT_GROUPS if FP32_FLAT_GROUPS in mine else SINGLE_PARTITION_OF_FP32_GROUPS
    inner = OPTIMIZER_STATE_DICT if FP32_FLAT_GROUPS in mine else BASE_OPTIMIZER_STATE
    own = slots[dist.get_rank()]
    mine[weights] = copy_slots(sizes, own, before, [shard[weights] for shard in shards])
    mine.update({key: shards[0][key] for key in SCALER_KEYS if key in shards[0]})
    old = [shard[inner]["state"] for shard in shards]
    if not old[0]:  # fp16 has skipped every step so far
        return
    state: dict[int, dict[str, Any]] = {group: {} for group in range(len(sizes))}
    for moment in MOMENTS:
        # Muon's groups have other moments than AdamW's; which a parameter has goes by its old group.
        names = {
            slot.name for its, groups in zip(before, old, strict=True) for slot in its if moment in groups[slot.group]
        }
        wanted = [slot for slot in own if slot.name in names]
        pieces = [[slot for slot in its if slot.name in names] for its in before]
        flat = [[groups[group].get(moment) for group in sorted(groups)] for groups in old]
        having = {slot.group for its in slots for slot in its if slot.name in names}
        values = copy_slots(sizes, wanted, pieces, flat)
        for group in having:
            state[group][moment] = values[group]
    steps = [its["step"] for its in old[0].values() if "step" in its]
    for its in state.values():
        if MOMENTS[0] in its:
            # Adam's step, which corrects its bias. Each group counts in its own tensor: a shared one would count double.
            its["step"] = deepcopy(steps[0])
    mine[inner]["state"] = state


def _model_states(checkpoint: Path, stage: int) -> dict[str, Any]:
    return _open(checkpoint, "zero_pp_rank_0_mp_rank_00_model_states" if stage == 3 else "mp_rank_00_model_states")


def _open(checkpoint: Path, name: str) -> dict[str, Any]:
    """Return a file's content, its tensors mapped into memory. In bf16 DeepSpeed begins some names with `bf16_`."""
    (path,) = [path for path in (checkpoint / f"{name}.pt", checkpoint / f"bf16_{name}.pt") if path.is_file()]
    return torch.load(path, map_location="cpu", mmap=True, weights_only=False)
