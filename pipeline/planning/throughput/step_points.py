"""Measured steps on several numbers of devices: throughput, efficiency, share of communication.

Pure arithmetic. K is the number of data-parallel devices, tau_K the tokens a second of all of them.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Scaling = Literal["reference", "weak", "strong"]
"""How the batch depends on K. weak: K times the reference's, so that each device has the same work.
strong: that of the reference, divided among the devices. reference: the smallest K, both at once."""


@dataclass(frozen=True)
class StepPoint:
    """The steps of one run."""

    name: str
    scaling: Scaling
    devices: int
    """K."""
    nodes: int
    tokens: int
    """Tokens of a step, over all devices."""
    seconds: float
    """Median of a step."""
    wire_bytes: float
    """What each device sends in a step (`step_time.ring_bytes`)."""
    overlap_share: float = 1.0
    """Share of a step's computing beside which gradients are sent: 1 / micro-batches where they are
    reduced with the last one only."""
    exposed_share: float | None = None
    """Share of a step in communication, measured by leaving the reduction out; None: not measured."""
    data_wait_share: float = 0.0
    """Share of a step in which rank 0 waits for its batch."""

    @property
    def tokens_per_second(self) -> float:
        """tau_K."""
        return self.tokens / self.seconds

    @property
    def tokens_per_device(self) -> float:
        """Tokens of a step on each device."""
        return self.tokens / self.devices

    @property
    def seconds_without(self) -> float | None:
        """Seconds of a step without the reduction; None where that was not measured."""
        if self.exposed_share is None:
            return None
        return self.seconds * (1 - self.exposed_share)


def of_scaling(points: Iterable[StepPoint], scaling: Scaling) -> list[StepPoint]:
    """Return the points of one way of scaling, with those of the reference, by K."""
    chosen = [point for point in points if point.scaling in ("reference", scaling)]
    return sorted(chosen, key=lambda point: point.devices)


def numbers_of_devices(points: Iterable[StepPoint]) -> list[int]:
    """Return the different K, in order."""
    return sorted({point.devices for point in points})


def reference_rate(points: Sequence[StepPoint]) -> float:
    """Return tau_ref, the tokens a second of a device, over the points of the smallest K.

    Several runs count with their geometric mean.
    """
    fewest = min(point.devices for point in points)
    rates = [point.tokens_per_second / point.devices for point in points if point.devices == fewest]
    return statistics.geometric_mean(rates)


def efficiency(point: StepPoint, reference: float) -> float:
    """Return tau_K / (K tau_ref). `reference`: tau_ref.

    Source: Cherti and Jitsev 2021 (arXiv:2106.00116), who call it scaling efficiency.
    """
    return point.tokens_per_second / (point.devices * reference)


def spread_of_repeats(points: Sequence[StepPoint]) -> tuple[float, int] | None:
    """Return the standard deviation of log seconds among runs that differ in the seed only.

    With its degrees of freedom; pooled over all K and ways of scaling. None where nothing was
    repeated.
    """
    squares = 0.0
    freedom = 0
    for place in {(point.scaling, point.devices, point.tokens) for point in points}:
        logs = [
            math.log(point.seconds)
            for point in points
            if (point.scaling, point.devices, point.tokens) == place
        ]
        mean = statistics.fmean(logs)
        squares += sum((value - mean) ** 2 for value in logs)
        freedom += len(logs) - 1
    if not freedom:
        return None
    return math.sqrt(squares / freedom), freedom
