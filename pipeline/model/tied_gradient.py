"""One gradient for weights that are both the input embedding and the output head, on CPUs.

Autograd gives an embedding a gradient of the size of its weights, zeros but for the rows of a
micro-batch, and adds the head's to it. With a large vocabulary these are passes over the largest
tensor of a step. Here the embedding adds its few rows to the gradient that the head has made before
it. The sum has the same bits.
"""

from typing import Any

import torch
from torch import nn


class TiedGradient:
    """The head's gradient of one forward pass, between the head's backward and the embedding's."""

    def __init__(self) -> None:
        self.of_head: torch.Tensor | None = None
        """`(vocabulary, hidden)`, once it is made. Nothing else may refer to it when autograd stores
        it: it would be copied."""

    def take(self) -> torch.Tensor | None:
        """Return the gradient, and no longer refer to it."""
        gradient = self.of_head
        self.of_head = None
        return gradient


def can_tie(embedding: nn.Module, head: nn.Module) -> bool:
    """Tell whether the head's weights are those of a plain embedding."""
    return (
        type(embedding) is nn.Embedding
        and embedding.weight is getattr(head, "weight", None)
        and embedding.max_norm is None
        and not embedding.scale_grad_by_freq
        and not embedding.sparse
    )


def embed(embedding: nn.Embedding, ids: torch.Tensor, tied: TiedGradient) -> torch.Tensor:
    """Return `embedding(ids)`, whose backward pass adds to the head's gradient in `tied`."""
    return _TiedEmbedding.apply(ids, embedding.weight, embedding.padding_idx, tied)  # pyright: ignore[reportReturnType]


class _TiedEmbedding(torch.autograd.Function):
    """The autograd function of `embed`."""

    @staticmethod
    def forward(
        ctx: Any,
        ids: torch.Tensor,
        weight: torch.Tensor,
        padding: int | None,
        tied: TiedGradient,
    ) -> torch.Tensor:
        ctx.save_for_backward(ids)
        ctx.rows = len(weight)
        ctx.padding = -1 if padding is None else padding
        ctx.tied = tied
        return nn.functional.embedding(ids, weight, padding)

    @staticmethod
    def backward(ctx: Any, *outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # Autograd waits for this gradient of the weights, none, before it stores the head's.
        (ids,) = ctx.saved_tensors
        (gradient,) = outputs
        of_head = ctx.tied.take()
        if of_head is None:
            whole = _embedding_gradient(gradient, ids, ctx.rows, ctx.padding)
            return None, whole, None, None

        # Each id's rows are added up first, as in a gradient of its own.
        found, places = ids.unique(return_inverse=True)
        sums = _embedding_gradient(gradient, places, len(found), -1)
        counted = found != ctx.padding
        of_head.index_add_(0, found[counted], sums[counted])
        return None, None, None, None


def _embedding_gradient(
    gradient: torch.Tensor, ids: torch.Tensor, rows: int, padding: int
) -> torch.Tensor:
    """Return the gradient of an embedding's weights, `(rows, hidden)`."""
    return torch.ops.aten.embedding_dense_backward(gradient, ids, rows, padding, False)
