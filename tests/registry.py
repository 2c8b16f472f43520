"""The causal language models of transformers' registry, by name, with the settings without which
some cannot be built."""

from typing import Any

from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, PretrainedConfig

SETTINGS: dict[str, dict[str, Any]] = {
    # The defaults of their configs leave these at None, or describe no language model.
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128, "num_experts": 4},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 48},
    "reformer": {"is_decoder": True},
    "xmod": {"default_language": "en_XX"},
}


def names() -> list[str]:
    """Return the model types that `model.architecture` may name."""
    return sorted(
        name for name, kind in CONFIG_MAPPING.items() if kind in MODEL_FOR_CAUSAL_LM_MAPPING
    )


def config_of(name: str, **settings: Any) -> PretrainedConfig | None:
    """Return an architecture's config in its usual size, None where transformers cannot make one of
    its own defaults."""
    try:
        return CONFIG_MAPPING[name](**{**SETTINGS.get(name, {}), **settings})
    except Exception:  # whatever an architecture's own checks raise
        return None
