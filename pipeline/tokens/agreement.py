"""Whether two tokenizers give the same ids: the one that a model was trained with, and the one that
makes its next tokens.

Reads tokenizer.json, and tokenizer_config.json in a transformers folder; imports no torch.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DataError
from pipeline.store.files import fingerprint
from pipeline.store.pretrained_folders import TOKENIZER_JSON
from pipeline.tokens.tokenizer_folder import EDGE_STRINGS
from pipeline.tokens.tokenizer_json import special_token

PROBE_TEXTS = (
    *EDGE_STRINGS,
    "The quick brown fox jumps over the lazy dog; it's 12,345.67 km away!",
    "def f(x):\n    return {k: v ** 2 for k, v in x.items()}  # squares\n",
    "Größe, naïve façade, Ελληνικά, Привет мир, שלום עולם, 東京都, 안녕하세요, नमस्ते",
    "https://example.org/a_b?c=1&d=%20#e  <b>bold</b> \\frac{a}{b} $x_1$",
)
"""Texts whose ids are compared."""
MOST_NAMED = 3
"""Tokens, and texts, that a message names."""
BEHIND_ALL_IDS = 1 << 62
"""Sorts tokens without an id behind all others."""


@dataclass(frozen=True)
class TokenizerIds:
    """What two tokenizers are compared by."""

    vocabulary: dict[str, int]
    """Token -> id, added tokens included."""
    probes: list[list[int]]
    """Ids of each of PROBE_TEXTS; a special token that is written in a text stays text."""
    end_of_document: int | None
    """None where a folder names no eos_token."""

    def digest(self) -> str:
        """Return a hash that is the same for tokenizers that agree."""
        return fingerprint([sorted(self.vocabulary.items()), self.probes, self.end_of_document])


def own_ids(folder: Path, end_of_document: int) -> TokenizerIds:
    """Read a folder that `train-tokenizer` wrote; its manifest has the end-of-document id."""
    vocabulary, probes = _read(folder / TOKENIZER_JSON)
    return TokenizerIds(vocabulary, probes, end_of_document)


def folder_ids(folder: Path) -> TokenizerIds:
    """Read the tokenizer of a transformers folder.

    Raises DataError where tokenizer.json is missing, or is not a tokenizer.
    """
    file = folder / TOKENIZER_JSON
    if not file.is_file():
        raise DataError(
            f"model.pretrained = {folder}: holds no tokenizer.json, so the meaning of its ids is "
            "not known. Save the model's tokenizer there: "
            "AutoTokenizer.from_pretrained(...).save_pretrained(folder)"
        )
    vocabulary, probes = _read(file)
    end_token = special_token(folder, "eos_token")
    end_of_document = None
    if end_token is not None:
        end_of_document = vocabulary.get(end_token)
    return TokenizerIds(vocabulary, probes, end_of_document)


def disagreements(ours: TokenizerIds, theirs: TokenizerIds) -> list[str]:
    """Describe each difference, with the first tokens and texts; empty where the two agree."""
    # The vocabularies, in the order of our ids.
    problems: list[str] = []
    if len(ours.vocabulary) != len(theirs.vocabulary):
        problems.append(
            f"{len(ours.vocabulary)} tokens in data_dir/tokenizer, {len(theirs.vocabulary)} in the "
            "model's"
        )
    tokens = sorted(
        {*ours.vocabulary, *theirs.vocabulary},
        key=lambda token: (ours.vocabulary.get(token, BEHIND_ALL_IDS), token),
    )
    differing = [
        token for token in tokens if ours.vocabulary.get(token) != theirs.vocabulary.get(token)
    ]
    problems += [
        f"token {token!r} is {_id_in_words(ours.vocabulary.get(token))} in data_dir/tokenizer, "
        f"{_id_in_words(theirs.vocabulary.get(token))} in the model's"
        for token in differing[:MOST_NAMED]
    ]
    if len(differing) > MOST_NAMED:
        problems.append(f"and {len(differing) - MOST_NAMED} further tokens")

    # Where tokens have different ids, texts have too, so texts need no check.
    if not differing:
        pairs = zip(PROBE_TEXTS, ours.probes, theirs.probes, strict=True)
        texts = [text for text, our_ids, their_ids in pairs if our_ids != their_ids]
        problems += [f"the text {text[:40]!r} has different ids" for text in texts[:MOST_NAMED]]

    # A folder without an eos_token does not define the end of a document.
    if theirs.end_of_document not in (None, ours.end_of_document):
        problems.append(
            f"documents end with id {ours.end_of_document} in data_dir, with "
            f"{theirs.end_of_document} (eos_token) in the model's"
        )
    return problems


def _id_in_words(number: int | None) -> str:
    if number is None:
        return "no token"
    return f"id {number}"


def _read(file: Path) -> tuple[dict[str, int], list[list[int]]]:
    """Return a tokenizer's vocabulary, and its ids of PROBE_TEXTS."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # `tokenizers` raises bare Exceptions
        raise DataError(
            f"{file}: is no tokenizer of the tokenizers library ({json.dumps(str(error)[:200])})"
        ) from None
    tokenizer.encode_special_tokens = True
    tokenizer.no_padding()
    tokenizer.no_truncation()
    probes = [tokenizer.encode(text, add_special_tokens=False).ids for text in PROBE_TEXTS]
    return tokenizer.get_vocab(with_added_tokens=True), probes
