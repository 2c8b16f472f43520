"""Whether two tokenizers give the same ids: what a model was trained with, and what its next tokens
are made by.

Reads tokenizer.json, and in a transformers folder tokenizer_config.json; imports no torch.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.store.files import fingerprint, read_json
from pipeline.store.pretrained_folders import TOKENIZER_CONFIG, TOKENIZER_JSON
from pipeline.tokens.tokenizer_folder import EDGE_STRINGS

PROBE_TEXTS = (
    *EDGE_STRINGS,
    "The quick brown fox jumps over the lazy dog; it's 12,345.67 km away!",
    "def f(x):\n    return {k: v ** 2 for k, v in x.items()}  # squares\n",
    "Größe, naïve façade, Ελληνικά, Привет мир, שלום עולם, 東京都, 안녕하세요, नमस्ते",
    "https://example.org/a_b?c=1&d=%20#e  <b>bold</b> \\frac{a}{b} $x_1$",
)
SHOWN = 3


@dataclass(frozen=True)
class Ids:
    """What a tokenizer gives."""

    vocabulary: dict[str, int]
    """Token -> id, added tokens too."""
    probes: list[list[int]]
    """Ids of each of PROBE_TEXTS; the text of a special token stays text."""
    end_of_document: int | None
    """None where a folder names no eos_token."""

    def digest(self) -> str:
        """Return a hash that two tokenizers share where they agree."""
        return fingerprint([sorted(self.vocabulary.items()), self.probes, self.end_of_document])


def own_ids(folder: Path, end_of_document: int) -> Ids:
    """Read a folder that `train-tokenizer` wrote; its report knows the end-of-document id."""
    vocabulary, probes = _read(folder / TOKENIZER_JSON)
    return Ids(vocabulary, probes, end_of_document)


def folder_ids(folder: Path) -> Ids:
    """Read the tokenizer of a transformers folder. Raises DataError where there is none that can be
    compared."""
    file = folder / TOKENIZER_JSON
    if not file.is_file():
        raise DataError(
            f"model.pretrained = {folder}: holds no tokenizer.json, so that nothing says what its "
            "ids mean. Save the model's "
            "tokenizer there: AutoTokenizer.from_pretrained(...).save_pretrained(folder)"
        )
    vocabulary, probes = _read(file)
    settings = read_json(folder / TOKENIZER_CONFIG)
    end: Any = settings.get("eos_token") if isinstance(settings, dict) else None
    token = end.get("content") if isinstance(end, dict) else end
    return Ids(vocabulary, probes, vocabulary.get(token) if isinstance(token, str) else None)


def disagreements(ours: Ids, theirs: Ids) -> list[str]:
    """Name what differs, the first tokens and texts of each kind; nothing where the two agree."""
    # The vocabularies.
    problems = []
    if len(ours.vocabulary) != len(theirs.vocabulary):
        problems.append(
            f"{len(ours.vocabulary)} tokens in data_dir/tokenizer, {len(theirs.vocabulary)} in the "
            "model's"
        )
    tokens = sorted(
        {*ours.vocabulary, *theirs.vocabulary}, key=lambda t: (ours.vocabulary.get(t, 1 << 62), t)
    )
    differing = [
        token for token in tokens if ours.vocabulary.get(token) != theirs.vocabulary.get(token)
    ]
    problems += [
        f"token {token!r} is {_shown(ours.vocabulary.get(token))} in data_dir/tokenizer, "
        f"{_shown(theirs.vocabulary.get(token))} in the model's"
        for token in differing[:SHOWN]
    ]
    if len(differing) > SHOWN:
        problems.append(f"and {len(differing) - SHOWN} further tokens")

    # Other ids of a text say something new only where every token has the same id.
    if not differing:
        pairs = zip(PROBE_TEXTS, ours.probes, theirs.probes, strict=True)
        texts = [text for text, mine, other in pairs if mine != other]
        problems += [f"the text {text[:40]!r} has other ids" for text in texts[:SHOWN]]

    # A folder without an eos_token leaves the end of a document open.
    if theirs.end_of_document not in (None, ours.end_of_document):
        problems.append(
            f"documents end with id {ours.end_of_document} in data_dir, with "
            f"{theirs.end_of_document} (eos_token) in the model's"
        )
    return problems


def _shown(number: int | None) -> str:
    if number is None:
        return "no token"
    return f"id {number}"


def _read(file: Path) -> tuple[dict[str, int], list[list[int]]]:
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
