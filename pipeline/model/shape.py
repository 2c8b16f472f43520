"""The sizes of a model that its memory depends on, read from its config, and the logits that are
computed at once. Free of torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.model.costs import head_width

if TYPE_CHECKING:
    from transformers import PretrainedConfig


FEWEST_ROWS = 16
"""Matrix products of fewer rows waste most of a processor."""


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a model that its memory depends on."""

    parameters: int
    layers: int
    hidden: int
    heads: int
    attention: int
    """Width of all query heads together."""
    key_value: int
    """Width of all key heads together; the value heads are as wide."""
    feed_forward: int
    is_gated: bool
    """Whether the feed-forward part has a third matrix (SwiGLU)."""
    vocabulary: int
    normalises_heads: bool = False
    """Whether queries and keys are normalised per head (Qwen3)."""


def model_shape(architecture: "PretrainedConfig", parameters: int) -> ModelShape:
    """Read the shape of a model from a transformers config, by the names most architectures use."""
    hidden = architecture.hidden_size
    heads = getattr(architecture, "num_attention_heads", 0)
    head = 0
    if heads:
        head = head_width(architecture)
    return ModelShape(
        parameters=parameters,
        layers=architecture.num_hidden_layers,
        hidden=hidden,
        heads=heads,
        attention=heads * head,
        key_value=(getattr(architecture, "num_key_value_heads", None) or heads) * head,
        feed_forward=getattr(architecture, "intermediate_size", None) or 4 * hidden,
        is_gated=getattr(architecture, "hidden_act", "") in ("silu", "swish"),
        vocabulary=architecture.vocab_size,
        # Part of the architecture: no entry of the config says it.
        normalises_heads=architecture.model_type.startswith("qwen3"),
    )


def rows_at_once(rows: int, hidden: int, layers: int, vocabulary: int) -> int:
    """Return how many rows of logits to compute at once.

    Their logits take no more memory than the activations. A forward pass keeps at least one hidden
    state per layer, of two bytes an entry, as with activation checkpointing; logits are fp32:
    rows x hidden x layers x 2 = chunk x vocabulary x 4.
    """
    return min(rows, max(FEWEST_ROWS, rows * hidden * layers // (2 * vocabulary)))
