"""Time of an optimizer step on many devices. Pure arithmetic.

A step on K devices takes t + max(0, wire / bandwidth - overlap t) + g (K - 1), t = max(t_c, h):
computing, or what the host needs to start it where that takes longer; the communication that this
does not hide; and what grows with every further device (stragglers, latencies of collectives).
"""

from dataclasses import dataclass

from pipeline.config.hardware import Hardware
from pipeline.engine.memory import WIDTH, MemorySetting


@dataclass(frozen=True)
class StepTime:
    """The parts of a step, in seconds."""

    compute: float
    host: float
    """Time in which the device waits for the host."""
    communication: float
    """Communication that computing does not hide."""
    per_device: float
    """The part that grows with the number of devices."""

    @property
    def total(self) -> float:
        """Seconds of the whole step."""
        return self.compute + self.host + self.communication + self.per_device

    @property
    def efficiency(self) -> float:
        """Share of the step in which devices compute."""
        return self.compute / self.total


def step_time(
    compute: float,
    wire_bytes: float,
    bandwidth: float,
    overlap: float,
    seconds_per_device: float,
    devices: float,
    *,
    host_seconds: float = 0.0,
) -> StepTime:
    """Return the parts of a step.

    `compute`: seconds in which each device computes. `wire_bytes`: what each device sends, and
    `bandwidth` its rate in bytes a second. `overlap`: share of the computing, waits for the host
    included, during which it can send at the same time. `seconds_per_device`: what each device
    beyond the first adds. `host_seconds`: what the host needs, while the device computes.
    """
    host = max(0.0, host_seconds - compute)
    exposed = max(0.0, wire_bytes / bandwidth - overlap * (compute + host))
    return StepTime(compute, host, exposed, seconds_per_device * (devices - 1))


@dataclass(frozen=True)
class Communication:
    """What a device sends in a step, and how much of it computing can hide."""

    wire_bytes: float
    bandwidth: float
    """Bytes a second."""
    overlap: float
    """Share of computing during which the device can send."""


def communication(
    parameters: int,
    setting: MemorySetting,
    tokens: float,
    hardware: Hardware,
    nodes: int,
    overlap: float,
) -> Communication:
    """Return the communication of a step of this many tokens over all ranks of a setting.

    `overlap`: share of computing during which a device can send, where it sends after every
    micro-batch.
    """
    accumulation = micro_batches(setting, tokens)
    wire = ring_bytes(
        parameters, WIDTH[setting.dtype], setting.zero_stage, setting.ranks, accumulation
    )
    bandwidth = ring_bandwidth(
        hardware.link_gb_per_second * 1e9,
        hardware.network_gb_per_second * 1e9,
        hardware.devices_per_node,
        nodes,
    )
    # Below stage 2 gradients are reduced once, while the last micro-batch is computed.
    if setting.zero_stage <= 1:
        overlap /= accumulation
    return Communication(wire, bandwidth, overlap)


def micro_batches(setting: MemorySetting, tokens: float) -> int:
    """Return the micro-batches of a rank in a step of this many tokens over all ranks."""
    per_rank = tokens / setting.sequence_length / setting.ranks
    return max(1, round(per_rank / setting.micro_batch_sequences))


def ring_bytes(
    parameters: int, width: int, zero_stage: int, devices: int, accumulation: int = 1
) -> float:
    """Return the bytes that each device sends in a step of `accumulation` micro-batches.

    In a ring of K devices a reduce-scatter and an all-gather of n bytes each send n (K - 1) / K.
    ZeRO 0 and 1: gradients are reduced, and gradients or weights gathered, once a step. ZeRO 2:
    gradients are reduced after every micro-batch. ZeRO 3: also weights are gathered for both passes
    of every micro-batch. `width`: bytes of a weight and of a gradient.
    Source: Rajbhandari et al. 2020 (ZeRO, arXiv:1910.02054), section 7.
    """
    if zero_stage <= 1:
        passes = 2
    elif zero_stage == 2:
        passes = accumulation + 1
    else:
        passes = 3 * accumulation
    return passes * parameters * width * (devices - 1) / devices


def ring_bandwidth(link: float, network: float, devices_per_node: int, nodes: int) -> float:
    """Return the bytes a second at which a ring moves through each device.

    `link`: of a device to others of its node; `network`: of a device to other nodes. A ring enters
    and leaves each node once, and as many rings as the node has devices share its network.
    """
    if nodes == 1:
        return link
    return min(link, network * devices_per_node)
