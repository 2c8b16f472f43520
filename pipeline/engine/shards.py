"""Where each stretch of each parameter lies in the flat tensors that ZeRO cuts among the ranks.

It follows from the parameters' shapes and their order alone, so every rank knows it of all ranks.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Shapes = Sequence[Mapping[str, torch.Size]]
"""`[{name: shape}]` by group, in the order in which the flat tensors hold the parameters."""


@dataclass(frozen=True)
class Slot:
    """Where a stretch of one parameter, taken as a vector, lies in one rank's flat tensors. All in
    elements."""

    name: str
    start: int
    """Its first element in the parameter."""
    length: int
    group: int
    """Which of the rank's flat tensors."""
    offset: int
    """Its first element in that tensor."""


def vector_slots(shapes: Shapes, parts: Sequence[int], ranks: int) -> list[list[Slot]]:
    """Return each rank's slots at ZeRO 1 and 2, from `[{name: shape}]` and the length of a part, by
    group.

    There a group of parameters is one vector, cut into equal parts wherever the cuts fall.
    DeepSpeed's own record of it, `param_slice_mappings`, is wrong under `round_robin_gradients`:
    the order is another one.
    """
    slots: list[list[Slot]] = [[] for _ in range(ranks)]
    for group, (named, part) in enumerate(zip(shapes, parts, strict=True)):
        begin = 0
        for name, shape in named.items():
            end = begin + shape.numel()
            for rank in range(begin // part, (end - 1) // part + 1):
                first = max(begin, rank * part)
                last = min(end, (rank + 1) * part)
                slots[rank].append(
                    Slot(name, first - begin, last - first, group, first - rank * part)
                )
            begin = end
    return slots


def even_slots(shapes: Shapes, ranks: int) -> list[list[Slot]]:
    """Return each rank's slots at ZeRO 3, from `[{name: shape}]` by group.

    There every parameter is cut into equal parts; the last ones are padded, so that some may hold
    nothing.
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


def group_shapes(engine: Any) -> Shapes:
    """Return the shapes of a DeepSpeed engine's parameters, as its flat tensors hold them."""
    return engine._get_zero_param_shapes()


def flat_tensors(engine: Any) -> list[torch.Tensor]:
    """Return this rank's flat fp32 weights by group, the parameters that the inner optimizer steps
    on (ZeRO 1 to 3)."""
    if engine.zero_optimization_stage() == 3:
        return list(engine.optimizer.fp32_partitioned_groups_flat)
    return [group["params"][0] for group in engine.optimizer.param_groups]


def slots_of_ranks(
    stage: int, shapes: Shapes, sizes: Sequence[int], ranks: int
) -> list[list[Slot]]:
    """Return each rank's slots at a ZeRO stage from 1 to 3; `sizes` are the elements of a rank's
    flat tensors."""
    return even_slots(shapes, ranks) if stage == 3 else vector_slots(shapes, sizes, ranks)


def copy_slots(
    sizes: Sequence[int],
    slots: Sequence[Slot],
    old_slots: Sequence[Sequence[Slot]],
    old: Callable[[int], Any],
) -> list[torch.Tensor]:
    """Return one rank's flat tensors, `sizes` elements long, copied from the old ranks'
    `old(rank)[group]`.

    What no slot covers is padding and zero. Raises AssertionError where the old ones lack a part of
    a slot.
    """
    pieces: dict[str, list[tuple[Slot, int]]] = {}
    for rank, of_rank in enumerate(old_slots):
        for slot in of_rank:
            pieces.setdefault(slot.name, []).append((slot, rank))
    new = [torch.zeros(size) for size in sizes]
    for slot in slots:
        copied = 0
        for piece, rank in pieces.get(slot.name, []):
            begin = max(slot.start, piece.start)
            length = min(slot.start + slot.length, piece.start + piece.length) - begin
            if length > 0:
                stretch = old(rank)[piece.group].narrow(
                    0, piece.offset + begin - piece.start, length
                )
                new[slot.group].narrow(0, slot.offset + begin - slot.start, length).copy_(stretch)
                copied += length
        assert copied == slot.length, (
            f"{copied} of the {slot.length} elements of {slot} are in the checkpoint"
        )
    return new
