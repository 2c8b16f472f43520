"""The gradient noise scale: how many tokens a batch may have before more of them teach little.

Below it, twice the batch is worth nearly twice the steps; above it, hardly. It is estimated from
gradients that a step computes anyway: those of single micro-batches and their mean over
accumulation and ranks (McCandlish et al. 2018, arXiv:1812.06162, appendix A.1).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

SMOOTHING = 0.95
"""What each measurement keeps of the averages so far: single steps say little."""
EVERY_STEPS = 4
"""Steps from one measurement to the next: it reads every gradient of every micro-batch once
more."""


def is_measured(step: int, micro_batches: int) -> bool:
    """Tell whether a step, from 1, is measured: one in EVERY_STEPS, if its batch is more than one
    micro-batch."""
    return micro_batches > 1 and step % EVERY_STEPS == 1


class MicroBatchGradients:
    """Adds up the squared norms of this rank's gradients of single micro-batches, before anything
    is reduced."""

    is_watching = True
    """Whether gradients are looked at."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter], device: torch.device) -> None:
        """See the parameters' gradients as autograd makes them, whatever ZeRO does with them
        afterwards."""
        self._square = torch.zeros((), dtype=torch.float32, device=device)
        for parameter in parameters:
            parameter.register_hook(self._add)

    def _add(self, gradient: torch.Tensor) -> None:
        if self.is_watching:
            self._square += torch.linalg.vector_norm(gradient, dtype=torch.float32).square()

    def take(self) -> torch.Tensor:
        """Return the sum since the last call, `()`, of gradients as they were scaled for the
        backward pass."""
        square = self._square
        self._square = torch.zeros_like(self._square)
        return square


@dataclass(frozen=True)
class NoiseScale:
    """Running averages of both parts, whose ratio is the scale."""

    signal: float = 0.0
    """Squared norm of the true gradient, without bias."""
    noise: float = 0.0
    """Trace of the covariance of one token's gradient, without bias."""

    def after_step(
        self, small: float, small_tokens: int, large: float, large_tokens: int
    ) -> "NoiseScale":
        """Return the averages with one more step.

        `small` and `large` are squared norms of the mean gradient over so many tokens; of small
        ones the mean over all.
        """
        signal = (large_tokens * large - small_tokens * small) / (large_tokens - small_tokens)
        noise = (small - large) / (1 / small_tokens - 1 / large_tokens)
        keep = SMOOTHING
        return NoiseScale(
            keep * self.signal + (1 - keep) * signal, keep * self.noise + (1 - keep) * noise
        )

    @property
    def tokens(self) -> float | None:
        """The noise scale in tokens; None as long as the estimates do not make sense."""
        return self.noise / self.signal if self.signal > 0 and self.noise > 0 else None
