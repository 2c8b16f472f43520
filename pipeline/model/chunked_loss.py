"""Cross-entropy of a language model's head, a few rows of logits at a time: all logits at once
would be the largest tensor of a training step.

Logits of a chunk are turned in place into their gradient, and that into the gradients of hidden
states and head, while the forward pass is at it: nothing of the vocabulary's width is kept for the
backward pass, and nothing is computed twice.
"""

from collections.abc import Callable
from typing import Any

import torch

from pipeline.sampling.batches import IGNORED

LEAST_ROWS = 16
"""Matrix products of fewer rows waste most of a processor."""


def rows_at_once(rows: int, hidden: int, layers: int, vocabulary: int) -> int:
    """Return how many rows of logits are computed together, so that they take no more memory than
    the activations.

    The least that a forward pass keeps is one hidden state per layer, of two bytes an entry, as
    with activation checkpointing; logits are fp32: rows x hidden x layers x 2 = chunk x vocabulary
    x 4.
    """
    return min(rows, max(LEAST_ROWS, rows * hidden * layers // (2 * vocabulary)))


Kernel = Callable[
    [torch.Tensor, torch.Tensor, float, bool], tuple[torch.Tensor, torch.Tensor, torch.Tensor]
]


def chunk_losses(
    logits: torch.Tensor, targets: torch.Tensor, z_loss_weight: float, needs_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the cross-entropies `(rows,)`, the sum of what z-loss adds `()`, and the logits turned
    into their gradient.

    The first two fp32, as is what is computed between; the gradient in the logits' own format.
    Without compiling, each line goes over the logits in memory; compiled, two kernels read them and
    one writes.
    """
    wide = logits.float()
    losses, extra, log_z, picked = _row_losses(wide, targets, z_loss_weight)
    if not needs_gradient:
        return losses, extra, logits
    # d/dlogits of (log Z - logit of the target) + w (log Z)^2 is softmax (1 + 2 w log Z) - one-hot.
    counted = targets != IGNORED
    place = targets.clamp(min=0)[:, None]
    scale = torch.where(counted, 1 + 2 * z_loss_weight * log_z, 0.0)
    gradient = wide.sub_(log_z[:, None]).exp_()
    gradient *= scale[:, None]
    at_target = (
        picked - log_z
    ).exp() * scale - counted.float()  # in fp32: little is left of 1 - 0.999 in bf16
    return (
        losses,
        extra,
        gradient.to(logits.dtype).scatter_(1, place, at_target[:, None].to(logits.dtype)),
    )


def _row_losses(
    logits: torch.Tensor, targets: torch.Tensor, z_loss_weight: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the cross-entropies, 0 where IGNORED, the sum of what z-loss adds, log(Z) and the
    targets' logits.

    All `(rows,)` but the sum, which is `()`.
    """
    counted = targets != IGNORED
    log_z = logits.logsumexp(1)
    picked = logits.gather(1, targets.clamp(min=0)[:, None])[:, 0]
    extra = z_loss_weight * torch.where(counted, log_z.square(), 0.0).sum()
    return torch.where(counted, log_z - picked, 0.0), extra, log_z, picked


def head_losses(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
    z_loss_weight: float,
    chunk: int,
    kernel: Kernel | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the objective's sum and each row's cross-entropy, of logits `hidden @ weight.T +
    bias`.

    `(rows, hidden)`, `(vocabulary, hidden)`, `(vocabulary,)`, `(rows,) int64` -> `() float32`,
    `(rows,) float32`, 0 where the target is IGNORED. `kernel` is `chunk_losses`, or that compiled.
    The objective adds `z_loss_weight * log(Z)^2`, Z the sum of exponentials (Chowdhery et al. 2022,
    PaLM, section 5); only it has a gradient.
    """
    return _HeadLosses.apply(
        hidden, weight, bias, targets, z_loss_weight, chunk, kernel or chunk_losses
    )  # pyright: ignore[reportReturnType]


def logit_losses(
    logits: torch.Tensor, targets: torch.Tensor, z_loss_weight: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the same of logits `(rows, vocabulary)` that are there already."""
    losses, extra, *_ = _row_losses(logits.float(), targets, z_loss_weight)
    return losses.sum() + extra, losses.detach()


def _add_product(total: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    """Add a product of matrices to an fp32 sum, without rounding it first where the device can."""
    if a.dtype == torch.float32:
        total.addmm_(a, b)
    elif total.is_cuda:
        torch.addmm(total, a, b, out_dtype=torch.float32, out=total)
    else:
        total += a @ b


class _HeadLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        z_loss_weight: float,
        chunk: int,
        kernel: Kernel,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        needs_gradient = any(ctx.needs_input_grad)
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        objective = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for_hidden = torch.empty_like(hidden) if needs_gradient else None
        for_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_gradient else None
        for_bias = (
            None
            if bias is None or not needs_gradient
            else torch.zeros_like(bias, dtype=torch.float32)
        )
        for first in range(0, len(hidden), chunk):
            rows = hidden[first : first + chunk]
            wanted = targets[first : first + chunk]
            logits = torch.nn.functional.linear(rows, weight, bias)
            losses[first : first + chunk], extra, gradient = kernel(
                logits, wanted, z_loss_weight, needs_gradient
            )
            objective += extra
            if for_hidden is None or for_weight is None:
                continue
            torch.mm(gradient, weight, out=for_hidden[first : first + chunk])
            _add_product(for_weight, gradient.T, rows)
            if for_bias is not None:
                for_bias += gradient.sum(0, dtype=torch.float32)
        objective += losses.sum()
        ctx.mark_non_differentiable(losses)
        if for_hidden is not None and for_weight is not None:
            ctx.save_for_backward(for_hidden, for_weight, for_bias)
            ctx.formats = weight.dtype, None if bias is None else bias.dtype
        return objective, losses

    @staticmethod
    def backward(ctx: Any, *outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        for_hidden, for_weight, for_bias = ctx.saved_tensors
        scale, (weight_format, bias_format) = outputs[0], ctx.formats
        return (
            for_hidden * scale.to(for_hidden.dtype),
            (for_weight * scale).to(weight_format),
            None if for_bias is None else (for_bias * scale).to(bias_format),
            None,
            None,
            None,
            None,
        )
