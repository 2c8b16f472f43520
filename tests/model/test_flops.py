"""Model FLOPs against torch's own count, to the FLOP, for a few layers of every preset."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import CONFIG_MAPPING

from pipeline.config.run_file import read_preset
from pipeline.config.shipped_files import PRESETS, shipped_files
from pipeline.model.sizes import build_on_meta, count_built_parameters, model_size

TOKENS = 2048
VOCABULARY = 50_304
LAYERS = 4
"""Layers that are counted of a preset: all of them are alike."""


@pytest.mark.parametrize("name", shipped_files(PRESETS))
def test_torch_counts_the_same_flops(name: str) -> None:
    """Eager attention multiplies whole squares, so torch counts all of 12 L d T; norms and biases
    multiply no matrix."""
    model = read_preset(name)["model"]
    settings = {"vocab_size": VOCABULARY, **model["config"], "use_cache": False}
    settings["num_hidden_layers"] = LAYERS
    config = CONFIG_MAPPING[model["architecture"]](**settings)
    assert config.num_hidden_layers == LAYERS
    config._attn_implementation = "eager"
    built = build_on_meta(config)
    sizes = count_built_parameters(built)
    size = model_size(config, sizes)
    with FlopCounterMode(display=False) as counter:
        ids = torch.zeros(1, TOKENS, dtype=torch.int64, device="meta")
        mask = torch.zeros(1, 1, TOKENS, TOKENS, device="meta")
        built(input_ids=ids, position_ids=ids, attention_mask=mask).logits.sum().backward()
    attention = 12 * size.layers * size.attention_width * TOKENS
    weights = 6 * (sizes.multiplying - sizes.one_dimensional)
    assert counter.get_total_flops() == TOKENS * (weights + attention)


def test_a_125m_model_by_hand() -> None:
    """19,200 weights of norms: 12 layers with two and the last one, of 768."""
    model = read_preset("gpt3-125m")["model"]
    config = CONFIG_MAPPING[model["architecture"]](vocab_size=VOCABULARY, **model["config"])
    sizes = count_built_parameters(build_on_meta(config))
    size = model_size(config, sizes)
    assert sizes.one_dimensional == 25 * 768 == 19_200
    with_all_attention = 6 * size.parameters + 12 * 12 * 768 * TOKENS
    assert with_all_attention == 968_016_384
    assert with_all_attention - 6 * 19_200 == 967_901_184
