"""Models of any width with initial weights as a run would give them, without a tokenized corpus."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.model.construction import initialise

VOCABULARY = 256
LAYERS = 2


def small_config(run_file: Path, architecture: str, *overrides: str) -> RunConfig:
    return load(
        run_file, [f"model.architecture={architecture}", "optimizer.kind=adamw", *overrides]
    )


def small_model(
    config: RunConfig, width: int, head_dim: int = 16, is_tied: bool = False, **settings: object
) -> PreTrainedModel:
    """Return a model of two layers whose MLP is three times as wide as itself, and its initial
    weights."""
    architecture, heads = config.model.architecture, width // head_dim
    sizes: dict[str, object] = {
        "hidden_size": width, "intermediate_size": 3 * width, "num_hidden_layers": LAYERS, "num_attention_heads": heads,
        "num_key_value_heads": heads, "head_dim": head_dim, "max_position_embeddings": 64,
    }  # fmt: skip
    if architecture in ("gpt_neox", "mistral", "qwen2"):
        sizes = {key: value for key, value in sizes.items() if key != "head_dim"}
    if architecture == "gpt2":
        sizes = {
            "n_embd": width,
            "n_inner": 3 * width,
            "n_layer": LAYERS,
            "n_head": heads,
            "n_positions": 64,
        }
        sizes |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    ids = {
        "vocab_size": VOCABULARY,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "tie_word_embeddings": is_tied,
    }
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(architecture, **{**sizes, **ids, **settings}), dtype=torch.float32
    )
    initialise(model, config, is_sharded=False)
    return model
