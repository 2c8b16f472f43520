"""Loading a checkpoint that is divided otherwise: by another ZeRO stage, another number of ranks, or other groups.

ZeRO keeps fp32 weights and the optimizer's moments as flat tensors cut among the ranks. Where each stretch of each parameter
lies follows from the parameters' shapes and order, which a checkpoint holds. So every rank copies what it needs from
the old ranks' shards, which are mapped into memory and not read whole, into a shard of its own, and hands that to the
function with which DeepSpeed loads shards. Nothing is written to disk. At ZeRO 0 every parameter is a flat tensor of its own,
which every rank has: the same copying, from there and to there.
"""

from collections.abc import Callable, Mapping, Sequence
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
from pipeline.training.checkpoint_files import load_file
from pipeline.training.engine import Engine
from pipeline.training.shards import Slot, flat_tensors, group_shapes, slots_of_ranks

MOMENTS = ("exp_avg", "exp_avg_sq", "momentum_buffer")
"""AdamW's two, Muon's one."""
SCALER_KEYS = (LOSS_SCALER, "dynamic_loss_scale", "overflow")
COUNTERS = ("global_steps", "global_samples", "skipped_steps")


@dataclass(frozen=True)
class Stored:
    """What a checkpoint holds of weights and moments, whoever wrote it; its tensors are mapped into memory, not read."""

    shapes: Mapping[str, torch.Size]
    slots: Sequence[Sequence[Slot]]
    """By rank."""
    weights: Sequence[Sequence[torch.Tensor]]
    """fp32, by rank and group."""
    states: Sequence[Mapping[int, Mapping[str, Any]]]
    """The optimizer's, by rank and group: moments as flat as the weights, and Adam's step. Empty before the first step."""
    scaler: Mapping[str, Any]
    """What fp16's loss scaler goes on from."""
    model: Mapping[str, Any]
    """DeepSpeed's file of what is not divided."""

    @property
    def adam_step(self) -> float | None:
        """What Adam's bias corrections go by; None before the first step."""
        return next((float(its["step"]) for its in self.states[0].values() if "step" in its), None)

    def names_with(self, moment: str) -> list[str]:
        """Return the parameters that have a moment; Muon's have others than AdamW's."""
        names = {
            slot.name
            for its, groups in zip(self.slots, self.states, strict=True)
            for slot in its
            if moment in groups.get(slot.group, {})
        }
        return [name for name in self.shapes if name in names]

    def flat_moments(self, moment: str) -> list[list[Any]]:
        """Return a moment by rank and group, None in groups without it."""
        return [[groups.get(g, {}).get(moment) for g in range(1 + max(groups))] for groups in self.states]

    def weight(self, name: str) -> torch.Tensor:
        """Return a copy of one parameter, in fp32."""
        return self._whole(name, self.weights)

    def moment_reader(self, moment: str) -> Callable[[str], torch.Tensor]:
        """Return a function that copies a moment of one parameter."""
        flat = self.flat_moments(moment)
        return lambda name: self._whole(name, flat)

    def _whole(self, name: str, flat: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
        size = self.shapes[name].numel()
        pieces = [[slot for slot in its if slot.name == name] for its in self.slots]
        return copy_slots([size], [Slot(name, 0, size, 0, 0)], pieces, flat)[0].view(self.shapes[name])


def is_divided_alike(engine: Engine, checkpoint: Path, stage: int, ranks: int) -> bool:
    """Tell whether what `ranks` ranks have saved lies as the engine's own shards do, so that DeepSpeed can load it.

    A template decides too: ZeRO 3's `sub_group_size` and `round_robin_gradients` change groups and order.
    """
    if stage != engine.zero_optimization_stage():
        return False
    if stage == 0:
        return True  # every rank has everything, and one file holds it
    if ranks != dist.get_world_size():
        return False
    before, now = _model_states(checkpoint, stage)[PARAM_SHAPES], group_shapes(engine)
    return [list(named.items()) for named in before] == [list(named.items()) for named in now]  # dicts ignore the order


def load(engine: Engine, checkpoint: Path, stage: int, ranks: int) -> None:
    """Load what `ranks` ranks have saved at a ZeRO stage; every rank calls it. The random state is left.

    Raises DataError where optimizer states lie on NVMe, outside the shards.
    """
    if engine.zero_nvme_offload_optimizer() or (checkpoint / "offloaded_tensors").exists():
        raise DataError(
            f"{checkpoint}: was written with ranks = {ranks} at ZeRO stage {stage}, this job has {dist.get_world_size()} at "
            f"{engine.zero_optimization_stage()}, and optimizer states on NVMe cannot be divided anew. Start as many "
            "ranks as before, and leave the deepspeed template as it was."
        )
    stored = open_stored(checkpoint, stage, ranks)
    if engine.zero_optimization_stage() == 0:
        _load_whole(engine, stored)
    else:
        _load_shards(engine, stored)
    for name, buffer in engine.module.named_buffers():
        if name in stored.model["module"]:
            buffer.copy_(stored.model["module"][name])
    for counter in COUNTERS:
        setattr(engine, counter, stored.model[counter])


def open_stored(checkpoint: Path, stage: int, ranks: int) -> Stored:
    """Open a checkpoint. Raises DataError where its fp32 weights cannot be told."""
    model = _model_states(checkpoint, stage)
    if stage == 0:
        return _open_whole(checkpoint, model)
    shards = [
        _open(checkpoint, f"zero_pp_rank_{rank}_mp_rank_00_optim_states")[OPTIMIZER_STATE_DICT] for rank in range(ranks)
    ]
    weights = [shard[FP32_FLAT_GROUPS if stage == 3 else SINGLE_PARTITION_OF_FP32_GROUPS] for shard in shards]
    inner = OPTIMIZER_STATE_DICT if stage == 3 else BASE_OPTIMIZER_STATE
    return Stored(
        {name: shape for named in model[PARAM_SHAPES] for name, shape in named.items()},
        slots_of_ranks(stage, model[PARAM_SHAPES], [flat.numel() for flat in weights[0]], ranks),
        weights,
        [shard[inner]["state"] for shard in shards],
        {key: shards[0][key] for key in SCALER_KEYS if key in shards[0]},
        model,
    )


def _open_whole(checkpoint: Path, model: dict[str, Any]) -> Stored:
    whole, names = model["module"], model["parameter_names"]
    if any(whole[name].dtype != torch.float32 for name in names):
        raise DataError(f"{checkpoint}: ZeRO 0 keeps its fp32 weights out of reach there; take one of ZeRO 1, 2 or 3")
    states = {
        group: {key: value.flatten() if key in MOMENTS else value for key, value in its.items()}
        for group, its in model["optimizer"]["state"].items()
    }
    shapes = {name: whole[name].shape for name in names}
    return Stored(shapes, [_whole_slots(shapes)], [[whole[name].flatten() for name in names]], [states], {}, model)


def _whole_slots(shapes: Mapping[str, torch.Size]) -> list[Slot]:
    return [Slot(name, 0, shape.numel(), group, 0) for group, (name, shape) in enumerate(shapes.items())]


def master_weights(
    checkpoint: Path, stage: int, ranks: int
) -> tuple[Mapping[str, torch.Size], Callable[[str], torch.Tensor]]:
    """Return the shapes of a checkpoint's parameters, and a function that copies one of them, in fp32, by its name."""
    stored = open_stored(checkpoint, stage, ranks)
    return stored.shapes, stored.weight


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


def _load_shards(engine: Engine, stored: Stored) -> None:
    stage, optimizer = engine.zero_optimization_stage(), engine.optimizer
    if stage == 3:
        optimizer.checkpoint_event_prologue()  # gives up the whole copies of small parameters
    mine = optimizer.state_dict()  # the form of this rank's shard
    sizes = [flat.numel() for flat in (mine[FP32_FLAT_GROUPS] if stage == 3 else flat_tensors(engine))]
    slots = slots_of_ranks(stage, group_shapes(engine), sizes, dist.get_world_size())
    own = slots[dist.get_rank()]
    mine[FP32_FLAT_GROUPS if stage == 3 else SINGLE_PARTITION_OF_FP32_GROUPS] = copy_slots(
        sizes, own, stored.slots, stored.weights
    )
    mine.update({key: value for key, value in stored.scaler.items() if key in mine})
    if stored.states[0]:  # fp16 may have skipped every step so far
        state = _states(engine, stored, sizes, own, [slot for its in slots for slot in its])
        mine[OPTIMIZER_STATE_DICT if stage == 3 else BASE_OPTIMIZER_STATE]["state"] = state
    optimizer.load_state_dict([mine] * dist.get_world_size(), load_from_fp32_weights=True)
    if stage == 3:
        optimizer.checkpoint_event_epilogue()
    else:
        optimizer.update_lp_params()  # the weights of the forward pass follow the fp32 ones


@torch.no_grad()
def _load_whole(engine: Engine, stored: Stored) -> None:
    optimizer = engine.optimizer
    names = {id(parameter): name for name, parameter in engine.module.named_parameters()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    slots = _whole_slots({names[id(parameter)]: parameter.shape for parameter in parameters})
    sizes = [parameter.numel() for parameter in parameters]
    for parameter, weights in zip(parameters, copy_slots(sizes, slots, stored.slots, stored.weights), strict=True):
        parameter.copy_(weights.view_as(parameter))
    if not stored.states[0]:
        return
    states = _states(engine, stored, sizes, slots, slots)
    for group, parameter in enumerate(parameters):
        optimizer.state[parameter] = {
            key: value.view_as(parameter).to(parameter.device) if key in MOMENTS else value
            for key, value in states[group].items()
        }


def _states(
    engine: Engine, stored: Stored, sizes: list[int], own: list[Slot], everywhere: list[Slot]
) -> dict[int, dict[str, Any]]:
    """Return the optimizer's state by group of this rank, whose slots are `own`, of `everywhere` those of all ranks."""
    state: dict[int, dict[str, Any]] = {group: {} for group in range(len(sizes))}
    for moment in MOMENTS:
        # Muon's groups have other moments than AdamW's; which a parameter has goes by its old group.
        names = set(stored.names_with(moment))
        wanted = [slot for slot in own if slot.name in names]
        pieces = [[slot for slot in its if slot.name in names] for its in stored.slots]
        values = copy_slots(sizes, wanted, pieces, stored.flat_moments(moment))
        for group in {slot.group for slot in everywhere if slot.name in names}:
            state[group][moment] = values[group]
    step = stored.adam_step
    counts_in_tensors = type(engine.basic_optimizer).__module__.startswith(("torch.", "pipeline."))
    for its in state.values():
        if MOMENTS[0] in its and step is not None:
            # Adam's step, which corrects its bias. Each group counts in its own tensor: a shared one would count double.
            its["step"] = torch.tensor(step) if counts_in_tensors else int(step)
    return state


def _model_states(checkpoint: Path, stage: int) -> dict[str, Any]:
    return _open(checkpoint, "zero_pp_rank_0_mp_rank_00_model_states" if stage == 3 else "mp_rank_00_model_states")


def _open(checkpoint: Path, name: str) -> dict[str, Any]:
    """Return a file's content, its tensors mapped into memory. In bf16 DeepSpeed begins some names with `bf16_`."""
    (path,) = [path for path in (checkpoint / f"{name}.pt", checkpoint / f"bf16_{name}.pt") if path.is_file()]
    return load_file(path, mmap=True)
