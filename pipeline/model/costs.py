"""Cost arithmetic: FLOPs of a step, peak FLOP/s of devices, model FLOPs utilisation."""

from dataclasses import dataclass
from typing import Any

PEAK_BF16_FLOPS = {
    # Dense bf16 tensor-core FLOP/s from NVIDIA's data sheets; first matching part of the device's
    # name counts.
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "A10": 125e12,
    "V100": 125e12,  # fp16: Volta has no bf16
}

MFU_FORMULA = (
    "(6 N + 6 L d T) FLOPs a token / peak bf16: causal attention; N without the look-up of "
    "embeddings"
)
HFU_FORMULA = (
    "(6 N + 6 L d T + 2 (N - N_head) + 2 L d T) FLOPs a token / peak bf16: the layers computed "
    "once more"
)


@dataclass(frozen=True)
class ModelSize:
    """What decides a model's FLOPs."""

    parameters: int
    """N: those that multiply. The input embedding's look-up does not; a tied one does, as the
    output head."""
    head_parameters: int
    """Those of the output head, which are among them."""
    layers: int
    """L."""
    attention_width: int
    """d: attention heads x their width; 0 without attention."""

    def flops_per_token(self, sequence_length: int) -> float:
        """Return training FLOPs per token, forward and backward: 6 N + 6 L d T.

        Source: Chowdhery et al. 2022 (PaLM), appendix B, but for half of its attention, 12 L d T:
        under a causal mask a token attends to half of the others on average, and kernels skip the
        rest.
        """
        return 6.0 * self.parameters + 6.0 * self.layers * self.attention_width * sequence_length

    def recomputing_flops_per_token(self, sequence_length: int) -> float:
        """Return the FLOPs per token that the device does where the layers' forward pass is done
        twice."""
        layers_forward = 2.0 * (self.parameters - self.head_parameters)
        attention_forward = 2.0 * self.layers * self.attention_width * sequence_length
        return self.flops_per_token(sequence_length) + layers_forward + attention_forward


def head_width(architecture: Any) -> int:
    """Return the width of an attention head of a transformers config: some (Qwen3) name one that is
    not width / heads."""
    return (
        getattr(architecture, "head_dim", None)
        or architecture.hidden_size // architecture.num_attention_heads
    )


def peak_flops(device_name: str) -> float | None:
    """Return a device's peak dense bf16 FLOP/s, None where it is not in the table."""
    return next((peak for name, peak in PEAK_BF16_FLOPS.items() if name in device_name), None)


def counted_peak(device_name: str, is_mixture: bool) -> float | None:
    """Return the peak that utilisation is counted by, None where it has none.

    A mixture of experts has none: a token goes through some of its parameters, and `ModelSize`
    counts them all.
    """
    return None if is_mixture else peak_flops(device_name)


def flops_utilisation(
    tokens_per_second: float, per_token: float, devices: int, peak: float | None
) -> float | None:
    """Return the share of the devices' peak that so many FLOPs per token make, None where the peak
    is unknown."""
    return None if peak is None else tokens_per_second * per_token / (devices * peak)
