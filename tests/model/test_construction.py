"""Models from their config: refusals, counts, and weights that depend on seed and name alone."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils.import_utils import is_flash_attn_2_available

from pipeline.config.run_file import load
from pipeline.errors import ConfigError
from pipeline.model.architecture import model_config
from pipeline.model.construction import build_model, initialise
from pipeline.model.sizes import count_parameters

MakeRun = Callable[..., Path]


@pytest.mark.ranks
def test_a_vocabulary_is_derived_and_rounded_up(make_run: MakeRun) -> None:
    config = model_config(load(make_run()))
    assert config.vocab_size == 384  # 300 ids, up to a multiple of 128
    assert config.bos_token_id == config.eos_token_id == 0


@pytest.mark.ranks
def test_parameters_by_hand(make_run: MakeRun) -> None:
    embedding, attention, mlp, norms = 384 * 32, 4 * 32 * 32, 3 * 32 * 64, 2 * 32
    assert (
        count_parameters(model_config(load(make_run()))).total
        == embedding + 2 * (attention + mlp + norms) + 32
    )


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "model.architecture=lama",
            r"model\.architecture = 'lama': transformers has no such model type",
        ),
        ("model.config.hidden_sise=8", r"model\.config\.hidden_sise: .*did you mean hidden_size"),
        (
            "model.config.vocab_size=299",
            r"model\.config\.vocab_size = 299: the tokenizer has 300 ids",
        ),
        (
            "model.config.max_position_embeddings=16",
            "must be at least data.sequence_length = 32; raise it",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make_run: MakeRun, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model_config(load(make_run(), [override]))


def weights(make_run: MakeRun, seed: int, *overrides: str) -> dict[str, torch.Tensor]:
    config = load(make_run(), [f"train.seed={seed}", *overrides])
    model = AutoModelForCausalLM.from_config(model_config(config), dtype=torch.float32)
    initialise(model, config, is_sharded=False)
    return dict(model.state_dict())


@pytest.mark.ranks
def test_weights_depend_on_seed_and_module_name_alone(make_run: MakeRun) -> None:
    one, again, other = weights(make_run, 1), weights(make_run, 1), weights(make_run, 2)
    unscaled = "model.scale_residual_init=false"  # which goes by the depth
    plain, deeper = (
        weights(make_run, 1, unscaled),
        weights(make_run, 1, unscaled, "model.config.num_hidden_layers=3"),
    )
    for name, value in one.items():
        assert torch.equal(value, again[name])
        assert torch.equal(plain[name], deeper[name]), (
            f"{name} must not depend on the modules around it"
        )
        is_drawn = not name.endswith("norm.weight")
        assert torch.equal(value, other[name]) is not is_drawn


@pytest.mark.ranks
def test_statistics_are_the_architectures_own(make_run: MakeRun) -> None:
    """Matrices have standard deviation 0.02 (transformers' initializer_range), those that write
    into the residual stream 0.02 / sqrt(2 layers) = 0.01, norms are 1."""
    for name, value in weights(make_run, 1).items():
        if name.endswith("norm.weight"):
            assert torch.equal(value, torch.ones_like(value)), name
        else:
            # The sample deviation of n normal draws has a relative standard error of 1 / sqrt(2 n).
            deviation = 0.01 if name.endswith(("o_proj.weight", "down_proj.weight")) else 0.02
            assert value.std().item() == pytest.approx(
                deviation, rel=4 / (2 * value.numel()) ** 0.5
            ), name


@pytest.mark.ranks
def test_other_architectures_are_built_the_same_way(make_run: MakeRun) -> None:
    text = make_run().read_text()
    path = make_run()
    start, end = text.index("model:"), text.index("data: {seq")
    path.write_text(
        text[:start]
        + "model: {architecture: gpt2, config: {n_embd: 32, n_layer: 1, n_head: 2, n_positions: 32}}\n"
        + text[end:]
    )
    run = load(path)
    config = model_config(run)
    assert count_parameters(config).total == 384 * 32 + 32 * 32 + (12 * 32 * 32 + 13 * 32) + 2 * 32
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    initialise(model, run, is_sharded=False)
    state = model.state_dict()
    # GPT-2's own rule for what writes into the residual stream, not scaled twice: 0.02 / sqrt(2
    # layers), here of one layer.
    for name in ("attn.c_proj", "mlp.c_proj"):
        weight = state[f"transformer.h.0.{name}.weight"]
        assert weight.std().item() == pytest.approx(
            0.02 / 2**0.5, rel=4 / (2 * weight.numel()) ** 0.5
        ), name
    assert state["transformer.h.0.mlp.c_fc.weight"].std().item() == pytest.approx(0.02, rel=0.05)


def built(make_run: MakeRun, attention: str) -> PreTrainedModel:
    config = load(make_run(), [f"model.config.attn_implementation={attention}"])
    return build_model(config, model_config(config))


@pytest.mark.ranks
def test_how_attention_runs_is_chosen_and_not_exported(make_run: MakeRun) -> None:
    assert built(make_run, "eager").config._attn_implementation == "eager"
    assert built(make_run, "sdpa").config._attn_implementation == "sdpa"
    config = model_config(load(make_run(), ["model.config.attn_implementation=eager"]))
    assert config.to_dict() == model_config(load(make_run())).to_dict()


@pytest.mark.ranks
@pytest.mark.parametrize("attention", ["flash_attention_9", "flash_attention_2"])
def test_attention_that_cannot_run_is_refused(make_run: MakeRun, attention: str) -> None:
    """There is no such implementation; the library is not installed where there is no GPU."""
    if attention == "flash_attention_2" and is_flash_attn_2_available():
        pytest.skip("flash-attention is installed, so that flash_attention_2 can run here")
    with pytest.raises(
        ConfigError, match=rf"model\.config\.attn_implementation = '{attention}': .*leave it out"
    ):
        built(make_run, attention)


def test_the_padding_id_of_a_config_is_an_id_of_the_text_like_any_other(run_file: Path) -> None:
    """By default gemma pads with id 0: torch leaves that row at zero and gives it no gradient. No
    row here is padded."""
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    sizes |= {"num_key_value_heads": 2, "head_dim": 8}
    architecture = AutoConfig.for_model("gemma", vocab_size=8, tie_word_embeddings=False, **sizes)
    assert architecture.pad_token_id == 0
    config = load(run_file, ["model.architecture=gemma", f"model.config={sizes}"])
    model = build_model(config, architecture)
    rows = model.get_input_embeddings().weight
    assert (rows.abs().sum(1) > 0).all()
    ids = torch.arange(8)[None]
    model(input_ids=ids, labels=ids).loss.backward()
    assert rows.grad is not None
    assert (rows.grad.abs().sum(1) > 0).tolist() == [True] * 7 + [False], (
        "the last one predicts nothing"
    )
