"""Initial weights and the factors of muP: every tensor's statistics, exact ratios, refusals, and
ZeRO 3's shards."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import in_ranks
from small_models import LAYERS, small_config, small_model
from transformers import AutoConfig, AutoModelForCausalLM

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.errors import ConfigError
from pipeline.model.architecture import model_config
from pipeline.model.construction import build_model, initialise
from pipeline.model.parametrisation import Scaling, scalings
from pipeline.training import preflight

MakeRun = Callable[..., Path]
MUP = ["model.mup=true", "model.mup_base_width=16"]
"""Against the width of 64 in these tests: m = 4."""
RESIDUAL = (
    "o_proj.weight",
    "down_proj.weight",
    "attention.dense.weight",
    "dense_4h_to_h.weight",
    "c_proj.weight",
)
HIDDEN = (
    *RESIDUAL,
    *("q_proj.weight", "k_proj.weight", "v_proj.weight", "gate_proj.weight", "up_proj.weight"),
    *("query_key_value.weight", "dense_h_to_4h.weight", "c_attn.weight", "c_fc.weight"),
)
FINAL_NORM = ("model.norm", "final_layer_norm", "ln_f")


def rule_by_hand(name: str, is_tied: bool, is_mup: bool) -> tuple[float, float]:
    """Return a tensor's mean and standard deviation with m = 4 and two layers, by the table in
    README.md."""
    m = 4 if is_mup else 1
    if name.endswith(".bias"):
        return 0.0, 0.0
    if "norm" in name or ".ln_" in name:
        return (1 / m if is_tied and any(part in name for part in FINAL_NORM) else 1.0), 0.0
    if name == "lm_head.weight":
        return 0.0, 0.02 / m
    deviation = 0.02
    if name.endswith(HIDDEN):
        deviation /= m**0.5
    if name.endswith(RESIDUAL):
        deviation /= (2 * LAYERS) ** 0.5
    return 0.0, deviation


@pytest.mark.parametrize("is_mup", [False, True])
@pytest.mark.parametrize("is_tied", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2", "qwen3", "gpt_neox", "gpt2"])
def test_statistics_of_every_tensor(
    run_file: Path, architecture: str, is_tied: bool, is_mup: bool
) -> None:
    config = small_config(run_file, architecture, *(MUP if is_mup else []))
    for name, value in small_model(config, 64, is_tied=is_tied).named_parameters():
        mean, deviation = rule_by_hand(name, is_tied, is_mup)
        if deviation == 0:
            assert torch.equal(value, torch.full_like(value, mean)), name
            continue
        # n normal draws: the mean has a standard error of s / sqrt(n), the deviation one of s /
        # sqrt(2 n).
        assert value.mean().item() == pytest.approx(0, abs=4 * deviation / value.numel() ** 0.5), (
            name
        )
        assert value.std().item() == pytest.approx(deviation, rel=4 / (2 * value.numel()) ** 0.5), (
            name
        )


@pytest.mark.parametrize("is_tied", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt_neox", "gpt2"])
def test_scaled_weights_are_the_unscaled_draw_times_a_factor(
    run_file: Path, architecture: str, is_tied: bool
) -> None:
    plain = small_model(
        small_config(run_file, architecture, "model.scale_residual_init=false"), 64, is_tied=is_tied
    )
    unscaled = dict(plain.named_parameters())
    for is_mup in (False, True):
        config = small_config(run_file, architecture, *(MUP if is_mup else []))
        scaled = dict(small_model(config, 64, is_tied=is_tied).named_parameters())
        assert scaled.keys() == unscaled.keys()
        for name, value in scaled.items():
            mean, deviation = rule_by_hand(name, is_tied, is_mup)
            _, before = rule_by_hand(name, is_tied, False)
            own = architecture == "gpt2" or not name.endswith(
                RESIDUAL
            )  # gpt2's unscaled draw has its own factor
            factor = deviation / (before if own else 0.02) if deviation else mean or 1.0
            assert torch.equal(value, unscaled[name] * factor), name


def test_factors_by_hand(run_file: Path) -> None:
    """m = 4: hidden matrices 1/2 and 1/4, the head 1/4 and 1/4; learning rate x decay stays as it
    was."""
    config = small_config(run_file, "llama", *MUP, "model.scale_residual_init=false")
    found = scalings(config, small_model(config, 64))
    assert found["model.embed_tokens.weight"] == Scaling(1, 1, 1)
    assert found["model.layers.0.self_attn.q_proj.weight"] == Scaling(1 / 2, 1 / 4, 4)
    assert found["model.layers.1.mlp.down_proj.weight"] == Scaling(1 / 2, 1 / 4, 4)
    assert found["model.layers.1.input_layernorm.weight"] == Scaling(1, 1, 1)
    assert found["model.norm.weight"] == Scaling(1, 1, 1)
    assert found["lm_head.weight"] == Scaling(1 / 4, 1 / 4, 4)
    with_muon = small_config(
        run_file, "llama", *MUP, "model.scale_residual_init=false", "optimizer.kind=muon"
    )
    muon = scalings(with_muon, small_model(with_muon, 64))
    assert muon["model.layers.0.self_attn.q_proj.weight"] == Scaling(1 / 2, 1 / 2, 2)
    assert muon["lm_head.weight"] == Scaling(1 / 4, 1 / 4, 4)
    tied = scalings(config, small_model(config, 64, is_tied=True))
    assert tied["model.embed_tokens.weight"] == Scaling(1, 1, 1)
    assert tied["model.norm.weight"] == Scaling(1 / 4, 1 / 4, 4)


def test_a_tied_final_norm_takes_its_bias_along(run_file: Path) -> None:
    """Logits are E (g x + b): the 1/m of the output belongs to both."""
    config = small_config(run_file, "gpt2", *MUP)
    tied = scalings(config, small_model(config, 64, is_tied=True))
    assert (
        tied["transformer.ln_f.weight"] == tied["transformer.ln_f.bias"] == Scaling(1 / 4, 1 / 4, 4)
    )
    untied = scalings(config, small_model(config, 64))
    assert untied["transformer.ln_f.weight"] == untied["transformer.ln_f.bias"] == Scaling(1, 1, 1)


def test_at_the_base_width_nothing_changes(run_file: Path) -> None:
    base = small_config(run_file, "llama", "model.mup=true", "model.mup_base_width=64")
    plain = dict(small_model(small_config(run_file, "llama"), 64).named_parameters())
    for name, value in small_model(base, 64).named_parameters():
        assert torch.equal(value, plain[name])
    assert {
        (s.learning_rate, s.weight_decay) for s in scalings(base, small_model(base, 64)).values()
    } == {(1.0, 1.0)}


@pytest.mark.parametrize(
    ("architecture", "part"),
    [("llama", "q_proj.weight"), ("qwen2", "q_proj"), ("qwen3", "q_norm.weight")],
)
def test_wider_heads_scale_the_queries(run_file: Path, architecture: str, part: str) -> None:
    """Heads of 16, of 4 at the base: sqrt(4 / 16) = 1/2 on what sets the queries' scale, and on
    nothing else."""
    same = small_config(run_file, architecture, *MUP)
    wider = small_config(run_file, architecture, *MUP, "model.mup_base_head_dim=4")
    before, after = scalings(same, small_model(same, 64)), scalings(wider, small_model(wider, 64))
    for name, scaling in after.items():
        factor = 1 / 2 if f"self_attn.{part}" in name else 1
        was = before[name]
        expected = Scaling(was.init * factor, was.learning_rate * factor, was.weight_decay / factor)
        assert scaling == expected, name


@pytest.mark.parametrize("architecture", ["gpt_neox", "gpt2"])
def test_wider_heads_in_one_matrix_are_refused(run_file: Path, architecture: str) -> None:
    config = small_config(run_file, architecture, *MUP, "model.mup_base_head_dim=8")
    with pytest.raises(
        ConfigError, match=rf"model\.mup_base_head_dim = 8: .* 16 wide, and {architecture} keeps"
    ):
        small_model(config, 64)


def test_parameters_without_a_rule_are_refused(run_file: Path) -> None:
    config = small_config(run_file, "gpt2", *MUP)
    with pytest.raises(
        ConfigError,
        match=r"model\.mup = true: no rule for transformer\.h\.0\.crossattention\.c_attn\.weight",
    ):
        small_model(config, 64, add_cross_attention=True)


@pytest.mark.ranks
def test_mup_is_refused_where_it_is_not_offered(make_run: MakeRun) -> None:
    with pytest.raises(
        ConfigError,
        match=r"model\.mup = true: offered for llama, .*, not for model\.architecture = gemma",
    ):
        preflight.check_settings(load(make_run(), ["model.architecture=gemma", *MUP]))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.mup=true"], r"model\.mup_base_width: is required with model\.mup = true"),
        (
            ["model.mup_base_width=64"],
            r"model\.mup_base_width = 64: is used with model\.mup = true only",
        ),
        (
            ["model.mup_base_head_dim=64"],
            r"model\.mup_base_head_dim = 64: is used with model\.mup = true only",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    run_file: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(run_file, overrides)


TINY: dict[str, dict[str, Any]] = {
    "opt": {"ffn_dim": 32, "word_embed_proj_dim": 16},
    "gptj": {"n_embd": 16, "n_layer": 2, "n_head": 2, "rotary_dim": 4},
    "phi": {},
    "bloom": {"n_layer": 2, "n_head": 2},
    "falcon": {},
    "gpt_neo": {"num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]]},
    "starcoder2": {},
    "mixtral": {"num_local_experts": 2},
    "mpt": {"d_model": 16, "n_heads": 2, "n_layers": 2},
    "phi3": {"pad_token_id": 0},
}


@pytest.mark.parametrize("architecture", TINY)
def test_other_architectures_have_two_scaled_projections_a_layer(
    run_file: Path, architecture: str
) -> None:
    """By measurement: what maps back to the width of the residual stream, once in attention and
    once in the MLP."""
    model, config = tiny(architecture), small_config(run_file, architecture)
    initialise(model, config, is_sharded=False)
    scaled = dict(model.named_parameters())
    plain = tiny(architecture)
    initialise(
        plain,
        small_config(run_file, architecture, "model.scale_residual_init=false"),
        is_sharded=False,
    )
    changed = [n for n, p in plain.named_parameters() if not torch.equal(p, scaled[n])]
    assert len(changed) == 2 * model.config.num_hidden_layers
    for name, value in plain.named_parameters():
        assert torch.equal(scaled[name], value * (0.5 if name in changed else 1)), name
    assert all(scaled[name].shape[-2] == 16 for name in changed)


def tiny(architecture: str) -> Any:
    usual = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    sizes = TINY.get(architecture, {})
    usual = {} if "n_embd" in sizes or "d_model" in sizes else usual
    if architecture in ("bloom", "gpt_neo"):
        usual = {"hidden_size": 16}
    config = AutoConfig.for_model(
        architecture, **{**usual, **sizes}, vocab_size=64, bos_token_id=0, eos_token_id=0
    )
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (
            "rwkv",
            r"ends the attention is known by name in 0 of the 2 layers of rwkv; "
            r"set model\.scale_residual_init to false",
        ),
        (
            "olmo2",
            r"olmo2 normalises what its layers add, whatever its scale; set model\.scale_residual_init to false",
        ),
    ],
)
def test_where_no_projection_would_be_scaled_it_is_refused(
    run_file: Path, architecture: str, message: str
) -> None:
    model = tiny(architecture)
    with pytest.raises(ConfigError, match=message):
        initialise(model, small_config(run_file, architecture), is_sharded=False)
    initialise(
        model,
        small_config(run_file, architecture, "model.scale_residual_init=false"),
        is_sharded=False,
    )


def test_a_wide_model_is_exported_as_it_is(run_file: Path, tmp_path: Path) -> None:
    """Nothing to fold: what is saved gives the logits that were trained, in transformers alone."""
    model = small_model(
        small_config(run_file, "qwen3", *MUP, "model.mup_base_head_dim=4"), 64, is_tied=True
    )
    model.save_pretrained(tmp_path / "export")
    ids = torch.arange(32)[None]
    with torch.no_grad():
        again = AutoModelForCausalLM.from_pretrained(tmp_path / "export")(input_ids=ids).logits
        assert torch.equal(again, model(input_ids=ids).logits)


SHARDED = ["llama", "gpt2"]
SIZES = {
    "llama": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "tie_word_embeddings": True,
    },
    "gpt2": {
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 2,
        "n_positions": 64,
        "tie_word_embeddings": False,
    },
}


def variant(config: RunConfig, architecture: str, dtype: str) -> RunConfig:
    model = config.model.model_copy(
        update={"architecture": architecture, "config": SIZES[architecture]}
    )
    return config.model_copy(
        update={"model": model, "precision": config.precision.model_copy(update={"dtype": dtype})}
    )


def digests(named: Any) -> dict[str, str]:
    return {
        n: hashlib.sha256(p.detach().float().contiguous().numpy().tobytes()).hexdigest()
        for n, p in named
    }


def sharded_weights(config: RunConfig) -> dict[str, Any]:
    """Return the digests of weights that were built in shards; runs on a rank."""
    import deepspeed

    from pipeline.engine.deepspeed_config import read_template, resolve_template
    from pipeline.engine.groups import join_process_groups
    from pipeline.store.rank_environment import groups_of_this_process

    groups = groups_of_this_process()
    join_process_groups(groups)
    found: dict[str, Any] = {}
    for architecture in SHARDED:
        for dtype in ("fp32", "bf16"):
            one = variant(config, architecture, dtype)
            model = build_model(
                one,
                model_config(one),
                sharding=resolve_template(read_template(one.deepspeed), one, groups.sizes),
            )
            assert all(hasattr(p, "ds_tensor") for p in model.parameters())
            with deepspeed.zero.GatheredParameters(list(model.parameters())):
                found[f"{architecture} {dtype}"] = digests(model.named_parameters())
    return found


@pytest.mark.ranks
def test_shards_of_zero_3_are_the_plain_weights(make_run: MakeRun) -> None:
    """To the last bit, on two ranks; in bf16 the plain ones rounded."""
    run_file, overrides = make_run(zero="zero3"), ["model.mup=true", "model.mup_base_width=16"]
    found = in_ranks(run_file, 2, sharded_weights, overrides)
    for architecture in SHARDED:
        config = variant(load(run_file, overrides), architecture, "fp32")
        model = AutoModelForCausalLM.from_config(model_config(config), dtype=torch.float32)
        initialise(model, config, is_sharded=False)
        assert found[f"{architecture} fp32"] == digests(model.named_parameters())
        assert found[f"{architecture} bf16"] == digests(model.bfloat16().named_parameters())
