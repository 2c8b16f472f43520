"""Muon for matrices and AdamW for the rest: one torch optimizer that also updates ZeRO's shards.

Muon's update is the nearest orthogonal matrix to the momentum, blended with the gradient. To
compute it takes the whole matrix, while ZeRO gives a rank a part of a flat tensor, which may begin
and end inside matrices. So one rank owns each matrix: the other ranks send their pieces to the
owner, the owner orthogonalises, and sends the pieces of the result back, in one exchange each way.

Gradients arrive here reduced, unscaled and clipped, and momentum lies in the shards as AdamW's
moments do: clipping, skipped steps and checkpoints work as with AdamW, at every ZeRO stage.
DeepSpeed's own Muon orthogonalises before it clips (0.19.8, ZeRO 1 to 3): there clipping divides
the update by the root of the number of all singular values, which is also the norm it reports.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import cast

import torch
from torch.optim.adamw import adamw

from pipeline.config.groups import RankGroups
from pipeline.engine.groups import exchange_among_world_ranks
from pipeline.engine.optimizers.optimizer_kind import ParameterGroup, ParameterGroups
from pipeline.engine.shards import Slot

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic Newton-Schulz iteration.

Five iterations bring singular values between 0.7 and 1.2.
Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon.
"""
ITERATIONS = 5
BATCHED_ELEMENTS = 2**26
"""Maximum number of elements of the matrices, all of one shape, that are orthogonalised together."""


def orthogonalise(matrices: torch.Tensor) -> torch.Tensor:
    """Return matrices `(count, rows, columns)` with all singular values near 1, in the same format.

    Source: the quintic Newton-Schulz iteration of Jordan et al. 2024.
    """
    # The Gram matrix is the smaller one for wide matrices.
    is_tall = matrices.size(1) > matrices.size(2)
    if is_tall:
        return orthogonalise(matrices.mT).mT

    # Divided by the Frobenius norm, no singular value is above 1.
    a, b, c = COEFFICIENTS
    norms = cast("torch.Tensor", matrices.norm(dim=(1, 2), keepdim=True))
    x = matrices / norms.clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram: torch.Tensor = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def update_scale(shape: Sequence[int], rms: float) -> float:
    """Return the factor that gives an orthogonal matrix's entries the root mean square `rms`.

    The squares of all entries sum to min(rows, columns): their mean is 1 / max(rows, columns).
    """
    return rms * math.sqrt(max(shape))


@dataclass(frozen=True)
class FlatLayout:
    """Which parts of which matrices one flat tensor holds on each rank."""

    shapes: Mapping[str, torch.Size]
    """Shapes of the whole matrices, by name."""
    slots: Sequence[Sequence[Slot]]
    """Slots by world rank, in the order of their offsets."""


class Muon(torch.optim.Optimizer):
    """Muon for groups of kind `muon`, AdamW for groups of kind `adamw`.

    Groups of kind `muon` have `momentum`, and `rms`: the root mean square of an update's entries at
    a learning rate of 1. Where parameters are flat tensors, call `lay_out` before the first step.
    """

    def __init__(self, groups: ParameterGroups, lr: float) -> None:
        super().__init__(groups, {"lr": lr})
        self._exchanges: dict[int, _Exchange] = {}

    def lay_out(
        self, layouts: Sequence[tuple[torch.Tensor, FlatLayout]], groups: RankGroups
    ) -> None:
        """Set what the flat tensors hold; every rank gives the same layouts in the same order."""
        self._exchanges = {id(flat): _Exchange(layout, groups) for flat, layout in layouts}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update the parameters that have gradients once."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if group["kind"] == "adamw":
                self._adamw(group, parameters)
            else:
                self._muon(group, parameters)

    def _adamw(self, group: ParameterGroup, parameters: list[torch.Tensor]) -> None:
        # Moments begin at zero.
        for p in parameters:
            if not self.state[p]:
                self.state[p] = {
                    "step": torch.zeros((), dtype=torch.float32, device=p.device),
                    "exp_avg": torch.zeros_like(p),
                    "exp_avg_sq": torch.zeros_like(p),
                }

        # Torch's fused kernel, over all parameters of the group.
        states = [self.state[p] for p in parameters]
        adamw(
            parameters,
            [p.grad for p in parameters if p.grad is not None],
            [s["exp_avg"] for s in states],
            [s["exp_avg_sq"] for s in states],
            [],
            [s["step"] for s in states],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )

    def _muon(self, group: ParameterGroup, parameters: list[torch.Tensor]) -> None:
        # Momentum, blended with the gradient as Nesterov's method does.
        blends: list[torch.Tensor] = []
        for p in parameters:
            if not self.state[p]:
                self.state[p] = {"momentum_buffer": torch.zeros_like(p)}
            momentum = self.state[p]["momentum_buffer"]
            beta = group["momentum"]
            assert p.grad is not None
            momentum.lerp_(p.grad, 1 - beta)
            blends.append(p.grad.lerp(momentum, beta))

        # Decoupled weight decay, then the update: of whole matrices here, of flat tensors by way
        # of the ranks that own the matrices.
        for p in parameters:
            p.mul_(1 - group["lr"] * group["weight_decay"])
        blends = [_working_copy(blend) for blend in blends]
        if parameters and parameters[0].dim() == 2:
            updates = _updates(blends, group["rms"])
            for p, update in zip(parameters, updates, strict=True):
                p.add_(update, alpha=-group["lr"])
        else:
            for p, blend in zip(parameters, blends, strict=True):
                update = self._exchanges[id(p)].update(blend, group["rms"])
                p.add_(update.to(p.dtype), alpha=-group["lr"])


