"""Muon for matrices and AdamW for the rest, as one optimizer that also steps on the flat shards of
ZeRO.

Muon's momentum, blended with the gradient, is replaced by the nearest orthogonal matrix. That takes
the whole matrix, while ZeRO gives a rank a stretch of a flat tensor that may begin and end inside
matrices. So each matrix has an owner among the ranks: pieces travel to it, it orthogonalises, and
pieces of the result travel back, in one exchange each way. Gradients come here reduced, unscaled
and clipped, and momentum lies in the shards as AdamW's moments do: clipping, skipped steps and
checkpoints mean the same as with AdamW, at every ZeRO stage. DeepSpeed's own Muon orthogonalises
before it clips (0.19.8, ZeRO 1 to 3): the clip then cuts the update itself, by the root of the
number of all singular values, and the gradient norm it reports is that number.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim.adamw import adamw

from pipeline.config.groups import RankGroups
from pipeline.engine.groups import exchange_among_world_ranks
from pipeline.engine.shards import Slot

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the Newton-Schulz iteration; five steps bring singular values into 0.7 to 1.2. Source: Jordan
et al. 2024, kellerjordan.github.io/posts/muon."""
ITERATIONS = 5
BATCHED_ELEMENTS = 2**26
"""Matrices of one shape are orthogonalised together, up to so many elements."""


def orthogonalise(matrices: torch.Tensor) -> torch.Tensor:
    """Return matrices `(count, rows, columns)` with all singular values brought near 1, in their
    format.

    Source: the quintic Newton-Schulz iteration of Jordan et al. 2024.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.size(1) > matrices.size(2)
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(
        min=1e-7
    )  # Frobenius: no singular value is above 1
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def update_scale(shape: Sequence[int], rms: float) -> float:
    """Return what an orthogonal matrix of this shape is multiplied by so that its entries have this
    root mean square.

    Its squares sum to min(rows, columns), so that their mean is 1 / max(rows, columns).
    """
    return rms * math.sqrt(max(shape))


@dataclass(frozen=True)
class FlatLayout:
    """Which stretches of which matrices one flat tensor holds on each rank."""

    shapes: Mapping[str, torch.Size]
    slots: Sequence[Sequence[Slot]]
    """By world rank, in the order of their offsets."""


class Muon(torch.optim.Optimizer):
    """Groups have `kind` muon or adamw; those of Muon `rms`, that of an update's entries at a
    learning rate of 1.

    Give the layout of flat tensors before the first step.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float) -> None:
        super().__init__(groups, {"lr": lr})
        self._exchanges: dict[int, _Exchange] = {}

    def lay_out(
        self, layouts: Sequence[tuple[torch.Tensor, FlatLayout]], groups: RankGroups
    ) -> None:
        """Say what the flat tensors hold; every rank gives the same layouts in the same order."""
        self._exchanges = {id(flat): _Exchange(layout, groups) for flat, layout in layouts}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Do one step with the gradients that the parameters have."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if group["kind"] == "adamw":
                self._adamw(group, parameters)
            else:
                self._muon(group, parameters)

    def _adamw(self, group: dict[str, Any], parameters: list[torch.Tensor]) -> None:
        for p in parameters:
            if not self.state[p]:
                self.state[p] = {
                    "step": torch.zeros((), dtype=torch.float32, device=p.device),
                    "exp_avg": torch.zeros_like(p),
                    "exp_avg_sq": torch.zeros_like(p),
                }
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

    def _muon(self, group: dict[str, Any], parameters: list[torch.Tensor]) -> None:
        blends = []
        for p in parameters:
            if not self.state[p]:
                self.state[p] = {"momentum_buffer": torch.zeros_like(p)}
            momentum = self.state[p]["momentum_buffer"]
            beta = group["momentum"]
            assert p.grad is not None
            momentum.lerp_(p.grad, 1 - beta)
            blends.append(p.grad.lerp(momentum, beta))  # Nesterov's
        for p in parameters:
            p.mul_(1 - group["lr"] * group["weight_decay"])
        if parameters and parameters[0].dim() == 2:
            for p, update in zip(
                parameters, _updates([_working(b) for b in blends], group["rms"]), strict=True
            ):
                p.add_(update, alpha=-group["lr"])
        else:
            for p, blend in zip(parameters, blends, strict=True):
                p.add_(
                    self._exchanges[id(p)].update(_working(blend), group["rms"]).to(p.dtype),
                    alpha=-group["lr"],
                )


