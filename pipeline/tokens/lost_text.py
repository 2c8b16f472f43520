"""How much of each source's text a tokenizer loses: what decoding does not give back, and ids of
the unknown token.

A tokenizer that is taken as it is may know few of a corpus's characters, or drop them. Its ids are
then "exact", and a model learns from what is left. Lower-casing, Unicode forms, accents and white
space are what such a tokenizer is meant to change: they count as text that does not come back as it
was, not as lost.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tokenizers import Tokenizer

from pipeline.config.run_config import RunConfig
from pipeline.errors import DataError
from pipeline.logs import warn
from pipeline.store.files import read_json
from pipeline.store.layout import data_folder
from pipeline.store.pretrained_folders import TOKENIZER_CONFIG, TOKENIZER_JSON
from pipeline.tokens.encode import load_reference
from pipeline.tokens.pretrained import unknown_of_model
from pipeline.tokens.tokenizer_report import sample

SAMPLE_BYTES = 200_000
"""Bytes of text per source at most: a tenth of a second to encode."""
PIECE_CHARACTERS = 1_000
"""Documents are cut into pieces of this length, each of which comes back as it was or does not."""


@dataclass(frozen=True)
class LostText:
    """What a tokenizer makes of a source's sample."""

    pieces: int
    pieces_that_come_back: int
    """Those that decoding gives back to the letter."""
    tokens: int
    unknown_tokens: int
    characters: int
    """Without white space and combining marks, case aside."""
    lost_characters: int
    """Those of them that decoding does not give back."""

    @property
    def unknown_share(self) -> float:
        return self.unknown_tokens / max(self.tokens, 1)

    @property
    def lost_share(self) -> float:
        return self.lost_characters / max(self.characters, 1)

    def __str__(self) -> str:
        return (
            f"{self.pieces_that_come_back} of {self.pieces} pieces of its text come back as they "
            "were, "
            f"{self.unknown_share:.2%} of the ids are the unknown token, {self.lost_share:.2%} of "
            "the letters are lost"
        )


def refuse_lost_text(config: RunConfig, folder: Path) -> dict[str, dict[str, int]]:
    """Measure the tokenizer in `folder` on a sample of every source, and warn of each whose text
    does not come back.

    Returns the counts by source, for the report. Raises DataError naming every source of which more
    than `tokenizer.max_lost_share` is lost.
    """
    # Measure a sample of every source with text.
    fast = load_reference(folder)
    unknown = unknown_ids(folder)
    documents = data_folder(config).documents
    losses = {}
    for name, source in config.sources.items():
        if source.has_documents:
            texts = [
                text for split in sample(documents, name, SAMPLE_BYTES).values() for text in split
            ]
            losses[name] = measure(fast, unknown, texts)

    # Refuse the tokenizer where a source loses too much.
    limit = config.tokenizer.max_lost_share
    refused = [f"source {name}: {loss}" for name, loss in losses.items() if _share(loss) > limit]
    if refused:
        raise DataError(
            f"tokenizer.path = {config.tokenizer.path}: does not hold the text that it encodes.\n  "
            + "\n  ".join(refused)
            + f"\nAt most tokenizer.max_lost_share = {limit} of a source may be lost. "
            "Take a tokenizer that knows every byte, or set tokenizer.max_lost_share higher if this loss is wanted."
        )

    # Less than that may be wanted, but is never silent.
    for name, loss in losses.items():
        if loss.pieces_that_come_back < loss.pieces:
            warn(
                f"tokenizer.path = {config.tokenizer.path}: changes the text of source {name}: "
                f"{loss}"
            )
    return {name: asdict(loss) for name, loss in losses.items()}


def _share(loss: LostText) -> float:
    return max(loss.unknown_share, loss.lost_share)


def measure(fast: Tokenizer, unknown: frozenset[int], texts: Sequence[str]) -> LostText:
    """Encode and decode the texts. `unknown`: ids that stand for text which the vocabulary
    lacks."""
    pieces = list(_pieces(texts))
    encodings = fast.encode_batch(pieces, add_special_tokens=False)
    tokens = unknown_tokens = same = characters = lost = 0
    for piece, encoding in zip(pieces, encodings, strict=True):
        held = [number for number in encoding.ids if number not in unknown]
        tokens += len(encoding.ids)
        unknown_tokens += len(encoding.ids) - len(held)
        back = fast.decode(held, skip_special_tokens=False)
        if len(held) == len(encoding.ids) and back == piece:
            same += 1
        given = letters(piece)
        characters += given.total()
        lost += (given - letters(back)).total()
    return LostText(len(pieces), same, tokens, unknown_tokens, characters, lost)


def letters(text: str) -> Counter[str]:
    """Count a text's characters, whatever its case and Unicode form; no white space, no combining
    marks."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return Counter(
        character
        for character in plain
        if not (character.isspace() or unicodedata.combining(character))
    )


def unknown_ids(folder: Path) -> frozenset[int]:
    """Return the ids of the unknown token: the model's own, and that of tokenizer_config.json."""
    description = json.loads((folder / TOKENIZER_JSON).read_bytes())
    settings: Mapping[str, str] = read_json(folder / TOKENIZER_CONFIG) or {}
    model = description["model"]
    vocabulary = {token["content"]: token["id"] for token in description["added_tokens"]}
    if isinstance(model["vocab"], dict):
        vocabulary |= model["vocab"]
    unknown = unknown_of_model(model)
    if unknown is not None and model.get("unk_id") is not None:
        vocabulary[unknown] = model["unk_id"]
    names = (unknown, settings.get("unk_token"))
    return frozenset(vocabulary[name] for name in names if name in vocabulary)


def _pieces(texts: Sequence[str]) -> Iterator[str]:
    for text in texts:
        for start in range(0, len(text), PIECE_CHARACTERS):
            yield text[start : start + PIECE_CHARACTERS]
