"""What the JSON files of an exported folder say, so that others read the same tokenizer and the same model from it.

transformers 4 and 5, vLLM and `lm_eval --model hf` load the folder unchanged. transformers 5 alone writes files that 4
refuses (the tokenizer's class) or, in silence, takes for another model (the rotary settings).
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.artifacts import read_json, write_json

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")
SCALING_EXCEPT = ("rope_theta", "partial_rotary_factor")
"""Entries of `rope_parameters` that transformers 4 reads beside `rope_scaling`, not in it."""
GPT_NEOX = ("gpt_neox", "gpt_neox_japanese")
"""Architectures that in transformers 4 have names of their own for the rotary base and the rotated share."""


def publish_tokenizer(source: Path, folder: Path, parse_special_tokens: bool) -> None:
    """Copy data_dir/tokenizer so that whoever loads the copy gets the ids that training saw.

    `parse_special_tokens`: whether the text of a special token in a document became that token, as `tokens` says.
    """
    for name in TOKENIZER_FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, folder / name)
    settings = read_json(folder / "tokenizer_config.json")
    write_json(folder / "tokenizer_config.json", settings | {"split_special_tokens": not parse_special_tokens})


def publish_config(folder: Path, end_of_document: int) -> None:
    """Complete config.json and generation_config.json of a folder that `save_pretrained` wrote.

    `end_of_document`: the id after every document, so also what stands before one: no other first token was trained.
    """
    for name in ("config.json", "generation_config.json"):
        settings = read_json(folder / name)
        if settings is None:
            continue
        settings["bos_token_id"] = end_of_document
        settings["eos_token_id"] = with_end(settings.get("eos_token_id"), end_of_document)
        if name == "config.json":
            settings |= version_4_entries(settings)
        _write_settings(folder / name, settings)


def with_end(ends: Any, end_of_document: int) -> int | list[int]:
    """Return the ids that end a text: those of a pretrained model where the end of a document is one of them."""
    if isinstance(ends, list) and end_of_document in ends:
        return ends
    return end_of_document


def version_4_entries(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rotary settings of a config.json under the names by which transformers 4 reads them.

    transformers 5 keeps them in `rope_parameters`: one set, or one for each type of layer. 4 does not know that entry and
    takes its own defaults without a word. 5 reads both and prefers `rope_parameters`.
    """
    parameters: dict[str, Any] = settings.get("rope_parameters") or {}
    of_layers = {name: value for name, value in parameters.items() if isinstance(value, dict)}
    main = of_layers.get("full_attention") or parameters
    entries = {name: main[name] for name in SCALING_EXCEPT if name in main}
    if main.get("rope_type", "default") != "default":
        entries["rope_scaling"] = {name: value for name, value in main.items() if name not in SCALING_EXCEPT}
    if "sliding_attention" in of_layers:  # gemma3
        entries["rope_local_base_freq"] = of_layers["sliding_attention"]["rope_theta"]
    if settings["model_type"] in GPT_NEOX:
        names = {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}
        entries |= {names[name]: value for name, value in entries.items() if name in names}
    return entries


def _write_settings(file: Path, settings: Mapping[str, Any]) -> None:
    """Write as `save_pretrained` does: two spaces, sorted."""
    file.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
