"""transformers 4, in a process of its own, reads from exported folders the ids and the model that
transformers 5 wrote.

`bash jobs/setup.sh full` brings it; PIPELINE_TEST_TRANSFORMERS_4 names another folder that holds
it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import run_stages
from read_by_version_4 import TEXTS
from registry import names
from test_published import LLAMA3
from tiny_models import probe_ids, tiny_config, tiny_model
from transformers import AutoModelForCausalLM, PreTrainedModel

from pipeline.config.run_file import load
from pipeline.evaluation.published import publish, publish_config, version_4_misreading
from pipeline.model.architecture import model_config
from pipeline.store.environment import user_variable
from pipeline.store.files import read_json
from pipeline.tokens.encode import load_reference

pytestmark = [pytest.mark.full, pytest.mark.ranks]

PROGRAM = Path(__file__).with_name("read_by_version_4.py")
TOLERANCE = 1e-4
"""Largest difference of a logit in fp32, rounding of another summation order."""
NAMED = {
    "llama": "rope_parameters: {rope_theta: 500000.0, rope_type: default}",
    "llama-scaled": "rope_parameters: {rope_theta: 500000.0, rope_type: llama3, factor: 8.0, low_freq_factor: 1.0, "
    "high_freq_factor: 4.0, original_max_position_embeddings: 16}",
    "qwen3": "head_dim: 32, num_key_value_heads: 1, rope_parameters: {rope_theta: 1000000.0, rope_type: default}",
    "gpt_neox": "rope_parameters: {rope_theta: 50000.0, rope_type: default, partial_rotary_factor: 0.5}",
}
COMMON = (
    "hidden_size: 64, intermediate_size: 96, num_hidden_layers: 2, num_attention_heads: 2, "
    "max_position_embeddings: 64"
)
GPT2 = "n_embd: 64, n_layer: 2, n_head: 2, n_positions: 64, scale_attn_by_inverse_layer_idx: true"
MODELS = {
    name: f"model={{architecture: {name.split('-')[0]}, config: {{{settings}, {COMMON}}}}}"
    for name, settings in NAMED.items()
}
MODELS["gpt2"] = f"model={{architecture: gpt2, config: {{{GPT2}}}}}"


def answers(folders: Sequence[Path], file: Path) -> dict[str, dict[str, Any]]:
    """Return what transformers 4 makes of each folder, by its name."""
    library = Path(
        user_variable("PIPELINE_TEST_TRANSFORMERS_4") or Path(sys.prefix) / "transformers4"
    )
    assert (library / "transformers").is_dir(), (
        f"{library} holds no transformers: run `bash jobs/setup.sh full`"
    )
    environment = os.environ | {
        "PYTHONPATH": str(library),
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    subprocess.run(
        [sys.executable, PROGRAM, file, *folders], check=True, env=environment, timeout=1800
    )
    answer = json.loads(file.read_text())
    assert answer["version"].startswith("4.")
    return answer["folders"]


def save(model: PreTrainedModel, folder: Path) -> None:
    model.save_pretrained(folder)
    with torch.no_grad():
        logits = model(input_ids=probe_ids(), use_cache=False).logits
    np.savez(folder / "probe.npz", input_ids=probe_ids().numpy(), logits=logits.numpy())


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """Publish a model of each architecture with a tokenizer of the pipeline's; return the root, and
    what version 4 reads."""
    from conftest import RUN_FILE

    root = tmp_path_factory.mktemp("exports")
    run_file = root / "run.yaml"
    run_file.write_text(RUN_FILE)
    (root / "zero1.json").write_text('{"zero_optimization": {"stage": 1}}')
    (root / "web.jsonl").write_text(
        "".join(f'{{"text": "document {i} of words and {i}"}}\n' for i in range(40))
    )
    run_stages(run_file, ["prepare", "train-tokenizer"], [])
    for name, model in MODELS.items():
        config = load(run_file, [model])
        torch.manual_seed(0)
        built = AutoModelForCausalLM.from_config(model_config(config), dtype=torch.float32).eval()
        for parameter in built.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.15)
        save(built, root / name)
        assert publish(config, root / name) is None
    return root, answers([root / name for name in MODELS], root / "answer.json")


@pytest.mark.parametrize("name", MODELS)
def test_version_4_reads_the_same_ids_and_the_same_model(
    exports: tuple[Path, dict[str, dict[str, Any]]], name: str
) -> None:
    root, read = exports
    reference = load_reference(root / "data" / "tokenizer")
    assert read[name]["ids"] == [
        reference.encode(text, add_special_tokens=False).ids for text in TEXTS
    ]
    assert read[name]["end"] == reference.token_to_id("<|endoftext|>")
    assert read[name]["odd weights"] == []
    assert read[name]["difference"] < TOLERANCE


BIASES = {"attention_bias": True, "mlp_bias": True, "use_bias": True}
GRID = {
    "rotary": ({}, {}),
    "scaled": ({}, LLAMA3),
    "tied": ({"tie_word_embeddings": True}, {}),
    "untied": ({"tie_word_embeddings": False}, {}),
    "sliding": ({"sliding_window": 8, "use_sliding_window": True}, {}),
    "biased": ({**BIASES, "scale_attn_by_inverse_layer_idx": True}, {}),
}
"""Variant -> changed settings, and what is added to the rotary ones."""


@pytest.mark.parametrize("variant", GRID)
def test_no_architecture_is_read_otherwise_in_silence(tmp_path: Path, variant: str) -> None:
    changes, scaling = GRID[variant]
    folders = []
    for name in names():
        try:
            model = tiny_model(tiny_config(name, changes, scaling))
            if model is None:
                continue
            save(model, tmp_path / name)
        except Exception:  # no such settings for this architecture
            continue
        publish_config(tmp_path / name, 0)
        folders.append(tmp_path / name)
    read = answers(folders, tmp_path / "answer.json")
    table: dict[str, list[str]] = {
        "same": [],
        "refused by version 4": [],
        "other, and said": [],
        "other": [],
    }
    for folder in folders:
        answer = read[folder.name]
        if "refused" in answer:
            kind = "refused by version 4"
        elif answer["difference"] < TOLERANCE and not answer["odd weights"]:
            kind = "same"
        elif version_4_misreading(read_json(folder / "config.json")) is not None:
            kind = "other, and said"
        else:
            kind = "other"
        table[kind].append(folder.name)
    print(json.dumps(table, indent=1))
    assert table["other"] == []
    assert len(table["same"]) > 50