class _Exchange:
    """Sends the pieces of one flat tensor's matrices to their owners, and the updates back."""

    def __init__(self, layout: FlatLayout, groups: RankGroups) -> None:
        own = groups.world_rank
        self._shapes = layout.shapes
        owners = owners_of(layout)
        ranks = range(groups.sizes.world)
        mine = layout.slots[own]
        self._sent = [[slot for slot in mine if owners[slot.name] == rank] for rank in ranks]
        """This rank's slots, by the rank that owns their matrices."""
        self._received = [
            [slot for slot in layout.slots[rank] if owners[slot.name] == own] for rank in ranks
        ]
        """The slots of matrices that this rank owns, by the rank that sends them."""

    def update(self, blend: torch.Tensor, rms: float) -> torch.Tensor:
        """Return the update `(elements,)` of this rank's flat tensor; padding is 0."""
        # Send this rank's pieces, receive those of the matrices that it owns.
        parts = [blend.narrow(0, slot.offset, slot.length) for slot in chain(*self._sent)]
        received = self._send(_joined(parts, blend), self._sent, self._received)

        # Put the matrices together and orthogonalise them.
        matrices = {
            name: torch.cat(pieces).view(self._shapes[name])
            for name, pieces in self._pieces(received).items()
        }
        updates = dict(zip(matrices, _updates(list(matrices.values()), rms), strict=True))

        # Send the pieces of the updates back to where they came from.
        parts = [
            updates[slot.name].reshape(-1).narrow(0, slot.start, slot.length)
            for slot in chain(*self._received)
        ]
        returned = self._send(_joined(parts, blend), self._received, self._sent)

        # Put this rank's pieces in their places.
        result = torch.zeros_like(blend)
        first = 0
        for slot in chain(*self._sent):
            result.narrow(0, slot.offset, slot.length).copy_(returned.narrow(0, first, slot.length))
            first += slot.length
        return result

    def _pieces(self, received: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        """Return the pieces of each matrix owned here, in the order of their starts.

        Pieces arrive in the order of the ranks, which hold a matrix from its start to its end.
        """
        pieces: dict[str, list[torch.Tensor]] = {}
        first = 0
        for slot in chain(*self._received):
            pieces.setdefault(slot.name, []).append(received.narrow(0, first, slot.length))
            first += slot.length
        return pieces

    def _send(
        self, sent: torch.Tensor, to: list[list[Slot]], origin: list[list[Slot]]
    ) -> torch.Tensor:
        """Exchange the elements of slots, listed by receiver in `to` and by sender in `origin`."""
        if len(to) == 1:
            return sent
        sent_sizes = [sum(slot.length for slot in slots) for slots in to]
        received_sizes = [sum(slot.length for slot in slots) for slots in origin]
        return exchange_among_world_ranks(sent, sent_sizes, received_sizes)


def owners_of(layout: FlatLayout) -> dict[str, int]:
    """Return the rank that orthogonalises each matrix.

    It is one of the ranks that hold the largest part of the matrix: the one with the least work so
    far.
    """
    held: dict[str, dict[int, int]] = {}
    for rank, slots in enumerate(layout.slots):
        for slot in slots:
            held.setdefault(slot.name, {})[rank] = slot.length
    work = [0] * len(layout.slots)
    owners: dict[str, int] = {}
    for name, by_rank in held.items():
        largest = max(by_rank.values())
        candidates = [rank for rank, length in by_rank.items() if length == largest]
        owner = min(candidates, key=work.__getitem__)
        owners[name] = owner
        shape = layout.shapes[name]
        work[owner] += shape.numel() * min(shape)
    return owners


def _working_copy(blend: torch.Tensor) -> torch.Tensor:
    """Return a tensor in the format in which it is orthogonalised: bf16 on GPUs, fp32 on CPUs.

    Orthogonalising needs few bits (Jordan et al. 2024). On CPUs fp32 is as fast, and loses nothing.
    """
    if blend.is_cuda:
        return blend.to(torch.bfloat16)
    return blend.float()


def _joined(parts: list[torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    """Return parts as one vector; an empty one, of the format of `like`, where there are none."""
    if not parts:
        return like.new_empty(0)
    return torch.cat(parts)


def _updates(matrices: list[torch.Tensor], rms: float) -> list[torch.Tensor]:
    """Return the update of each matrix; matrices of one shape are computed together."""
    by_shape: dict[torch.Size, list[int]] = {}
    for index, matrix in enumerate(matrices):
        by_shape.setdefault(matrix.shape, []).append(index)
    updates: dict[int, torch.Tensor] = {}
    for shape, indices in by_shape.items():
        at_once = max(1, BATCHED_ELEMENTS // shape.numel())
        for first in range(0, len(indices), at_once):
            batch = indices[first : first + at_once]
            orthogonal = orthogonalise(torch.stack([matrices[index] for index in batch]))
            scaled = orthogonal * update_scale(shape, rms)
            updates.update(zip(batch, scaled.unbind(), strict=True))
    return [updates[index] for index in range(len(matrices))]
