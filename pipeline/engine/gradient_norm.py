"""The norm of the gradients, without a copy of the largest one in double precision.

DeepSpeed's ZeRO optimizers turn each gradient into fp64 to sum its squares. That of an embedding is
then the largest tensor of a step, twice as large as the gradient itself.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

PIECE_ELEMENTS = 1 << 18
"""Largest number of elements that are turned into fp64 at once: 2 MB, which stay in the cache."""

NormOf = Callable[..., torch.Tensor]
"""`get_grad_norm_direct(gradients, params, norm_type)` of a ZeRO optimizer."""


def sum_norms_by_pieces(optimizer: Any) -> None:
    """Have a ZeRO optimizer on CPUs add up the norms of pieces of its gradients.

    The sum differs from that of whole gradients in the rounding of fp64 alone. Other optimizers
    stay as they are, and gradients on GPUs whole: there each piece would take three kernels.
    Source: DeepSpeed 0.19.8, runtime/zero/stage_1_and_2.py and stage3.py.
    """
    of_whole: NormOf | None = getattr(optimizer, "get_grad_norm_direct", None)
    if of_whole is None:
        return

    def of_pieces(
        gradients: Iterable[torch.Tensor], params: Sequence[Any], norm_type: float = 2
    ) -> torch.Tensor:
        return of_whole(*in_pieces(gradients, params), norm_type)

    optimizer.get_grad_norm_direct = of_pieces


def in_pieces(
    gradients: Iterable[torch.Tensor], params: Sequence[Any]
) -> tuple[list[torch.Tensor], list[Any]]:
    """Return flat pieces of the gradients on CPUs, and the parameter that each piece belongs to.

    Padding at the end of a partition, which has no parameter, is left out.
    """
    counted = [each for each in gradients if not getattr(each, "_zero_padding", False)]
    pieces: list[torch.Tensor] = []
    owners: list[Any] = []
    for gradient, param in zip(counted, params, strict=False):
        parts = [gradient]
        if gradient.is_cpu:
            parts = list(torch.split(gradient.reshape(-1), PIECE_ELEMENTS))
        pieces.extend(parts)
        owners.extend([param] * len(parts))
    return pieces, owners
