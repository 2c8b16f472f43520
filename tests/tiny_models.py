"""Every causal language model of transformers' registry that can be built in a few thousand
parameters."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

VOCABULARY = 64
WIDTHS = ("hidden_size", "n_embd", "d_model")
SIZES: dict[str, Any] = {
    **dict.fromkeys(WIDTHS, 64),
    "intermediate_size": 48, "n_inner": 48, "ffn_dim": 48, "num_hidden_layers": 2, "n_layer": 2, "num_layers": 2,
    "num_attention_heads": 4, "n_head": 4, "num_key_value_heads": 2, "head_dim": 16, "attention_hidden_size": 64,
    "max_position_embeddings": 64, "n_positions": 64, "vocab_size": VOCABULARY, "state_size": 8, "mamba_d_state": 8,
    "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "num_experts": 4, "num_local_experts": 4,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
    "bos_token_id": 0, "eos_token_id": 0,
    "pad_token_id": None,
}  # fmt: skip
MOST_PARAMETERS = 3_000_000


def tiny_config(
    name: str, changes: Mapping[str, Any], scaling: Mapping[str, Any]
) -> PretrainedConfig:
    """Return a small config with rotary settings that are nobody's default; raises what the
    architecture raises."""
    kind = CONFIG_MAPPING[name]
    known = kind().to_dict()
    settings = {
        key: value for key, value in SIZES.items() if key in known or key in kind.attribute_map
    }
    settings = {
        key: value for key, value in settings.items() if kind.attribute_map.get(key, key) == key
    }
    if known.get("layer_types"):
        types = list(dict.fromkeys(known["layer_types"]))
        settings["layer_types"] = (types * 2)[:2]
    settings |= {key: value for key, value in changes.items() if key in known}
    config = kind(**settings)
    rotary = getattr(config, "rope_parameters", None) or {}
    for number, part in enumerate(_parts(rotary)):
        part["rope_theta"] = 500.0 + 70 * number
        if "partial_rotary_factor" in part:
            part["partial_rotary_factor"] = 0.75 if part["partial_rotary_factor"] == 0.5 else 0.5
    if "rope_theta" in rotary:
        rotary.update(scaling)
    return config


def _parts(rotary: dict[str, Any]) -> list[dict[str, Any]]:
    if "rope_theta" in rotary:
        return [rotary]
    return [part for part in rotary.values() if isinstance(part, dict)]


def tiny_model(config: PretrainedConfig) -> PreTrainedModel | None:
    """Build the model with weights that make every part matter; None where it is large or does not
    run."""
    try:
        with torch.device("meta"):
            shapes = AutoModelForCausalLM.from_config(config)
        if sum(parameter.numel() for parameter in shapes.parameters()) > MOST_PARAMETERS:
            return None
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.15)
        with torch.no_grad():
            model(input_ids=probe_ids(), use_cache=False)
    except Exception:  # an architecture that is no plain language model, or needs a library
        return None
    return model


def probe_ids() -> torch.Tensor:
    """Return `(2, 40) int64` token ids."""
    return torch.randint(1, VOCABULARY, (2, 40), generator=torch.Generator().manual_seed(1))
