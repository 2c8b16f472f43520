"""Which part of each parameter lies where in the flat tensors that ZeRO divides among the ranks.

The layout follows from the parameters' shapes and their order alone, so that every rank can compute
the layout of all ranks.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

Shapes = Sequence[Mapping[str, torch.Size]]
"""`[{name: shape}]` by group, in the order of the parameters in the flat tensors."""


@dataclass(frozen=True)
class Slot:
    """One part of a flattened parameter in one rank's flat tensors; all numbers in elements."""

    name: str
    """Name of the parameter."""
    start: int
    """Offset of the part in the flattened parameter."""
    length: int
    group: int
    """Index of the flat tensor among the rank's flat tensors."""
    offset: int
    """Offset of the part in that flat tensor."""


def vector_slots(shapes: Shapes, parts: Sequence[int], ranks: int) -> list[list[Slot]]:
    """Return each rank's slots at ZeRO 1 and 2.

    `shapes` is `[{name: shape}]` by group, `parts` the length of a rank's part by group. A group of
    parameters is one vector, cut into equal parts, also in the middle of a parameter. DeepSpeed's
    own record, `param_slice_mappings`, is wrong under `round_robin_gradients`, which changes the
    order of the parameters.
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

    Every parameter is cut into equal parts. The last parts are padded, so that some ranks may hold
    nothing of a parameter.
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


def slots_of_ranks(
    stage: int, shapes: Shapes, sizes: Sequence[int], ranks: int
) -> list[list[Slot]]:
    """Return each rank's slots at a ZeRO stage from 1 to 3.

    `shapes` is `[{name: shape}]` by group, `sizes` the elements of a rank's flat tensor by group.
    """
    if stage == 3:
        return even_slots(shapes, ranks)
    return vector_slots(shapes, sizes, ranks)


def copy_slots(
    sizes: Sequence[int],
    slots: Sequence[Slot],
    old_slots: Sequence[Sequence[Slot]],
    old: Callable[[int], Sequence[torch.Tensor] | Mapping[int, torch.Tensor]],
) -> list[torch.Tensor]:
    """Return one rank's new flat tensors, filled from the flat tensors of the old ranks.

    `sizes` are the elements of the new tensors by group, `slots` this rank's slots in them.
    `old_slots` are the slots of every old rank, `old(rank)[group]` the tensors they describe.
    Padding, which no slot covers, is zero. Raises AssertionError where the old tensors lack a part
    of a slot.
    """
    # Find the old slots of each parameter.
    pieces: dict[str, list[tuple[Slot, int]]] = {}
    for rank, slots_of_rank in enumerate(old_slots):
        for slot in slots_of_rank:
            pieces.setdefault(slot.name, []).append((slot, rank))

    # Copy the overlap of each new slot with each old one, and count what was copied.
    new = [torch.zeros(size) for size in sizes]
    for slot in slots:
        copied = 0
        for piece, rank in pieces.get(slot.name, []):
            begin = max(slot.start, piece.start)
            length = min(slot.start + slot.length, piece.start + piece.length) - begin
            if length > 0:
                source = old(rank)[piece.group]
                values = source.narrow(0, piece.offset + begin - piece.start, length)
                new[slot.group].narrow(0, slot.offset + begin - slot.start, length).copy_(values)
                copied += length
        assert copied == slot.length, (
            f"{copied} of the {slot.length} elements of {slot} are in the checkpoint"
        )
    return new
