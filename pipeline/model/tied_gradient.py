"""One gradient for weights that are both the input embedding and the output head, on CPUs.

Autograd gives an embedding a gradient of the size of its weights, zeros but for the rows of a
micro-batch, and adds the head's to it. With a large vocabulary these are passes over the largest
tensor of a step. Here the embedding adds its few rows to the gradient that the head has made before
it. The sum has the same bits.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class TiedGradient:
    """The head's gradient of one forward pass, on its way from the head to the embedding."""

    def __init__(self) -> None:
        self.has_embedding = False
        """Whether the embedding will take the gradient and return the sum of both."""
        self._of_head: torch.Tensor | None = None

    def give(self, gradient: torch.Tensor) -> torch.Tensor | None:
        """Return the head's gradient where the head has to return it, `(vocabulary, hidden)`.

        None where the embedding will. Nothing else may refer to a gradient when autograd stores
        it: it would be copied.
        """
        if not self.has_embedding:
            return gradient
        self._of_head = gradient
        return None

    def take(self) -> torch.Tensor | None:
        """Return the gradient that the head has left here, and no longer refer to it."""
        gradient = self._of_head
        self._of_head = None
        return gradient


class Tying:
    """Lets an embedding share the gradient of the head of the forward pass that is under way."""

    def __init__(self, embedding: nn.Module) -> None:
        """Take the embedding, whose output is replaced within `sharing`."""
        self._under_way: TiedGradient | None = None
        embedding.register_forward_hook(self._embed)

    @contextmanager
    def sharing(self) -> Generator[TiedGradient]:
        """Share the gradient of the forward pass of the embedding within this context."""
        self._under_way = TiedGradient()
        try:
            yield self._under_way
        finally:
            self._under_way = None

    def _embed(
        self, embedding: nn.Module, inputs: tuple[torch.Tensor, ...], _: torch.Tensor
    ) -> torch.Tensor | None:
        if self._under_way is None or not inputs or not isinstance(embedding, nn.Embedding):
            return None
        # The rows are looked up once more: next to nothing beside a pass over the weights.
        return embed(embedding, inputs[0], self._under_way)


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
    """Return `embedding(ids)`; its backward pass adds the head's gradient, which is in `tied`."""
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
        tied.has_embedding = ctx.needs_input_grad[1]
        return nn.functional.embedding(ids, weight, padding)

    @staticmethod
    def backward(ctx: Any, *outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # The head's gradient was made first: the one of the embedding's output depends on it.
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
        return None, of_head, None, None


def _embedding_gradient(
    gradient: torch.Tensor, ids: torch.Tensor, rows: int, padding: int
) -> torch.Tensor:
    """Return the gradient of an embedding's weights, `(rows, hidden)`."""
    return torch.ops.aten.embedding_dense_backward(gradient, ids, rows, padding, False)
