"""What is wrong with a run file's model is found before there are data or a tokenizer, and asked
for once."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from facts_by_hand import facts_of_no_model
from pydantic import TypeAdapter
from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load, read_preset
from pipeline.config.shipped_files import PRESETS
from pipeline.errors import ConfigError
from pipeline.model import model_facts as facts_of_model
from pipeline.model.architecture import model_config
from pipeline.model.costs import ModelSize
from pipeline.model.model_check import check_model_settings
from pipeline.model.model_facts import ModelFacts, facts_of_models, model_facts
from pipeline.model.model_rules import architecture_problems, head_problems, setting_problems
from pipeline.model.shape import ModelShape
from pipeline.work import separate_checks

GPT2 = "model={architecture: gpt2, config: {n_embd: 16, n_layer: 1, n_head: %s, n_positions: %s}}"
QWEN3 = (
    "model={architecture: qwen3, config: {hidden_size: 16, intermediate_size: 32, "
    "num_hidden_layers: 1, %s}}"
)


@pytest.fixture(autouse=True)
def as_loud_as_before() -> object:
    level = logging.get_verbosity()
    yield
    logging.set_verbosity(level)


def test_a_right_model_tells_its_sizes(run_file: Path) -> None:
    # 384 rows of 16 twice, one layer of 4 x 16 x 16, 3 x 16 x 32 and two norms, a last norm.
    layer = 4 * 16 * 16 + 3 * 16 * 32
    parameters = 2 * 384 * 16 + layer + 2 * 16 + 16
    assert facts_of(run_file, "optimizer.kind=adamw") == ModelFacts(
        parameters=parameters,
        embedding_parameters=2 * 384 * 16,
        one_dimensional_parameters=3 * 16,
        active_parameters=384 * 16 + layer + 3 * 16,
        is_mixture=False,
        size=ModelSize(384 * 16 + layer + 3 * 16, 384 * 16, layers=1, attention_width=16),
        shape=ModelShape(parameters, 1, 16, 2, 16, 16, 32, True, 384),
        moment_bytes=8.0,
        positions=2048,
    )
    assert facts_of(run_file, GPT2 % (2, 8)).positions == 8


def facts_of(run_file: Path, *overrides: str) -> ModelFacts:
    """Check a model in this process."""
    facts = check_model_settings(load(run_file, overrides))
    return TypeAdapter(ModelFacts).validate_python(facts)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("model.config.hiden_size=8", r"model\.config\.hiden_size: .*did you mean hidden_size"),
        ("model.architecture=lama", r"model\.architecture = 'lama': .*llama"),
        ("model.architecture=t5", r"model\.architecture = 't5': is not a causal language model"),
        (
            "model.config.max_position_embeddings=7",
            r"max_position_embeddings = 7: .*data\.sequence_length = 8",
        ),
        (
            "model.config.num_attention_heads=3",
            r"num_attention_heads = 3: .*hidden_size = 16; set 2 or 4",
        ),
        (
            "model.config.num_key_value_heads=3",
            r"num_key_value_heads = 3: .*num_attention_heads = 2",
        ),
        (GPT2 % (3, 8), r"model\.config\.n_head = 3: .*model\.config\.n_embd = 16; set 2 or 4"),
        (GPT2 % (2, 4), "positions.* = 4: .*data.sequence_length = 8"),
        # The architecture's own 32 key heads, of which the run file says nothing.
        (
            QWEN3 % "num_attention_heads: 2",
            r"num_key_value_heads = 32: must divide .*num_attention_heads = 2",
        ),
        (
            QWEN3 % "num_attention_heads: 2, num_key_value_heads: 2, head_dim: 15",
            r"model\.config: qwen3 refuses it",
        ),
        ("model.config.num_attention_heads=0", r"num_attention_heads = 0: must be at least 1"),
        ("model.config.hidden_size=wide", r"model\.config: llama refuses it: .*hidden_size"),
        (
            "model.config.hidden_act=silo",
            r"model\.config: transformers cannot build this llama \(KeyError: 'silo'\)",
        ),
        ("model.config.attn_implementation=flash", r"attn_implementation = 'flash': .*sdpa"),
        ("model.config.vocab_size=269", r"vocab_size = 269: the tokenizer has 270 ids"),
        ("model.architecture=olmo2", r"model\.scale_residual_init = true: olmo2"),
    ],
)
def test_a_wrong_model_is_refused_by_the_settings_name(
    run_file: Path, override: str, named: str
) -> None:
    assert not (run_file.parent / "data").exists()
    with pytest.raises(ConfigError, match=named):
        check_model_settings(load(run_file, [override]))


def test_heads_of_a_width_of_their_own_need_not_divide_the_models(run_file: Path) -> None:
    settings = (
        "num_attention_heads: 3, num_key_value_heads: 3, head_dim: 8, tie_word_embeddings: true"
    )
    facts = facts_of(run_file, QWEN3 % settings)
    # 3 heads of 8: queries, keys, values and output of 16 x 24, norms of queries and keys of 8.
    assert facts.parameters == 384 * 16 + 4 * 16 * 24 + 2 * 8 + 3 * 16 * 32 + 3 * 16


def test_every_shipped_preset_is_a_model_with_its_rotary_settings() -> None:
    """Ranks took `rope_theta` and `rotary_pct`, older names that transformers acts on, for misspelt
    ones."""
    presets = {path.stem: read_preset(path.stem)["model"] for path in PRESETS.glob("*.yaml")}
    problems = {
        name: [
            *architecture_problems(model["architecture"]),
            *setting_problems(model["architecture"], model["config"]),
        ]
        for name, model in presets.items()
    }
    assert problems == {name: [] for name in presets}
    assert setting_problems("llama", {"rope_theta": 10_000.0}) == [], "the default, too"
    (problem,) = setting_problems("gpt_neox", {"rope_theta": 5e5})
    assert problem.startswith("model.config.rope_theta: gpt_neox has no such setting"), (
        "it would change nothing"
    )


@pytest.mark.full
def test_the_settings_of_no_architecture_as_it_is_are_refused() -> None:
    causal = {
        name: CONFIG_MAPPING[name]
        for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        if name in CONFIG_MAPPING
    }
    assert {name: head_problems(kind, {}) for name, kind in causal.items()} == {
        name: [] for name in causal
    }
    assert [name for name in causal if architecture_problems(name)] == []


def test_a_rotary_base_arrives_in_the_model(run_file: Path) -> None:
    config = load(run_file, ["model.config.rope_theta=500000.0"])
    assert model_config(config, (270, 0)).rope_parameters["rope_theta"] == 5e5


def test_a_verdict_is_kept_until_something_that_decides_it_changes(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ask(module: str, configs: Sequence[RunConfig]) -> list[dict[str, object]]:
        verdicts: list[dict[str, object]] = []
        for config in configs:
            asked.append(config.model.config["hidden_size"])
            problems = ["model.config.hidden_size = 17: is odd"] if asked[-1] == 17 else []
            verdicts.append({"problems": problems, "facts": facts_of_no_model(asked[-1])})
        return verdicts

    monkeypatch.setattr(separate_checks, "_ask", ask)
    for _ in range(2):
        assert model_facts(load(run_file)).parameters == 16
    assert (
        model_facts(load(run_file, ["train.seed=7", "optimizer.peak_learning_rate=1"])).parameters
        == 16
    )
    assert asked == [16]
    assert model_facts(load(run_file, ["model.config.hidden_size=18"])).parameters == 18
    model_facts(load(run_file, ["data.sequence_length=4"]))
    model_facts(load(run_file, ["tokenizer.vocab_size=300"]))
    assert asked == [16, 18, 16, 16]
    for _ in range(
        2
    ):  # what is refused is asked again by the next command: a library may have been installed since
        monkeypatch.setattr(separate_checks, "_answered", {})
        for _ in range(2):  # and once by this one
            with pytest.raises(ConfigError, match="is odd"):
                model_facts(load(run_file, ["model.config.hidden_size=17"]))
    assert asked[4:] == [17, 17]
    monkeypatch.setattr(facts_of_model, "VERSION", 0)
    model_facts(load(run_file))
    assert asked[6:] == [16]


def test_one_process_answers_for_several_models(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[int]] = []

    def ask(module: str, configs: Sequence[RunConfig]) -> list[dict[str, object]]:
        asked.append([config.model.config["hidden_size"] for config in configs])
        return [{"problems": [], "facts": facts_of_no_model(width)} for width in asked[-1]]

    monkeypatch.setattr(separate_checks, "_ask", ask)
    configs = [load(run_file, [f"model.config.hidden_size={width}"]) for width in (16, 18, 16)]
    assert [facts.parameters for facts in facts_of_models(configs, "models")] == [16, 18, 16]
    configs.append(load(run_file, ["model.config.hidden_size=20"]))
    assert [facts.parameters for facts in facts_of_models(configs, "models")] == [16, 18, 16, 20]
    assert asked == [[16, 18], [20]], "each model once"


def test_a_folder_that_cannot_be_written_keeps_nothing_and_refuses_nothing(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ask(module: str, configs: Sequence[RunConfig]) -> list[dict[str, object]]:
        asked.append(module)
        return [{"problems": [], "facts": facts_of_no_model()} for _ in configs]

    monkeypatch.setattr(separate_checks, "_ask", ask)
    kept = run_file.parent / "data" / ".checked"
    kept.parent.mkdir()
    kept.write_text("a file where the folder would be")
    for _ in range(2):
        assert model_facts(load(run_file)).parameters == 1
    assert len(asked) == 1, "one command asks once"
    kept.unlink()
    model_facts(load(run_file))
    (verdict,) = kept.iterdir()
    for damaged in (
        "{torn",
        "[]",
        "null",
        "{}",
        '{"parameters": "many", "moment_bytes": 8.0, "positions": null}',
    ):
        verdict.write_text(damaged)
        assert model_facts(load(run_file)).parameters == 1
        assert json.loads(verdict.read_text())["parameters"] == 1


@pytest.mark.ranks
def test_a_check_that_ends_without_a_verdict_is_a_bug_and_says_where(run_file: Path) -> None:
    with pytest.raises(separate_checks.CheckCrashed, match="No module named") as crashed:
        separate_checks.run_separate_check(
            "pipeline.no_such_check", dict, load(run_file), {}, "nothing"
        )
    assert crashed.value.exit_code == 1
