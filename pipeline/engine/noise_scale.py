"""Squared norms of the gradients of single micro-batches, for the gradient noise scale.

Reads the gradients that a step computes anyway; `noise_average.py` makes an estimate of them.
"""

from collections.abc import Iterable

import torch


class MicroBatchGradients:
    """Sum of the squared norms of this rank's micro-batch gradients, before any reduction."""

    is_watching = True
    """Whether the gradients of the current step are measured."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter], device: torch.device) -> None:
        """Read the parameters' gradients as autograd makes them, whatever ZeRO does afterwards."""
        self._square: torch.Tensor = torch.zeros((), dtype=torch.float32, device=device)
        for parameter in parameters:
            parameter.register_hook(self._add)

    def _add(self, gradient: torch.Tensor) -> None:
        if self.is_watching:
            self._square += torch.linalg.vector_norm(gradient, dtype=torch.float32).square()

    def take(self) -> torch.Tensor:
        """Return the sum since the last call, `()`; fp16 gradients carry the loss scale."""
        square = self._square
        self._square = torch.zeros_like(self._square)
        return square
