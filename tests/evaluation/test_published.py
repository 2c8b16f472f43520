"""What an exported folder says: the ids that training saw, and the same model to transformers 4 as
to 5."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from helpers import write_byte_level_tokenizer
from tokenizers import Tokenizer, pre_tokenizers, processors
from transformers import CONFIG_MAPPING, GPT2Config, PreTrainedTokenizerFast

from pipeline.config.sections import TokenizerSection
from pipeline.errors import DataError
from pipeline.evaluation.published import (
    READ_OTHERWISE,
    publish_config,
    publish_tokenizer,
    refuse_other_ids,
    version_4_entries,
    version_4_misreading,
)
from pipeline.store.files import read_json
from pipeline.store.pretrained_folders import open_config, open_tokenizer
from pipeline.tokens.agreement import PROBE_TEXTS
from pipeline.tokens.encode import load_encoder
from pipeline.tokens.forms.transformers_folder import TransformersFolder

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

SPECIAL_TEXTS = (
    "<|endoftext|>",
    "<|endoftext|>a b",
    "a<|endoftext|>b",
    "a <s> b",
    "<s>",
    "x <extra> y",
    " leading",
)
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer as others publish it: puts `<s>` before a text, a space before its first word,
    cuts and pads."""
    folder = tmp_path_factory.mktemp("theirs")
    write_byte_level_tokenizer(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(["<s>", "<extra>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    begin = [("<s>", tokenizer.token_to_id("<s>"))]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=begin
    )
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="<|endoftext|>", model_max_length=8,
        chat_template="{% for m in messages %}{{ m.content }}{% endfor %}",
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="module", params=[False, True], ids=["as-text", "parsed"])
def published(
    theirs: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> tuple[Path, Path, bool]:
    """Return data_dir/tokenizer, the exported folder, and tokens.parse_special_tokens."""
    root = tmp_path_factory.mktemp("published")
    made, exported = root / "tokenizer", root / "step_00000010"
    exported.mkdir()
    TransformersFolder().take(TokenizerSection(kind="pretrained", path=theirs), made)
    GPT2Config(vocab_size=261, bos_token_id=0, eos_token_id=0).save_pretrained(exported)
    publish_tokenizer(made, exported, request.param)
    return made, exported, request.param


def test_evaluation_encodes_a_context_as_training_did(published: tuple[Path, Path, bool]) -> None:
    from lm_eval.models.huggingface import HFLM

    made, exported, parsed = published
    tokenizer = open_tokenizer(exported, "")
    model = HFLM.__new__(HFLM)  # its encoding needs no weights
    model.tokenizer, model.add_bos_token, model.custom_prefix_token_id, model.backend = (
        tokenizer,
        None,
        None,
        "causal",
    )
    encoder = load_encoder(made, "reference", parsed)
    for text in (*SPECIAL_TEXTS, *PROBE_TEXTS):
        ids, _ = encoder.encode_reference([text.encode()])
        expected = ids.tolist()[:-1]  # without the end of the document
        assert model.tok_encode(text) == expected
        assert tokenizer(text)["input_ids"] == expected
        if text:
            assert model.tok_batch_encode([text])[0].tolist() == [expected]
    assert model.prefix_token_id == model.eot_token_id == encoder.end_of_document
    ends = model.tok_encode("a<|endoftext|>b").count(encoder.end_of_document)
    assert ends == (1 if parsed else 0)


def test_the_end_is_still_known_and_left_out_of_decoded_text(
    published: tuple[Path, Path, bool],
) -> None:
    tokenizer = open_tokenizer(published[1], "")
    ids = [*tokenizer("a b")["input_ids"], tokenizer.eos_token_id]
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == "a b"
    assert tokenizer.decode(ids).endswith("<|endoftext|>")
    assert tokenizer.chat_template is None


def test_the_files_say_nothing_of_where_they_came_from(published: tuple[Path, Path, bool]) -> None:
    made, exported, parsed = published
    settings = json.loads((exported / "tokenizer_config.json").read_text())
    assert settings == {
        "add_prefix_space": True, "bos_token": "<|endoftext|>", "clean_up_tokenization_spaces": False,
        "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "split_special_tokens": not parsed,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }  # fmt: skip
    assert sorted(path.name for path in made.iterdir()) == [
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    description = json.loads((exported / "tokenizer.json").read_text())
    assert description["truncation"] is description["padding"] is None
    assert description["post_processor"]["special_tokens"] == {}


def test_other_ids_than_those_of_training_are_refused(
    published: tuple[Path, Path, bool], tmp_path: Path
) -> None:
    made, exported, parsed = published
    refuse_other_ids(made, exported, parsed)
    with pytest.raises(DataError, match="the tokenizer gives different ids from"):
        refuse_other_ids(made, exported, not parsed)


@pytest.mark.parametrize(
    ("model_type", "rope", "expected"),
    [
        ("llama", {"rope_theta": 5e5, "rope_type": "default"}, {"rope_theta": 5e5}),
        ("qwen3", {"rope_theta": 1e6, "rope_type": "default"}, {"rope_theta": 1e6}),
        ("llama", {"rope_theta": 5e5, **LLAMA3}, {"rope_theta": 5e5, "rope_scaling": LLAMA3}),
        (
            "gpt_neox",
            {"rope_theta": 5e4, "rope_type": "default", "partial_rotary_factor": 0.5},
            {
                "rope_theta": 5e4,
                "partial_rotary_factor": 0.5,
                "rotary_emb_base": 5e4,
                "rotary_pct": 0.5,
            },
        ),
        (
            "gemma3_text",
            {
                "full_attention": {"rope_theta": 1e6, **LLAMA3},
                "sliding_attention": {"rope_theta": 2e4, "rope_type": "default"},
            },
            {"rope_theta": 1e6, "rope_scaling": LLAMA3, "rope_local_base_freq": 2e4},
        ),
        (
            "modernbert-decoder",
            {
                "full_attention": {"rope_theta": 1e6, "rope_type": "default"},
                "sliding_attention": {"rope_theta": 2e4, "rope_type": "default"},
            },
            {"rope_theta": 1e6, "global_rope_theta": 1e6, "local_rope_theta": 2e4},
        ),
    ],
)
def test_rotary_settings_stand_at_both_places(
    tmp_path: Path, model_type: str, rope: dict[str, Any], expected: dict[str, Any]
) -> None:
    config = CONFIG_MAPPING[model_type](rope_parameters=json.loads(json.dumps(rope)), vocab_size=64)
    config.save_pretrained(tmp_path)
    publish_config(tmp_path, 5)
    written = read_json(tmp_path / "config.json")
    assert {name: written.get(name) for name in expected} == expected
    assert version_4_misreading(written) is None
    again = open_config(tmp_path, "")
    assert again.rope_parameters == config.rope_parameters  # transformers 5 takes no harm
    assert (again.bos_token_id, again.eos_token_id) == (5, 5)


def test_without_rotary_positions_nothing_is_added() -> None:
    assert version_4_entries(GPT2Config().to_dict()) == {}


@pytest.mark.parametrize(
    ("model_type", "changes"), [("gemma2", {}), ("gpt2", {"scale_attn_by_inverse_layer_idx": True})]
)
def test_attention_that_version_4_simplifies_is_read_by_its_exact_code(
    model_type: str, changes: dict[str, Any]
) -> None:
    settings = CONFIG_MAPPING[model_type](**changes).to_dict()
    assert version_4_entries(settings)["_attn_implementation"] == "eager"


@pytest.mark.parametrize(
    ("model_type", "rope"),
    [
        ("nemotron", {"rope_theta": 1e4, **LLAMA3}),
        (
            "olmo3",
            {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}},
        ),
        (
            "gemma3_text",
            {
                "full_attention": {"rope_theta": 1e6},
                "sliding_attention": {"rope_theta": 1e6, **LLAMA3},
            },
        ),
    ],
)
def test_rotary_settings_that_version_4_cannot_hold_are_named(
    model_type: str, rope: dict[str, Any]
) -> None:
    misreading = version_4_misreading({"model_type": model_type, "rope_parameters": rope})
    assert misreading is not None
    assert model_type in misreading


@pytest.mark.parametrize(("model_type", "name"), sorted(READ_OTHERWISE))
def test_settings_that_version_4_reads_otherwise_are_named(model_type: str, name: str) -> None:
    assert version_4_misreading({"model_type": model_type, name: False}) is None
    assert model_type in str(version_4_misreading({"model_type": model_type, name: True}))


@pytest.mark.parametrize(
    ("given", "expected"), [(None, 7), (3, 7), (7, 7), ([3, 7], [3, 7]), ([3], 7)]
)
def test_the_end_of_a_document_ends_generation(tmp_path: Path, given: Any, expected: Any) -> None:
    for name in ("config.json", "generation_config.json"):
        (tmp_path / name).write_text(
            json.dumps({"model_type": "gpt2", "bos_token_id": 1, "eos_token_id": given})
        )
    publish_config(tmp_path, 7)
    for name in ("config.json", "generation_config.json"):
        settings = read_json(tmp_path / name)
        assert (settings["bos_token_id"], settings["eos_token_id"]) == (7, expected)