class _Exchange:
    """Brings the pieces of one flat tensor's matrices to their owners and the updates back."""

    def __init__(self, layout: FlatLayout, groups: RankGroups) -> None:
        own = groups.world_rank
        self._shapes = layout.shapes
        owners = owners_of(layout)
        ranks = range(groups.sizes.world)
        mine = layout.slots[own]
        self._sent = [[slot for slot in mine if owners[slot.name] == rank] for rank in ranks]
        """By the rank that owns them."""
        self._received = [
            [s for s in layout.slots[rank] if owners[s.name] == own] for rank in ranks
        ]
        """By the rank that they come from."""

    def update(self, blend: torch.Tensor, rms: float) -> torch.Tensor:
        """Return the update `(elements,)` of this rank's flat tensor, 0 in its padding."""
        sent = _joined(
            [blend.narrow(0, s.offset, s.length) for slots in self._sent for s in slots], blend
        )
        pieces = self._pieces(self._travel(sent, self._sent, self._received))
        matrices = {
            name: torch.cat(found).view(self._shapes[name]) for name, found in pieces.items()
        }
        updates = dict(zip(matrices, _updates(list(matrices.values()), rms), strict=True))
        back = [
            updates[s.name].reshape(-1).narrow(0, s.start, s.length)
            for slots in self._received
            for s in slots
        ]
        returned = self._travel(_joined(back, blend), self._received, self._sent)
        result = torch.zeros_like(blend)
        first = 0
        for slot in (slot for slots in self._sent for slot in slots):
            result.narrow(0, slot.offset, slot.length).copy_(returned.narrow(0, first, slot.length))
            first += slot.length
        return result

    def _pieces(self, received: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        """Return the pieces of each matrix owned here, in the order of the ranks, which is that of
        their starts."""
        pieces: dict[str, list[torch.Tensor]] = {}
        first = 0
        for slot in (slot for slots in self._received for slot in slots):
            pieces.setdefault(slot.name, []).append(received.narrow(0, first, slot.length))
            first += slot.length
        return pieces

    def _travel(
        self, sent: torch.Tensor, to: list[list[Slot]], origin: list[list[Slot]]
    ) -> torch.Tensor:
        if len(to) == 1:
            return sent
        sent_sizes = [sum(slot.length for slot in slots) for slots in to]
        received_sizes = [sum(slot.length for slot in slots) for slots in origin]
        return exchange_among_world_ranks(sent, sent_sizes, received_sizes)


def owners_of(layout: FlatLayout) -> dict[str, int]:
    """Return the rank that orthogonalises each matrix: of those that hold most of it, the one with
    the least to do."""
    held: dict[str, dict[int, int]] = {}
    for rank, slots in enumerate(layout.slots):
        for slot in slots:
            held.setdefault(slot.name, {})[rank] = slot.length
    work = [0] * len(layout.slots)
    owners: dict[str, int] = {}
    for name, by_rank in held.items():
        most = max(by_rank.values())
        owners[name] = min(
            (rank for rank, length in by_rank.items() if length == most),
            key=lambda rank: work[rank],
        )
        shape = layout.shapes[name]
        work[owners[name]] += shape.numel() * min(shape)
    return owners


def _working(blend: torch.Tensor) -> torch.Tensor:
    """Orthogonalising needs few bits (Jordan et al. 2024): bf16 on GPUs. On CPUs fp32 is as fast,
    and exact."""
    return blend.to(torch.bfloat16) if blend.is_cuda else blend.float()


def _joined(parts: list[torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    return torch.cat(parts) if parts else like.new_empty(0)


def _updates(matrices: list[torch.Tensor], rms: float) -> list[torch.Tensor]:
    """Return the update of each matrix, those of one shape computed together."""
    by_shape: dict[torch.Size, list[int]] = {}
    for index, matrix in enumerate(matrices):
        by_shape.setdefault(matrix.shape, []).append(index)
    updates: dict[int, torch.Tensor] = {}
    for shape, indices in by_shape.items():
        at_once = max(1, BATCHED_ELEMENTS // shape.numel())
        for first in range(0, len(indices), at_once):
            part = indices[first : first + at_once]
            done = orthogonalise(torch.stack([matrices[index] for index in part])) * update_scale(
                shape, rms
            )
            updates.update(zip(part, done.unbind(), strict=True))
    return [updates[index] for index in range(len(matrices))]
