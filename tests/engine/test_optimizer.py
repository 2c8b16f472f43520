"""Who updates which parameter, how fast and with how much decay."""

from pathlib import Path
from typing import Any

import pytest
from small_models import small_config, small_model
from transformers import CONFIG_MAPPING

from pipeline.config.run_file import load
from pipeline.engine.optimizers.parameter_groups import parameter_groups
from pipeline.model.language_model import LanguageModel
from pipeline.model.sizes import build_on_meta
from pipeline.model.small_copy import small_copy

EMBEDDING, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
MATRIX = "model.layers.0.mlp.up_proj.weight"


def treated(run_file: Path, is_tied: bool, *overrides: str) -> dict[str, tuple[str, float, float]]:
    """Return kind, decay and factor of the learning rate by parameter of a small llama."""
    config = small_config(run_file, "llama", *overrides)
    model = small_model(config, 64, is_tied=is_tied)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(config, LanguageModel(model))
    found = {
        names[id(p)]: (g["kind"], g["weight_decay"], g["lr_scale"])
        for g in groups
        for p in g["params"]
    }
    assert found.keys() == set(names.values())
    assert len(
        {tuple(value for key, value in g.items() if key != "params") for g in groups}
    ) == len(groups)
    return found


@pytest.mark.parametrize("is_tied", [False, True])
def test_muon_takes_the_matrices_between_embeddings_and_head(run_file: Path, is_tied: bool) -> None:
    found = treated(run_file, is_tied, "optimizer.kind=muon")
    assert found[EMBEDDING] == ("adamw", 0.1, 1.0)
    assert found[NORM] == ("adamw", 0.0, 1.0)
    assert found[MATRIX] == ("muon", 0.1, 1.0)
    assert is_tied or found[HEAD] == ("adamw", 0.1, 1.0)
    assert (
        sum(kind == "muon" for kind, _, _ in found.values()) == 2 * 7
    )  # of each layer: q k v o gate up down


def test_adamw_takes_all_and_vectors_do_not_decay(run_file: Path) -> None:
    found = treated(run_file, False, "optimizer.kind=adamw", "optimizer.weight_decay=0.3")
    assert {kind for kind, _, _ in found.values()} == {"adamw"}
    assert (found[MATRIX], found[EMBEDDING], found[NORM]) == (("adamw", 0.3, 1.0),) * 2 + (
        ("adamw", 0.0, 1.0),
    )


def test_mup_has_rates_and_decays_of_its_own(run_file: Path) -> None:
    """Four times as wide as the base: AdamW's hidden matrices at a quarter of the rate, Muon's at
    half."""
    mup = ["model.mup=true", "model.mup_base_width=16"]
    found = treated(run_file, False, *mup)
    assert (found[MATRIX], found[EMBEDDING], found[HEAD]) == (
        ("adamw", pytest.approx(0.4), 0.25),
        ("adamw", pytest.approx(0.1), 1.0),
        ("adamw", pytest.approx(0.4), 0.25),
    )
    assert treated(run_file, False, *mup, "optimizer.kind=muon")[MATRIX] == (
        "muon",
        pytest.approx(0.2),
        0.5,
    )


def groups_of(run_file: Path, architecture: str, **settings: Any) -> dict[str, tuple[str, bool]]:
    """Return kind and whether it decays, by parameter, of a small model of any architecture under
    Muon."""
    overrides = [
        f"model.architecture={architecture}",
        "model.config={}",
        "model.scale_residual_init=false",
    ]
    config = load(run_file, [*overrides, "optimizer.kind=muon"])
    model = build_on_meta(small_copy(CONFIG_MAPPING[architecture](**settings)))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(config, LanguageModel(model))
    return {names[id(p)]: (g["kind"], g["weight_decay"] > 0) for g in groups for p in g["params"]}


@pytest.mark.parametrize(
    ("architecture", "settings", "wanted"),
    [
        (
            "gpt2",
            {},
            {
                "transformer.h.0.attn.c_attn.weight": ("muon", True),
                "transformer.wpe.weight": ("adamw", True),
            },
        ),
        (
            "mamba",
            {},
            {
                "backbone.layers.0.mixer.in_proj.weight": ("muon", True),
                "backbone.layers.0.mixer.A_log": (
                    "adamw",
                    False,
                ),  # (channels, states): rates of decay
                "backbone.layers.0.mixer.conv1d.weight": ("adamw", True),
            },
        ),
        (
            "cohere",
            {"use_qk_norm": True},
            {"model.layers.0.self_attn.q_norm.weight": ("adamw", False)},
        ),  # (heads, width)
        ("rwkv", {}, {"rwkv.blocks.0.attention.time_mix_key": ("adamw", False)}),  # (1, 1, width)
        (
            "recurrent_gemma",
            {},
            {
                "model.layers.0.temporal_block.rg_lru.input_gate_bias": (
                    "adamw",
                    False,
                ),  # (heads, width)
                "model.layers.0.temporal_block.rg_lru.input_gate_weight": (
                    "adamw",
                    True,
                ),  # (heads, width, width)
            },
        ),
    ],
)
def test_two_dimensions_do_not_make_a_hidden_matrix(
    run_file: Path, architecture: str, settings: dict[str, Any], wanted: dict[str, tuple[str, bool]]
) -> None:
    found = groups_of(run_file, architecture, **settings)
    assert {name: found[name] for name in wanted} == wanted


def test_heads_and_routers_are_no_hidden_matrices(run_file: Path) -> None:
    for architecture, head in (("gpt_neox", "lm_head.weight"), ("llama", "lm_head.weight")):
        assert groups_of(run_file, architecture)[head] == ("adamw", True)
    found = groups_of(run_file, "mixtral")
    of_experts = [kind for name, (kind, _) in found.items() if ".mlp." in name]
    assert set(of_experts) == {"adamw"}
