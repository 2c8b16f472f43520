"""Loads a checkpoint into an engine, whatever ZeRO stage, ranks and groups of parameters wrote it.

Every rank copies what it needs from the old ranks' shards into a shard of its own, and gives that
to the function with which DeepSpeed loads shards. Nothing is written to disk. Where the engine is
sharded as the checkpoint was, a rank reads only its own shard and the shard of rank 0.
"""

import torch
from deepspeed.checkpoint.constants import (
    BASE_OPTIMIZER_STATE,
    FP32_FLAT_GROUPS,
    OPTIMIZER_STATE_DICT,
    SINGLE_PARTITION_OF_FP32_GROUPS,
)

from pipeline.checkpoint.stored_weights import StoredWeights
from pipeline.config.groups import RankGroups
from pipeline.engine.deepspeed_engine import Engine, flat_tensors, group_shapes
from pipeline.engine.optimizers.optimizer_kind import moment_names, state_with
from pipeline.engine.shards import Slot, copy_slots, slots_of_ranks


def load_stored_weights(engine: Engine, groups: RankGroups, stored: StoredWeights) -> None:
    """Load weights, moments, loss scaler and counters; every rank calls it."""
    if engine.zero_optimization_stage() == 0:
        _load_whole(engine, stored)
    else:
        _load_shards(engine, groups, stored)
    for name, buffer in engine.module.named_buffers():
        if name in stored.buffers:
            buffer.copy_(stored.buffers[name])
    for counter, value in stored.counters.items():
        setattr(engine, counter, value)


def _load_shards(engine: Engine, groups: RankGroups, stored: StoredWeights) -> None:
    """Build this rank's shard at ZeRO 1 to 3, and have DeepSpeed load it."""
    stage = engine.zero_optimization_stage()
    optimizer = engine.optimizer
    if stage == 3:
        optimizer.checkpoint_event_prologue()  # releases the whole copies of small parameters
    # The optimizer's own state has the form of this rank's shard: its tensors are replaced.
    mine = optimizer.state_dict()
    if stage == 3:
        weights_key = FP32_FLAT_GROUPS
        states_key = OPTIMIZER_STATE_DICT
        own_flat = mine[FP32_FLAT_GROUPS]
    else:
        weights_key = SINGLE_PARTITION_OF_FP32_GROUPS
        states_key = BASE_OPTIMIZER_STATE
        own_flat = flat_tensors(engine)
    sizes = [flat.numel() for flat in own_flat]
    slots = slots_of_ranks(stage, group_shapes(engine), sizes, groups.sizes.world)
    own = slots[groups.world_rank]
    mine[weights_key] = copy_slots(sizes, own, stored.slots, stored.weights_of)
    mine.update({key: value for key, value in stored.shard(0).scaler.items() if key in mine})
    # There are no moments where fp16 has skipped every step so far.
    if stored.shard(0).states:
        state = _states(engine, stored, sizes, own, [slot for of_rank in slots for slot in of_rank])
        mine[states_key]["state"] = state
    optimizer.load_state_dict([mine] * groups.sizes.world, load_from_fp32_weights=True)
    if stage == 3:
        optimizer.checkpoint_event_epilogue()
    else:
        optimizer.update_lp_params()  # copies the fp32 weights to those of the forward pass


@torch.no_grad()
def _load_whole(engine: Engine, stored: StoredWeights) -> None:
    """Load whole weights and moments at ZeRO 0, where every rank holds everything."""
    optimizer = engine.optimizer
    names = {id(parameter): name for name, parameter in engine.module.named_parameters()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    slots = [Slot(names[id(p)], 0, p.numel(), group, 0) for group, p in enumerate(parameters)]
    sizes = [parameter.numel() for parameter in parameters]
    for parameter, weights in zip(
        parameters, copy_slots(sizes, slots, stored.slots, stored.weights_of), strict=True
    ):
        parameter.copy_(weights.view_as(parameter))
    if not stored.shard(0).states:
        return
    states = _states(engine, stored, sizes, slots, slots)
    moments = moment_names()
    for group, parameter in enumerate(parameters):
        optimizer.state[parameter] = {
            key: value.view_as(parameter).to(parameter.device)
            if isinstance(value, torch.Tensor) and key in moments
            else value
            for key, value in states[group].items()
        }


def _states(
    engine: Engine, stored: StoredWeights, sizes: list[int], own: list[Slot], everywhere: list[Slot]
) -> dict[int, dict[str, torch.Tensor | int]]:
    """Return this rank's optimizer state by group.

    `sizes`: elements of this rank's flat tensors; `own`: the slots of this rank; `everywhere`: the
    slots of all ranks.
    """
    state: dict[int, dict[str, torch.Tensor | int]] = {group: {} for group in range(len(sizes))}
    for moment in moment_names():
        # Groups may differ in their moments; a parameter has those of its old group.
        names = set(stored.names_with(moment))
        wanted = [slot for slot in own if slot.name in names]
        pieces = [[slot for slot in slots if slot.name in names] for slots in stored.slots]
        values = copy_slots(sizes, wanted, pieces, stored.moments_of(moment))
        for group in {slot.group for slot in everywhere if slot.name in names}:
            state[group][moment] = values[group]
    step = stored.adam_step
    # DeepSpeed's own optimizers count in Python, others in tensors as torch's do.
    counts_in_python = type(engine.basic_optimizer).__module__.startswith("deepspeed.")
    for of_group in state.values():
        form = state_with(of_group)
        if form is not None and form.counts_steps and step is not None:
            # Each group counts in its own tensor: a shared one would count double.
            of_group["step"] = torch.tensor(step)
            if counts_in_python:
                of_group["step"] = int(step)
    return state
