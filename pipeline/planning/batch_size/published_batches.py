"""Validation error over the batch as Goyal et al. 2017 published it, for the grey points of a figure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedError:
    """Top-1 validation error of one minibatch size."""

    images: int
    """Images of a minibatch."""
    percent: float
    """Mean over their runs."""


GOYAL_REFERENCE = PublishedError(256, 23.60)
GOYAL_WARMED_UP = (
    GOYAL_REFERENCE,
    PublishedError(8192, 23.74),
    PublishedError(16_384, 24.79),
    PublishedError(32_768, 27.55),
    PublishedError(65_536, 33.96),
)
"""ResNet-50 on ImageNet, SGD with momentum, 90 epochs, the rate scaled linearly from 0.1 at 256 images,
with five epochs of gradual warm-up. Spread of the first two over their runs: 0.12 and 0.09.
Source: Goyal et al. 2017 (arXiv:1706.02677), figure 1 and tables 1 and 2."""
GOYAL_WITHOUT_WARM_UP = PublishedError(8192, 24.84)
"""The same at 8,192 images without warm-up. Source: the same, table 1."""


def increase_percent(error: PublishedError) -> float:
    """Return how much larger an error is than that of the reference batch, in percent of it."""
    return 100 * (error.percent / GOYAL_REFERENCE.percent - 1)


def batch_ratio(error: PublishedError) -> float:
    """Return K, the batch as a multiple of the reference batch."""
    return error.images / GOYAL_REFERENCE.images
