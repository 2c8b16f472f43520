"""Completes an exported folder, so that others read the same tokenizer and model from it.

transformers 4 and 5, vLLM and `lm_eval --model hf` load the folder unchanged. By itself
transformers 5 writes files that version 4 refuses (the tokenizer's class) or silently reads as
another model (the rotary settings). Reads data_dir/tokenizer; writes JSON files into the folder.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from pipeline.config.run_config import RunConfig
from pipeline.errors import DataError
from pipeline.logs import warn
from pipeline.sampling.dataset import tokenizer_size
from pipeline.store.files import read_json, write_json
from pipeline.store.layout import data_folder
from pipeline.store.pretrained_folders import (
    MODEL_CONFIG,
    SENTENCEPIECE_MODEL,
    TOKENIZER_CONFIG,
    TOKENIZER_JSON,
    open_tokenizer,
)
from pipeline.store.records import Json
from pipeline.tokens.agreement import PROBE_TEXTS
from pipeline.tokens.encode import load_reference

TOKENIZER_FILES = (TOKENIZER_JSON, TOKENIZER_CONFIG, SENTENCEPIECE_MODEL)
"""Files of a tokenizer; the last one exists for SentencePiece tokenizers only."""
PARTIAL = "partial_rotary_factor"
"""Setting: the share of a head's dimensions that is rotated."""
BASE = "rope_theta"
"""Setting: the base of the rotary frequencies."""
GPT_NEOX = {BASE: "rotary_emb_base", PARTIAL: "rotary_pct"}
OWN_NAMES = {
    "gpt_neox": GPT_NEOX,
    "gpt_neox_japanese": GPT_NEOX,
    "modernbert-decoder": {BASE: "global_rope_theta"},
}
"""Architecture -> setting -> its name in transformers 4, where that differs."""
SLIDING_BASE = {
    "gemma3_text": "rope_local_base_freq",
    "gemma3n_text": "rope_local_base_freq",
    "modernbert-decoder": "local_rope_theta",
}
"""Architecture -> name in transformers 4 of the rotary base of layers with a sliding window."""
EAGER_ONLY = ("attn_logit_softcapping", "scale_attn_by_inverse_layer_idx")
"""Settings that transformers 4 ignores in its default attention, torch's own: gemma2's cap, and
gpt2's scale by layer."""
READ_OTHERWISE = {
    ("apertus", "hidden_act"): "rounds the parameters of the activation to bfloat16",
    ("ernie4_5_moe", "use_bias"): "gives the experts biases that the model does not have",
    ("llama4_text", "attention_bias"): "leaves out the biases of attention",
    ("qwen2_moe", "use_sliding_window"): "does not act on use_sliding_window",
    ("xlstm", "tie_word_embeddings"): "does not act on tie_word_embeddings",
}
"""(architecture, setting) -> what transformers 4 does where the setting is on."""
WITHOUT_SCALING = ("nemotron", "modernbert-decoder")
"""Architectures whose rotary scaling transformers 4 silently ignores."""


def publish(config: RunConfig, folder: Path) -> str | None:
    """Write the tokenizer into an exported folder, and complete its configs.

    Returns how transformers 4 reads another model from the folder, which is also printed as a
    warning; None where it reads the same one. Raises DataError where transformers encodes texts
    with the folder to other ids than `tokenize` did.
    """
    tokenizer = data_folder(config).tokenizer
    _, end_of_document = tokenizer_size(tokenizer)
    publish_tokenizer(tokenizer, folder, config.tokens.parse_special_tokens)
    publish_config(folder, end_of_document)
    refuse_other_ids(tokenizer, folder, config.tokens.parse_special_tokens)
    misreading = version_4_misreading(read_json(folder / MODEL_CONFIG))
    if misreading is not None:
        warn(
            f"export: transformers 4 reads another model from {folder.name}: {misreading}. Load it "
            "with transformers 5."
        )
    return misreading


def publish_tokenizer(source: Path, folder: Path, parse_special_tokens: bool) -> None:
    """Copy the folder of a tokenizer; the copy encodes texts to the ids that training saw.

    `parse_special_tokens`: whether the text of a special token in a document became that token
    (`tokens.parse_special_tokens`).
    """
    for name in TOKENIZER_FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, folder / name)
    settings = read_json(folder / TOKENIZER_CONFIG)
    write_json(
        folder / TOKENIZER_CONFIG,
        settings | {"split_special_tokens": not parse_special_tokens},
    )


