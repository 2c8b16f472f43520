"""Parameter counts: by hand, as the presets state them, as the models' authors published them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from transformers import CONFIG_MAPPING

from pipeline.cli.preset_table import STATED, shipped_rows, show_presets
from pipeline.config.run_file import load, read_preset
from pipeline.config.shipped_files import PRESETS
from pipeline.errors import ConfigError
from pipeline.model.sizes import ModelParameters, count_parameters

NAMES = sorted(path.stem for path in PRESETS.glob("*.yaml"))

PUBLISHED = {
    # In all. Pythia: the published weights; Llama, Qwen3: the same (safetensors metadata, the tied
    # head once).
    "llama3-8b": 8_030_261_248,
    "llama3-70b": 70_553_706_496,
    "llama3-1b": 1_235_814_400,
    "qwen3-0.6b": 596_049_920,
    "pythia-70m": 70_426_624,
    "pythia-12b": 11_846_072_320,
}
PYTHIA_NON_EMBEDDING = {
    # Biderman et al. 2023 (arXiv:2304.01373), table 1.
    "pythia-70m": 18_915_328,
    "pythia-160m": 85_056_000,
    "pythia-410m": 302_311_424,
    "pythia-1b": 805_736_448,
    "pythia-1.4b": 1_208_602_624,
    "pythia-2.8b": 2_517_652_480,
    "pythia-6.9b": 6_444_163_072,
    "pythia-12b": 11_327_027_200,
}


def stated(name: str) -> list[int]:
    """Return vocabulary, total, embedding and others as a preset's first line has them."""
    first = (PRESETS / f"{name}.yaml").read_text().splitlines()[0]
    found = STATED.search(first)
    assert found, f"{name}: the first line does not state the parameters: {first}"
    return [int(number.replace(",", "")) for number in found.groups()]


def preset_sizes(name: str, vocab_size: int) -> ModelParameters:
    """Count the parameters of a preset's model with an embedding of `vocab_size` rows."""
    model = read_preset(name)["model"]
    return count_parameters(
        CONFIG_MAPPING[model["architecture"]](**{"vocab_size": vocab_size, **model["config"]})
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_states_its_parameters(name: str) -> None:
    vocabulary, *counts = stated(name)
    sizes = preset_sizes(name, vocabulary)
    assert [sizes.total, sizes.embedding, sizes.non_embedding] == counts


@pytest.mark.parametrize("name", ["gpt3-125m", "llama3-1b", "qwen3-0.6b", "qwen3-8b", "pythia-14m"])
def test_the_table_counts_any_vocabulary_as_the_model_has_it(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    counted = preset_sizes(name, 32_001)
    (row,) = (row for row in shipped_rows() if row.name == name)
    facts = row.with_vocabulary(32_001)
    assert (facts["parameters"], facts["embedding_parameters"]) == (
        counted.total,
        counted.embedding,
    )
    show_presets(32_001, as_json=True)
    (record,) = (r for r in json.loads(capsys.readouterr().out)["presets"] if r["name"] == name)
    assert (record["parameters"], record["non_embedding_parameters"]) == (
        counted.total,
        counted.non_embedding,
    )


@pytest.mark.ranks
def test_the_table_needs_no_torch() -> None:
    script = (
        "import sys; from pipeline.cli.preset_table import show_presets; show_presets(100, False)"
    )
    script += "; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", script], stdout=subprocess.DEVNULL, timeout=600
        ).returncode
        == 0
    )


def test_counts_are_the_published_ones() -> None:
    assert {name: stated(name)[1] for name in PUBLISHED} == PUBLISHED
    assert {name: stated(name)[3] for name in PYTHIA_NON_EMBEDDING} == PYTHIA_NON_EMBEDDING


def test_the_families_are_complete() -> None:
    families = {
        family: sum(name.startswith(family) for name in NAMES)
        for family in ("gpt3", "llama3", "qwen3", "pythia")
    }
    assert families == {"gpt3": 8, "llama3": 3, "qwen3": 4, "pythia": 10}


def test_counts_by_hand() -> None:
    """gpt2, 2 layers 8 wide, 10 ids, 6 positions. A layer: 4 x 64 + 32 attention, 8 x 64 + 40 MLP,
    32 norms = 872."""
    sizes = count_parameters(
        CONFIG_MAPPING["gpt2"](n_embd=8, n_layer=2, n_head=2, vocab_size=10, n_positions=6)
    )
    assert sizes == ModelParameters(
        total=2 * 872 + 16 + 128,
        embedding=80 + 48,
        looked_up=48,
        one_dimensional=2 * (32 + 40 + 32) + 16,
    )
    assert sizes.non_embedding == 2 * 872 + 16
    untied = CONFIG_MAPPING["llama"](
        hidden_size=8,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=10,
    )
    assert count_parameters(untied) == ModelParameters(
        total=2 * 80 + 4 * 64 + 3 * 32 + 3 * 8, embedding=160, looked_up=80, one_dimensional=3 * 8
    )


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("mixtral", {"num_local_experts": 4, "intermediate_size": 32}),
        ("qwen3_moe", {"num_experts": 4, "moe_intermediate_size": 32, "head_dim": 8}),
        (
            "deepseek_v3",
            {
                "n_routed_experts": 4,
                "moe_intermediate_size": 32,
                "n_group": 1,
                "topk_group": 1,
                "first_k_dense_replace": 0,
            },
        ),
    ],
)
def test_a_token_goes_through_some_of_the_experts(
    architecture: str, settings: dict[str, int]
) -> None:
    """One layer of four experts of 3 x 16 x 32, of which a token takes one; deepseek's shared expert
    is taken always."""
    config = CONFIG_MAPPING[architecture](
        vocab_size=64,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_experts_per_tok=1,
        **settings,
    )
    sizes = count_parameters(config)
    assert sizes.idle == 3 * (3 * 16 * 32)
    assert sizes.active == sizes.total - sizes.looked_up - sizes.idle


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_makes_a_run(run_file: Path, name: str) -> None:
    settings = read_preset(name)
    document = yaml.safe_load(run_file.read_text())
    document = {key: document[key] for key in ("paths", "sources", "tokenizer", "deepspeed")} | {
        "preset": name
    }
    run_file.write_text(yaml.safe_dump(document))
    config = load(run_file)
    assert config.preset == name
    assert config.model.config == settings["model"]["config"]
    assert config.model.config["max_position_embeddings"] >= config.data.sequence_length
    assert config.global_batch_sequences % config.batch.micro_batch_sequences == 0
    assert "preset" not in settings


def test_a_preset_may_name_another_as_its_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.config.run_file.PRESETS", tmp_path)
    (tmp_path / "a.yaml").write_text("optimizer: {beta1: 0.1, beta2: 0.1, epsilon: 0.1}")
    (tmp_path / "b.yaml").write_text("preset: a\noptimizer: {beta1: 0.2, beta2: 0.2}")
    (tmp_path / "c.yaml").write_text("preset: b\noptimizer: {beta1: 0.3}")
    assert read_preset("c") == {"optimizer": {"beta1": 0.3, "beta2": 0.2, "epsilon": 0.1}}
    with pytest.raises(ConfigError, match="preset = 'd': no such preset; there are a, b, c"):
        read_preset("d")
