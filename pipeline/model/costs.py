"""Cost arithmetic: FLOPs of a token, utilisation. Free of torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.config.hardware import device_peak_flops

if TYPE_CHECKING:
    from transformers import PretrainedConfig

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
    """The sizes that decide a model's FLOPs."""

    parameters: int
    """N: the parameters that take part in matrix products.

    The input embedding does not, since it is looked up; a tied one does, as the output head.
    """
    head_parameters: int
    """N_head: the parameters of the output head, which N includes."""
    layers: int
    """L: layers of the model."""
    attention_width: int
    """d: attention heads x the width of a head; 0 without attention."""

    def flops_per_token(self, sequence_length: int) -> float:
        """Return training FLOPs per token, forward and backward: 6 N + 6 L d T.

        Source: Chowdhery et al. 2022 (PaLM), appendix B, but for half of its attention, 12 L d T:
        under a causal mask a token attends to half of the others on average, and kernels skip the
        rest.
        """
        return 6.0 * self.parameters + 6.0 * self.layers * self.attention_width * sequence_length

    def recomputing_flops_per_token(self, sequence_length: int) -> float:
        """Return FLOPs per token with activation checkpointing: the layers go forward twice."""
        layers_forward = 2.0 * (self.parameters - self.head_parameters)
        attention_forward = 2.0 * self.layers * self.attention_width * sequence_length
        return self.flops_per_token(sequence_length) + layers_forward + attention_forward


def head_width(architecture: "PretrainedConfig") -> int:
    """Return the width of an attention head: `head_dim`, or else the model's width / heads."""
    named = getattr(architecture, "head_dim", None)
    return named or architecture.hidden_size // architecture.num_attention_heads


def counted_peak(device_name: str, is_mixture: bool) -> float | None:
    """Return the peak FLOP/s for utilisation; None where utilisation is not counted.

    A mixture of experts has none: a token goes through some of the parameters, and `ModelSize`
    counts them all.
    """
    if is_mixture:
        return None
    return device_peak_flops(device_name)


def flops_utilisation(
    tokens_per_second: float, per_token: float, devices: int, peak: float | None
) -> float | None:
    """Return the share of the devices' peak FLOP/s that is used; None where the peak is unknown.

    `per_token` is FLOPs per token, `peak` FLOP/s of one device.
    """
    if peak is None:
        return None
    return tokens_per_second * per_token / (devices * peak)
