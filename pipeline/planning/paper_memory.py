"""ZeRO's memory as its paper counts it. DeepSpeed holds more (`engine/memory.py`)."""

WEIGHTS = 2
GRADIENTS = 2
OPTIMIZER = 12
"""Bytes a parameter: fp16 weights, fp16 gradients, and fp32 weights with Adam's two moments."""


def paper_bytes(parameters: float, zero_stage: int, devices: int) -> float:
    """Return the bytes of a model's states on each device.

    Source: Rajbhandari et al. 2020 (ZeRO, arXiv:1910.02054), figure 1.
    """
    optimizer = OPTIMIZER / devices if zero_stage >= 1 else OPTIMIZER
    gradients = GRADIENTS / devices if zero_stage >= 2 else GRADIENTS
    weights = WEIGHTS / devices if zero_stage >= 3 else WEIGHTS
    return parameters * (weights + gradients + optimizer)
