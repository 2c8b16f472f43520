"""Runs that go on from a transformers folder: every weight, sharded or not, and a tokenizer that is
the same one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import run_ranks
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, T5Config

from pipeline.config.run_file import load
from pipeline.errors import ConfigError, DataError
from pipeline.evaluation.export import export
from pipeline.model.architecture import model_config
from pipeline.model.construction import build_model
from pipeline.model.given_weights import pretrained_weights
from pipeline.sampling.dataset import open_data
from pipeline.store.files import write_json
from pipeline.store.metrics import read_metrics
from pipeline.tokens.agreement import disagreements, folder_ids, own_ids
from pipeline.training.origin import origin_content

MakeRun = Callable[..., Path]
SIZES = {
    "llama": {"num_key_value_heads": 2, "tie_word_embeddings": True},
    "gpt_neox": {"tie_word_embeddings": False},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    | dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
}
COMMON = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def write_model(run_file: Path, kind: str = "llama", name: str = "model") -> Path:
    """Write a transformers folder as anybody's would be, of weights drawn here, with the tokenizer
    of the tokens."""
    sizes = (
        SIZES[kind] if kind == "gpt2" else COMMON | {"max_position_embeddings": 64} | SIZES[kind]
    )
    torch.manual_seed(7)
    config = AutoConfig.for_model(
        kind, vocab_size=300, bos_token_id=0, eos_token_id=0, initializer_range=0.3, **sizes
    )
    folder = run_file.with_name(name)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder, max_shard_size="40KB")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy2(load(run_file).paths.data_dir / "tokenizer" / file, folder)
    return folder


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("zero", "kind"),
    [
        ("zero1", "llama"),
        ("zero3", "gpt_neox"),
        pytest.param("zero2", "gpt2", marks=pytest.mark.full),
    ],
)
def test_the_first_loss_is_the_models_own(make_run: MakeRun, zero: str, kind: str) -> None:
    """On 2 ranks, each with half of the batch; then what was trained is exported, with the engine's
    logits."""
    run_file = make_run(zero=zero)
    folder = write_model(run_file, kind)
    overrides = [f"model={{pretrained: {folder}}}", "train.train_tokens=2560"]
    outcome = run_ranks(run_file, 2, overrides)
    config = load(run_file, overrides)
    records, run_dir = read_metrics(config.paths.run_dir), config.paths.run_dir
    batch = open_data(config).read(np.arange(8))
    inputs, targets = (torch.from_numpy(part).long() for part in (batch.inputs, batch.targets))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        logits = model(input_ids=inputs).logits
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).item()
    assert records[0]["loss"] == pytest.approx(expected, abs=1e-5)
    assert expected - records[-1]["loss"] > 0.5, "it must also learn"
    assert outcome["counts"]["lineage"] == [
        {"pretrained": str(folder), "content": origin_content(config)["model.pretrained"]}
    ]
    write_json(run_dir / "checkpoints" / "manifest.json", {"counts": outcome["counts"]})
    exported = run_dir / "export" / export(config).counts["folder"]
    assert AutoConfig.from_pretrained(exported).model_type == kind
    assert f"Trained on from `{folder}`" in (exported / "README.md").read_text()


@pytest.mark.ranks
def test_a_weight_that_is_missing_or_left_over_is_named(make_run: MakeRun) -> None:
    run_file = make_run()
    folder = write_model(run_file, "gpt_neox")
    config = load(run_file, [f"model={{pretrained: {folder}}}"])
    architecture, index = model_config(config), folder / "model.safetensors.index.json"
    weights = {
        name: value
        for file in folder.glob("*.safetensors")
        for name, value in load_file(file).items()
    }
    for file in [*folder.glob("*.safetensors"), index]:
        file.unlink()
    with pytest.raises(DataError, match=r"model\.pretrained = .*: cannot be loaded"):
        pretrained_weights(folder, architecture)
    norm = "gpt_neox.final_layer_norm.weight"
    save_file(
        {n: v for n, v in weights.items() if n != norm},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(
        DataError, match=rf"do not fit its config\.json: missing: {norm}\. Copy the folder"
    ):
        pretrained_weights(folder, architecture)
    changed = weights | {norm: torch.ones(31), "gpt_neox.extra": torch.ones(1)}
    save_file(changed, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        DataError, match=rf"not of this model: gpt_neox\.extra; of another shape: {norm}\. Copy"
    ):
        pretrained_weights(folder, architecture)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    found = pretrained_weights(folder, architecture)
    whole = build_model(config, architecture, found)
    for name, value in whole.state_dict().items():
        saved = {"lm_head.weight": "embed_out.weight"}.get(
            name, name
        )  # as transformers has always written it
        assert torch.equal(value, weights[saved]), name
    narrow = AutoConfig.for_model("gpt_neox", vocab_size=300, **COMMON | {"intermediate_size": 63})
    with pytest.raises(
        DataError,
        match=r"does not fit the model: of another shape: .*dense_h_to_4h\.weight \(64, 32\) inst",
    ):
        build_model(config, narrow, found)


def test_a_damaged_folder_is_named_whatever_reading_it_raises(tmp_path: Path) -> None:
    """Weights that are short, empty or garbage; an index that is none, or that leads to files of
    another folder."""
    architecture = AutoConfig.for_model("llama", vocab_size=300, **COMMON)
    folder = tmp_path / "model"
    AutoModelForCausalLM.from_config(architecture).save_pretrained(folder, max_shard_size="40KB")
    shard, index = min(folder.glob("*.safetensors")), folder / "model.safetensors.index.json"
    (tmp_path / "elsewhere.safetensors").write_bytes(shard.read_bytes())
    listed = index.read_text()
    damage: list[tuple[Path, bytes]] = [
        *(
            (shard, content)
            for content in (
                b"",
                shard.read_bytes()[:-9],
                b"\0\xff" * 50,
                b"\x05" + bytes(7) + b"{}}}}",
            )
        ),
        *(
            (index, content)
            for content in (b"{", b"[]", b"{}", b'{"weight_map": []}', b'{"weight_map": {"a": 7}}')
        ),
        (index, listed.replace(shard.name, "../elsewhere.safetensors").encode()),
        (index, listed.replace(shard.name, str(tmp_path / "elsewhere.safetensors")).encode()),
    ]
    for path, content in damage:
        good = path.read_bytes()
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"model\.pretrained = .*model: "):
            pretrained_weights(folder, architecture)
        path.write_bytes(good)
    assert pretrained_weights(folder, architecture).shapes


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "model.config.hidden_size=64",
            r"model\.config\.hidden_size: would change the model in model\.pretrained",
        ),
        (
            "model.config.num_attention_heads=2",
            r"model\.config\.num_attention_heads: would change the model in",
        ),
        (
            "model.config.atention_dropout=0.1",
            r"model\.config\.atention_dropout: is not a setting of the model in",
        ),
        (
            "data.sequence_length=128",
            r"max_position_embeddings = 64: must be at least data\.sequence_length = 128",
        ),
    ],
)
def test_settings_that_do_not_fit_the_model_are_refused(
    make_run: MakeRun, override: str, message: str
) -> None:
    run_file = make_run()
    model = f"model={{pretrained: {write_model(run_file)}}}"
    with pytest.raises(ConfigError, match=message):
        model_config(load(run_file, [model, override, "batch.global_batch_tokens=512"]))
    run_time = ["model.config.attention_dropout=0.1", "model.config.attn_implementation=eager"]
    assert model_config(load(run_file, [model, *run_time])).attention_dropout == 0.1


@pytest.mark.ranks
def test_folders_of_no_causal_language_model_are_refused(make_run: MakeRun) -> None:
    run_file = make_run()
    folder = run_file.with_name("other")
    T5Config().save_pretrained(folder)
    config = load(run_file, [f"model={{pretrained: {folder}}}"])
    with pytest.raises(
        ConfigError, match="t5 is not a causal language model; set it to a transformers folder"
    ):
        model_config(config)
    (folder / "config.json").write_text('{"model_type": "own"}')
    with pytest.raises(DataError, match=r"model\.pretrained = .*other: cannot be loaded"):
        model_config(config)


@pytest.mark.ranks
def test_the_content_decides_what_a_run_began_from(make_run: MakeRun) -> None:
    run_file = make_run()
    folder = write_model(run_file)
    copy = shutil.copytree(folder, folder.with_name("copy"))
    first, second = (
        origin_content(load(run_file, [f"model={{pretrained: {path}}}"])) for path in (folder, copy)
    )
    assert first == second
    file = min(copy.glob("*.safetensors"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert origin_content(load(run_file, [f"model={{pretrained: {copy}}}"])) != first


def edited(folder: Path, edit: Callable[[dict], None], file: str = "tokenizer.json") -> list[str]:
    """Return the disagreements with a copy of a tokenizer folder whose JSON has been edited."""
    copy = shutil.copytree(folder, folder.with_name("edited"), dirs_exist_ok=True)
    content = json.loads((copy / file).read_text())
    edit(content)
    (copy / file).write_text(json.dumps(content))
    return disagreements(own_ids(folder, 0), folder_ids(copy))


@pytest.mark.ranks
def test_tokenizers_are_compared_token_by_token(make_run: MakeRun) -> None:
    folder = load(make_run()).paths.data_dir / "tokenizer"
    assert edited(folder, lambda content: None) == []

    def swap(content: dict) -> None:
        vocabulary = content["model"]["vocab"]
        one, other = sorted(vocabulary, key=vocabulary.__getitem__)[5:7]
        vocabulary[one], vocabulary[other] = 6, 5

    swapped = edited(folder, swap)
    assert len(swapped) == 2
    assert swapped[0].endswith("is id 5 in data_dir/tokenizer, id 6 in the model's")

    def add(content: dict) -> None:
        token = {
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        content["added_tokens"].append(token | {"id": 300, "content": "<|im_start|>"})

    assert edited(folder, add) == [
        "300 tokens in data_dir/tokenizer, 301 in the model's",
        "token '<|im_start|>' is no token in data_dir/tokenizer, id 300 in the model's",
    ]

    def forget_merges(content: dict) -> None:
        content["model"]["merges"] = []

    assert all(problem.startswith("the text ") for problem in edited(folder, forget_merges))
    assert edited(folder, forget_merges)

    def another_end(content: dict) -> None:
        content["eos_token"] = "!"

    (ending,) = edited(folder, another_end, "tokenizer_config.json")
    assert ending.startswith("documents end with id 0 in data_dir, with ")


@pytest.mark.ranks
def test_a_model_of_another_tokenizer_is_refused_before_training(make_run: MakeRun) -> None:
    run_file = make_run()
    folder = write_model(run_file)
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["merges"] = []
    (folder / "tokenizer.json").write_text(json.dumps(content))
    outcome = run_ranks(run_file, 2, [f"model={{pretrained: {folder}}}"])
    assert outcome["status"] == "refused"
    assert (
        f"model.pretrained = {folder}: its tokenizer differs from the one in " in outcome["message"]
    )
    assert f"Set tokenizer: {{kind: pretrained, path: {folder}}}" in outcome["message"]
    (folder / "tokenizer.json").unlink()
    with pytest.raises(
        DataError,
        match=r"holds no tokenizer\.json, so the meaning of its ids is not known\. Save the",
    ):
        folder_ids(folder)
