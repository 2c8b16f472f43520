"""Published times to an accuracy on many devices."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedTime:
    """A training whose time to an accuracy was published."""

    name: str
    devices: int
    device: str
    batch: int
    """Images."""
    images_per_second: float
    seconds: float
    accuracy: float
    """Top-1 on the validation set of ImageNet."""
    source: str


PUBLISHED_TIMES = (
    PublishedTime(
        "Ying et al. 2018",
        devices=1024,
        device="TPU v3 chips",
        batch=32_768,
        images_per_second=1.05e6,
        seconds=132.0,
        accuracy=0.763,
        source="arXiv:1811.06992",
    ),
    PublishedTime(
        "Yamazaki et al. 2019",
        devices=2048,
        device="V100",
        batch=81_920,
        images_per_second=1.73e6,
        seconds=74.7,
        accuracy=0.7508,
        source="arXiv:1903.12650",
    ),
)
"""ResNet-50 on ImageNet. 132 s: 2.2 minutes. Throughputs are printed as "over" these.
Source: the abstracts; batches from the papers' texts."""
