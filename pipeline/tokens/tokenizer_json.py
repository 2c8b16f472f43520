"""The JSON files of a fast tokenizer as types, and what several readers ask of them.

Reads tokenizer.json and tokenizer_config.json, the files of the `tokenizers` library and of
transformers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NotRequired, TypedDict

import orjson

from pipeline.store.files import read_json
from pipeline.store.pretrained_folders import TOKENIZER_CONFIG
from pipeline.store.records import Json


class AddedTokenEntry(TypedDict):
    """A token that is found in a text before the model sees it."""

    id: int
    content: str
    special: bool


class ModelEntry(TypedDict):
    """The model of a tokenizer. Only the entries that are read here."""

    vocab: dict[str, int] | list[tuple[str, float]]
    """Piece -> id; of a unigram model each piece with its score in nats, in the order of ids."""
    byte_fallback: NotRequired[bool]
    """Whether a character without a piece becomes pieces `<0xNN>`."""
    unk_id: NotRequired[int | None]
    """Id of the unknown token of a unigram model."""
    unk_token: NotRequired[str | None]
    """Unknown token of any other model."""


class TokenizerDescription(TypedDict):
    """Content of tokenizer.json. Only the entries that are read here."""

    model: ModelEntry
    added_tokens: list[AddedTokenEntry]
    pre_tokenizer: Json
    decoder: Json


def read_description(file: Path) -> TokenizerDescription:
    """Read a tokenizer.json. Raises ValueError where it is not JSON."""
    return orjson.loads(file.read_bytes())


def ids_of_model(model: ModelEntry) -> dict[str, int]:
    """Return the id of every piece of the model, added tokens left out."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):
        return {piece: number for number, (piece, _) in enumerate(vocabulary)}
    return vocabulary


def unknown_of_model(model: ModelEntry) -> str | None:
    """Return the token for text that the vocabulary lacks; None where the model has none."""
    vocabulary = model["vocab"]
    unknown_id = model.get("unk_id")
    if unknown_id is not None and isinstance(vocabulary, list):
        return vocabulary[unknown_id][0]
    return model.get("unk_token")


def special_token(folder: Path, role: str) -> str | None:
    """Return a token that tokenizer_config.json names, such as `eos_token`; None without one."""
    settings: Json = read_json(folder / TOKENIZER_CONFIG)
    if not isinstance(settings, Mapping):
        return None
    token = settings.get(role)
    if isinstance(token, Mapping):
        token = token.get("content")
    if isinstance(token, str):
        return token
    return None
