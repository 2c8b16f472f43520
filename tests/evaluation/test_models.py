"""The model in memory is the one that transformers reads from an exported folder, and folders
without a model, without a tokenizer or with code are refused."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import write_byte_level_tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.errors import DataError
from pipeline.evaluation.models import load_folder_model, model_of_weights, published_tokenizer
from pipeline.evaluation.published import publish
from pipeline.model.given_weights import GivenWeights

MakeRun = Callable[..., Path]
SIZES: dict[str, dict[str, Any]] = {
    "llama": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
    "qwen3": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
    },
    "gpt_neox": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "deepseek_v3": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "moe_intermediate_size": 16,
        "num_hidden_layers": 2,
        "first_k_dense_replace": 1,
        "num_key_value_heads": 4,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
    },
}


def config_of(make_run: MakeRun, architecture: str, dtype: str) -> RunConfig:
    sizes = dict(SIZES[architecture])
    if architecture != "gpt2":
        sizes |= {"num_attention_heads": 4, "max_position_embeddings": 64}
    settings = ", ".join(f"{name}: {value}" for name, value in sizes.items())
    run_file = make_run()
    text = run_file.read_text()
    first = text.index("model:\n")
    end = text.index("data: {")
    model = f"model: {{architecture: {architecture}, config: {{{settings}}}}}\n"
    run_file.write_text(text[:first] + model + text[end:])
    return load(run_file, [f"precision.dtype={dtype}"])


def random_weights(config: RunConfig) -> GivenWeights:
    """Return fp32 weights that make every part of the model matter."""
    from pipeline.model.architecture import model_config
    from pipeline.store.pretrained_folders import new_model

    torch.manual_seed(1)
    model = new_model(model_config(config), dtype=torch.float32)
    parameters = {name: torch.randn(p.shape) * 0.2 for name, p in model.named_parameters()}
    persistent = set(model.state_dict()) - parameters.keys()
    buffers = {name: b for name, b in model.named_buffers() if name in persistent}
    shapes = {name: value.shape for name, value in parameters.items()}
    return GivenWeights("test", shapes, lambda name: parameters[name], buffers)


@pytest.mark.ranks
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("architecture", SIZES)
def test_the_model_in_memory_is_the_exported_one(
    make_run: MakeRun, tmp_path: Path, architecture: str, dtype: str
) -> None:
    config = config_of(make_run, architecture, dtype)
    model = model_of_weights(config, random_weights(config))
    tokenizer = published_tokenizer(config, model)
    model.save_pretrained(tmp_path / "export")
    publish(config, tmp_path / "export")
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "export", dtype="auto").eval()

    # Every tensor is the same, and so is what the model says.
    ids = torch.randint(1, 256, (2, 24), generator=torch.Generator().manual_seed(1))
    here = dict([*model.named_parameters(), *model.named_buffers()])
    for name, tensor in [*exported.named_parameters(), *exported.named_buffers()]:
        assert torch.equal(here[name], tensor), name
        assert here[name].dtype == tensor.dtype, name
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, exported(input_ids=ids).logits)

    # Texts become the same ids, and end in the same place.
    published = AutoTokenizer.from_pretrained(tmp_path / "export")
    assert type(tokenizer) is type(published)
    for text in ("a small model", "<|endoftext|>", ""):
        assert tokenizer(text)["input_ids"] == published(text)["input_ids"]
    assert model.generation_config is not None
    for name in ("bos_token_id", "eos_token_id"):
        expected = getattr(exported.generation_config, name)
        assert getattr(model.generation_config, name) == expected == published.eos_token_id
        assert getattr(model.config, name) == expected


@dataclass(frozen=True)
class Flaw:
    """What is wrong with a folder, and what the message says."""

    spoil: Callable[[Path], object]
    message: str


def change_config(folder: Path, changes: dict[str, int]) -> None:
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))


def add_token(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == 259
    tokenizer.add_tokens(["<pad>"])
    tokenizer.save_pretrained(folder)


FLAWS = {
    "no model": Flaw(lambda folder: (folder / "config.json").unlink(), "holds no model"),
    "no tokenizer": Flaw(lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer"),
    "code": Flaw(
        lambda folder: (folder / "tokenizer_config.json").write_text(
            '{"auto_map": {"AutoTokenizer": "code.Tokenizer"}}'
        ),
        "refers to Python code",
    ),
    "no weights": Flaw(
        lambda folder: (folder / "model.safetensors").unlink(), "cannot be loaded by transformers"
    ),
    "a layer too few": Flaw(
        lambda folder: change_config(folder, {"n_layer": 2}),
        "weights do not fit its config.json: missing: transformer.h.1.attn.c_attn.bias, .* more",
    ),
    "a layer too many": Flaw(
        lambda folder: change_config(folder, {"n_layer": 0}),
        "weights do not fit its config.json: not of this model: transformer.h.0.attn.c_attn.weight",
    ),
    "fewer positions": Flaw(
        lambda folder: change_config(folder, {"n_positions": 10}),
        "of another shape: transformer.wpe.weight. Copy the folder again",
    ),
    "a larger tokenizer": Flaw(
        add_token, "tokenizer has 260 ids, and its model embeds 259, .* this model's own tokenizer"
    ),
}


@pytest.mark.parametrize("name", FLAWS)
def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path, name: str) -> None:
    write_byte_level_tokenizer(tmp_path)
    end = "<|endoftext|>"
    file = str(tmp_path / "tokenizer.json")
    PreTrainedTokenizerFast(tokenizer_file=file, eos_token=end).save_pretrained(tmp_path)
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 20, "vocab_size": 259}
    GPT2LMHeadModel(GPT2Config(**sizes)).save_pretrained(tmp_path)
    loaded = load_folder_model(tmp_path)
    assert (loaded.name, loaded.step, loaded.tokens) == (tmp_path.name, None, None)
    assert not loaded.model.training
    FLAWS[name].spoil(tmp_path)
    with pytest.raises(DataError, match=FLAWS[name].message):
        load_folder_model(tmp_path)
