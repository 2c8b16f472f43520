"""Cost arithmetic: FLOPs of a step, peak FLOP/s of devices, model FLOPs utilisation."""

PEAK_BF16_FLOPS = {
    # Dense bf16 tensor-core FLOP/s from NVIDIA's data sheets; first matching part of the device's name counts.
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "A10": 125e12,
    "V100": 125e12,  # fp16: Volta has no bf16
}


def flops_per_token(parameters: int, layers: int, hidden: int, sequence_length: int) -> float:
    """Return training FLOPs per token, forward and backward: 6 N + 12 L d T.

    N counts every parameter that multiplies (the input embedding's look-up does not; a tied one does, as the output
    head). Source: Chowdhery et al. 2022 (PaLM), appendix B, with H Q = d; causal masking is not subtracted.
    """
    return 6.0 * parameters + 12.0 * layers * hidden * sequence_length


def peak_flops(device_name: str) -> float | None:
    """Return a device's peak dense bf16 FLOP/s, None where it is not in the table."""
    return next((peak for name, peak in PEAK_BF16_FLOPS.items() if name in device_name), None)


def model_flops_utilisation(
    tokens_per_second: float, per_token: float, devices: int, peak: float | None
) -> float | None:
    """Return the share of the devices' peak that the model's FLOPs reach, None where the peak is unknown."""
    return None if peak is None else tokens_per_second * per_token / (devices * peak)