def refuse_other_ids(source: Path, folder: Path, parse_special_tokens: bool) -> None:
    """Raise DataError if the exported folder encodes a text to different ids from `tokenize`.

    transformers also chooses the class of a tokenizer by the model's type. This check finds a class
    that builds a tokenizer of its own.
    """
    loaded = open_tokenizer(folder, str(folder))
    reference = load_reference(source, parse_special_tokens)
    for text in PROBE_TEXTS:
        expected = reference.encode(text, add_special_tokens=False).ids
        if loaded(text)["input_ids"] != expected or loaded.encode(text) != expected:
            raise DataError(
                f"{folder}: loaded by transformers as {type(loaded).__name__}, the tokenizer gives "
                f"different ids from {source} for {text[:40]!r}, so scores would not be those of "
                "the trained model; nothing was exported. Train with another model.architecture or "
                "another tokenizer."
            )


def publish_config(folder: Path, end_of_document: int) -> None:
    """Complete config.json and generation_config.json of a folder that `save_pretrained` wrote.

    `end_of_document`: the id after every document. It also stands before every document, so that it
    is the only first token that was trained.
    """
    for name in (MODEL_CONFIG, "generation_config.json"):
        settings = read_json(folder / name)
        if settings is None:
            continue
        settings["bos_token_id"] = end_of_document
        settings["eos_token_id"] = end_ids(settings.get("eos_token_id"), end_of_document)
        if name == MODEL_CONFIG:
            settings |= version_4_entries(settings)
            text = settings.get("text_config")
            if isinstance(text, dict):
                settings["text_config"] = text | version_4_entries(text)
        (folder / name).write_text(
            json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )


def end_ids(ends: Json, end_of_document: int) -> Json:
    """Return the ids that end a text.

    A pretrained model may have several, `ends`: they are kept where the end of a document is one of
    them.
    """
    if isinstance(ends, list) and end_of_document in ends:
        return ends
    return end_of_document


def version_4_entries(settings: Mapping[str, Json]) -> dict[str, Json]:
    """Return the entries that a config.json of transformers 5 needs for version 4 to agree.

    Version 5 keeps the rotary settings in `rope_parameters`: one set, or one for each type of
    layer. Version 4 ignores that entry and uses its own defaults. Version 5 reads the old names,
    too, which get the same values.
    """
    # The rotary settings under their old names.
    model_type = str(settings["model_type"])
    main, sliding = _rotary(settings)
    entries = {name: main[name] for name in (BASE, PARTIAL) if name in main}
    own_names = OWN_NAMES.get(model_type, {})
    entries |= {own_names[name]: value for name, value in entries.items() if name in own_names}
    if _is_scaled(main) and model_type not in WITHOUT_SCALING:
        entries["rope_scaling"] = {
            name: value for name, value in main.items() if name not in (BASE, PARTIAL)
        }
    if sliding and model_type in SLIDING_BASE:
        entries[SLIDING_BASE[model_type]] = sliding[BASE]

    # The attention that acts on all settings.
    if any(settings.get(name) for name in EAGER_ONLY):
        entries["_attn_implementation"] = "eager"  # version 4 reads the name with the underscore
    return entries


def version_4_misreading(settings: Mapping[str, Json]) -> str | None:
    """Return how transformers 4 reads another model from a config.json; None where it does not."""
    model_type = str(settings["model_type"])
    main, sliding = _rotary(settings)
    for (architecture, name), reading in READ_OTHERWISE.items():
        if architecture == model_type and settings.get(name):
            return f"its {model_type} {reading}"
    if _is_scaled(main) and model_type in WITHOUT_SCALING:
        return f"its {model_type} has no rotary scaling"
    if sliding and _is_scaled(sliding):
        return f"its {model_type} has no rotary scaling for layers with a sliding window"
    if sliding and sliding[BASE] != main[BASE] and model_type not in SLIDING_BASE:
        return f"its {model_type} has one rotary base for all layers"
    return None


def _rotary(settings: Mapping[str, Json]) -> tuple[Mapping[str, Json], Mapping[str, Json]]:
    """Return the rotary settings of most layers, and those of layers with a sliding window.

    The latter are empty where all layers share one set.
    """
    parameters = _object_or_empty(settings.get("rope_parameters"))
    if not any(isinstance(value, Mapping) for value in parameters.values()):
        return parameters, {}
    full = _object_or_empty(parameters.get("full_attention"))
    return full, _object_or_empty(parameters.get("sliding_attention"))


def _object_or_empty(value: Json) -> Mapping[str, Json]:
    """Return a JSON object as it is, and an empty one for any other value."""
    if isinstance(value, Mapping):
        return value
    return {}


def _is_scaled(rotary: Mapping[str, Json]) -> bool:
    return rotary.get("rope_type", "default") != "default"
