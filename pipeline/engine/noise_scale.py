"""The gradient noise scale: an estimate of the critical batch size, in tokens.

Below the critical batch size, twice the batch saves nearly half of the steps; above it, hardly any.
The estimate uses gradients that a step computes anyway: those of single micro-batches and their
mean over accumulation and ranks.
Source: McCandlish et al. 2018, arXiv:1812.06162, appendix A.1.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

SMOOTHING = 0.95
"""Weight of the averages so far in each update: single steps are noisy."""
EVERY_STEPS = 4
"""Steps between measurements: a measurement reads every gradient of every micro-batch again."""


def is_noise_measured(step: int, micro_batches: int) -> bool:
    """Tell whether the noise scale is measured at a step.

    Steps count from 1; one in EVERY_STEPS is measured. `micro_batches` are those of all data ranks:
    with a single one there is nothing to compare.
    """
    return micro_batches > 1 and step % EVERY_STEPS == 1


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


@dataclass(frozen=True)
class NoiseScale:
    """Running averages of the noise and the signal, whose ratio is the noise scale."""

    signal: float = 0.0
    """Unbiased estimate of the squared norm of the true gradient."""
    noise: float = 0.0
    """Unbiased estimate of the trace of the covariance of one token's gradient."""

    def after_step(
        self, small: float, small_tokens: int, large: float, large_tokens: int
    ) -> "NoiseScale":
        """Return the averages updated by one step.

        `small` is the mean, over micro-batches, of the squared norm of the mean gradient of
        `small_tokens`; `large` is the squared norm of the mean gradient of `large_tokens`.
        """
        signal = (large_tokens * large - small_tokens * small) / (large_tokens - small_tokens)
        noise = (small - large) / (1 / small_tokens - 1 / large_tokens)
        keep = SMOOTHING
        return NoiseScale(
            keep * self.signal + (1 - keep) * signal, keep * self.noise + (1 - keep) * noise
        )

    @property
    def tokens(self) -> float | None:
        """The noise scale in tokens; None unless both averages are positive."""
        if self.signal > 0 and self.noise > 0:
            return self.noise / self.signal
        return None
