"""Cross-entropy of a language model's head, a few rows of logits at a time.

All logits at once would be the largest tensor of a training step. Here the forward pass turns the
logits of a chunk in place into their gradient, and that into the gradients of hidden states and
head. So nothing as wide as the vocabulary is kept for the backward pass, and nothing is computed
twice. Gradients of the head are added up chunk by chunk: the size of a chunk decides their last bits.
How many chunks are multiplied at once does not (`products_at_once.py`).
"""

from collections.abc import Callable
from typing import Any

import torch

from pipeline.model.products_at_once import add_products
from pipeline.model.tied_gradient import TiedGradient
from pipeline.sampling.batches import IGNORED

ChunkLosses = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Cross-entropies, sum of z-losses and gradient of the logits of a chunk."""
Kernel = Callable[[torch.Tensor, torch.Tensor, float, bool], ChunkLosses]
"""`chunk_losses`, or the same compiled."""


def chunk_losses(
    logits: torch.Tensor, targets: torch.Tensor, z_loss_weight: float, needs_gradient: bool
) -> ChunkLosses:
    """Return cross-entropies `(rows,)`, the sum of z-losses `()`, and the gradient of the logits.

    The gradient takes the memory and the format of the logits; all else is computed in fp32.
    Uncompiled, each line reads the logits from memory; compiled, two kernels read them and one
    writes them.
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
    # The entry of the target in fp32: little is left of 1 - 0.999 in bf16.
    at_target = (picked - log_z).exp() * scale - counted.float()
    narrow = gradient.to(logits.dtype)
    return losses, extra, narrow.scatter_(1, place, at_target[:, None].to(logits.dtype))


def _row_losses(
    logits: torch.Tensor, targets: torch.Tensor, z_loss_weight: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return cross-entropies, the sum of z-losses, log(Z), and the logits of the targets.

    The shapes are `(rows,)`, but `()` for the sum. Where a target is IGNORED its losses are 0.
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
    together: int = 1,
    tied: TiedGradient | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the objective's sum and each row's cross-entropy for logits hidden @ weight.T + bias.

    Shapes: hidden `(rows, hidden)`, weight `(vocabulary, hidden)`, bias `(vocabulary,)`, targets
    `(rows,) int64` -> objective `() float32`, cross-entropies `(rows,) float32`, 0 where the target
    is IGNORED. The objective adds `z_loss_weight * log(Z)^2` for each row, Z the sum of
    exponentials. Only the objective has a gradient. `chunk` is the rows whose gradients are summed in
    one product, `together` the chunks whose logits are held at once, in fp32 on a CPU. `tied` is
    given the weight's gradient where the embedding has the same weight and returns it.
    Source: Chowdhery et al. 2022 (PaLM), section 5, for the z-loss.
    """
    return _HeadLosses.apply(
        hidden, weight, bias, targets, z_loss_weight, chunk, kernel or chunk_losses, together, tied
    )  # pyright: ignore[reportReturnType]


def logit_losses(
    logits: torch.Tensor, targets: torch.Tensor, z_loss_weight: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the objective's sum and each row's cross-entropy for logits `(rows, vocabulary)`."""
    losses, extra, *_ = _row_losses(logits.float(), targets, z_loss_weight)
    return losses.sum() + extra, losses.detach()


def _fill_losses(
    losses: torch.Tensor,
    objective: torch.Tensor,
    logits: torch.Tensor,
    targets: torch.Tensor,
    chunk: int,
    of_chunk: Callable[[torch.Tensor, torch.Tensor], ChunkLosses],
) -> list[torch.Tensor]:
    """Fill `losses` chunk by chunk, add z-losses to the objective; return the logits' gradients."""
    gradients: list[torch.Tensor] = []
    for first in range(0, len(logits), chunk):
        part = slice(first, first + chunk)
        losses[part], extra, gradient = of_chunk(logits[part], targets[part])
        objective += extra
        gradients.append(gradient)
    return gradients


def _add_columns(total: torch.Tensor, gradients: list[torch.Tensor]) -> None:
    for gradient in gradients:
        total += gradient.sum(0, dtype=torch.float32)


class _HeadLosses(torch.autograd.Function):
    """The autograd function of `head_losses`, which computes its gradients in the forward pass."""

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
        together: int,
        tied: TiedGradient | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # Gradients of head and bias are summed over the chunks in fp32.
        needs_gradient = any(ctx.needs_input_grad)
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        objective = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for_hidden = None
        for_weight = None
        for_bias = None
        if needs_gradient:
            for_hidden = torch.empty_like(hidden)
            for_weight = torch.zeros_like(weight, dtype=torch.float32)
        if needs_gradient and bias is not None:
            for_bias = torch.zeros_like(bias, dtype=torch.float32)

        # Logits of some chunks, in place their gradients chunk by chunk, then the products of all.
        def of_chunk(logits: torch.Tensor, targets: torch.Tensor) -> ChunkLosses:
            return kernel(logits, targets, z_loss_weight, needs_gradient)

        for first in range(0, len(hidden), chunk * together):
            part = slice(first, first + chunk * together)
            rows = hidden[part]
            logits = torch.nn.functional.linear(rows, weight, bias)
            gradients = _fill_losses(
                losses[part], objective, logits, targets[part], chunk, of_chunk
            )
            if together == 1:
                (logits,) = gradients
            if for_hidden is not None and for_weight is not None:
                torch.mm(logits, weight, out=for_hidden[part])
                add_products(for_weight, logits, rows, chunk)
            if for_bias is not None:
                _add_columns(for_bias, gradients)
            del logits, gradients  # before the next ones are made
        objective += losses.sum()

        # Keep the gradients for the backward pass, which only scales them.
        ctx.mark_non_differentiable(losses)
        if for_hidden is not None and for_weight is not None:
            ctx.gradients = (for_hidden, for_weight, for_bias)
            ctx.tied = tied
            ctx.weight_format = weight.dtype
            ctx.bias_format = bias.dtype if bias is not None else None
        return objective, losses

    @staticmethod
    def backward(ctx: Any, *outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # In place, and given away: a second gradient of the head would be the largest tensor of a
        # step. Whoever gets the only reference may add to it in place, too.
        if ctx.gradients is None:
            raise RuntimeError("the losses of a head have only one backward pass")
        for_hidden, for_weight, for_bias = ctx.gradients
        ctx.gradients = None
        scale = outputs[0]
        of_hidden = for_hidden.mul_(scale.to(for_hidden.dtype))
        of_weight = for_weight.mul_(scale).to(ctx.weight_format)
        of_bias = None
        if for_bias is not None:
            of_bias = for_bias.mul_(scale).to(ctx.bias_format)
        if ctx.tied is not None and ctx.needs_input_grad[0]:
            of_weight = ctx.tied.give(of_weight)
        return of_hidden, of_weight, of_bias, None, None, None, None, None, None
