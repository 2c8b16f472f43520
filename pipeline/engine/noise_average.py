"""The gradient noise scale: an estimate of the critical batch size, in tokens.

Below the critical batch size, twice the batch saves nearly half of the steps; above it, hardly any.
The estimate uses gradients that a step computes anyway: those of single micro-batches and their
mean over accumulation and ranks; `noise_scale.py` reads them. Free of torch.
Source: McCandlish et al. 2018, arXiv:1812.06162, appendix A.1.
"""

from dataclasses import dataclass

SMOOTHING = 0.95
"""Weight of the averages so far in each update: single steps are noisy."""
EVERY_STEPS = 4
"""Steps between measurements: a measurement reads every gradient of every micro-batch again."""
MEMORY_STEPS = round(EVERY_STEPS / (1 - SMOOTHING))
"""Steps that the averages are about: 80. The weight of older measurements falls by 1/e in as many."""
LEAST_UPDATES = 40
"""Measurements that a run has made before its noise scale counts. The scale is a running average with
a memory of 20 measurements: after 40, the run's beginning, or the base of a branch, weighs 0.95^40, an
eighth. A run with fewer has an average over all of its way, and the noise scale rises on the way."""


def is_noise_measured(step: int, micro_batches: int) -> bool:
    """Tell whether the noise scale is measured at a step.

    Steps count from 1; one in EVERY_STEPS is measured. `micro_batches` are those of all data ranks:
    with a single one there is nothing to compare.
    """
    return micro_batches > 1 and step % EVERY_STEPS == 1


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
