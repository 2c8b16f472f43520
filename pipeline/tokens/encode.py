"""Text to ids at speed: gigatoken where it gives exactly the reference's ids, else the reference itself.

The reference is the `tokenizers` backend of the exported fast tokenizer. Special-token text inside a document is
encoded as text, never as the special token.
"""

import json
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from pipeline.artifacts import read_json
from pipeline.errors import DataError

Ids = tuple[np.ndarray, np.ndarray]
"""Concatenated ids `(tokens,) uint32` and documents' lengths in tokens `(documents,) int64`."""


class Encoder(NamedTuple):
    """A loaded tokenizer: `encode` takes an Arrow `large_string` array."""

    reference: Tokenizer
    fast: object | None
    """gigatoken's tokenizer, None where it cannot read this one."""
    end_of_document: int
    vocab_size: int


def load_encoder(folder: Path, kind: Literal["auto", "reference"]) -> Encoder:
    """Load data_dir/tokenizer. Raises DataError where it has no end-of-document token."""
    file = folder / "tokenizer.json"
    reference = Tokenizer.from_file(str(file))
    reference.encode_special_tokens = True
    reference.no_padding()
    reference.no_truncation()
    settings = read_json(folder / "tokenizer_config.json") or {}
    token = settings.get("eos_token")
    token = token.get("content") if isinstance(token, dict) else token
    end = reference.token_to_id(token) if token else None
    if end is None:
        raise DataError(f"{folder}: the tokenizer has no end-of-text token (eos_token in tokenizer_config.json)")
    fast = _load_gigatoken(file.read_text()) if kind == "auto" else None
    return Encoder(reference, fast, end, reference.get_vocab_size(with_added_tokens=True))


def encode_reference(encoder: Encoder, texts: pa.Array) -> Ids:
    """Encode with `tokenizers`."""
    encodings = encoder.reference.encode_batch_fast(texts.to_pylist(), add_special_tokens=False)
    lengths = np.array([len(e.ids) for e in encodings], np.int64)
    ids = np.fromiter((i for e in encodings for i in e.ids), np.uint32, count=int(lengths.sum()))
    return ids, lengths


def encode_fast(encoder: Encoder, texts: pa.Array) -> Ids:
    """Encode with gigatoken, without a Python object per document."""
    import awkward

    encoded = encoder.fast.encode_batch(awkward.from_arrow(texts), parallel=False)  # type: ignore[union-attr]
    lengths = awkward.to_numpy(awkward.num(encoded)).astype(np.int64)
    return awkward.to_numpy(awkward.flatten(encoded)).astype(np.uint32, copy=False), lengths


def agrees(encoder: Encoder, texts: pa.Array) -> bool:
    """Tell whether gigatoken gives the reference's ids for every one of these texts."""
    if encoder.fast is None:
        return False
    try:
        fast = encode_fast(encoder, texts)
    except Exception:  # whatever it cannot encode, the reference encodes
        return False
    slow = encode_reference(encoder, texts)
    return all(np.array_equal(a, b) for a, b in zip(fast, slow, strict=True))


def _load_gigatoken(tokenizer_json: str) -> object | None:
    import gigatoken

    description = json.loads(tokenizer_json)
    if not all(token["special"] for token in description["added_tokens"]):
        return None  # tokens that the reference finds in text whatever the vocabulary says, such as runs of spaces
    description["added_tokens"] = []  # else their text inside a document would become the special token
    try:
        return gigatoken.Tokenizer.from_json(json.dumps(description))
    except Exception:  # a kind of tokenizer that it does not know: the reference encodes
        return None
