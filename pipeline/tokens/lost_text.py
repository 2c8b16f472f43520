"""Measure how much of each source's text a pretrained tokenizer loses.

Text is lost where decoding does not give it back, or where it becomes the unknown token. A
tokenizer that was made elsewhere may know few of a corpus's characters, or drop them; its ids are
then still those of its reference, and a model learns from what is left. Such a tokenizer may be
meant to change case, Unicode forms, accents and white space: that is counted as text that does not
come back as it was, but not as lost. Reads data_dir/documents and data_dir/tokenizer.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tokenizers import Tokenizer

from pipeline.config.run_config import RunConfig
from pipeline.corpus.selecting.kept_documents import kept_documents
from pipeline.errors import DataError
from pipeline.logs import warn
from pipeline.store.pretrained_folders import TOKENIZER_JSON
from pipeline.tokens.encode import load_reference
from pipeline.tokens.tokenizer_json import read_description, special_token, unknown_of_model
from pipeline.tokens.tokenizer_report import measured_texts

SAMPLE_BYTES = 200_000
"""Maximum size of the text that is checked for one source: a tenth of a second to encode."""
PIECE_CHARACTERS = 1_000
"""Characters of the pieces that documents are cut into; each is compared with its decoding."""


@dataclass(frozen=True)
class LostText:
    """How much of a source's sample a tokenizer loses."""

    pieces: int
    pieces_that_come_back: int
    """Pieces that decoding gives back exactly."""
    tokens: int
    unknown_tokens: int
    characters: int
    """Characters without white space and combining marks, whatever their case."""
    lost_characters: int
    """Counted characters that decoding does not give back."""

    @property
    def unknown_share(self) -> float:
        """Fraction of the tokens that are the unknown token."""
        return self.unknown_tokens / max(self.tokens, 1)

    @property
    def lost_share(self) -> float:
        """Fraction of the counted characters that are lost."""
        return self.lost_characters / max(self.characters, 1)

    def __str__(self) -> str:
        return (
            f"{self.pieces_that_come_back} of {self.pieces} pieces of its text come back as they "
            f"were, {self.unknown_share:.2%} of the ids are the unknown token, "
            f"{self.lost_share:.2%} of the letters are lost"
        )


def refuse_lost_text(config: RunConfig, folder: Path) -> dict[str, dict[str, int]]:
    """Measure the tokenizer in `folder` on every source, and refuse one that loses too much text.

    Returns the counts by source, for the report; warns of each source whose text does not come back
    as it was. Raises DataError naming every source that loses more than `tokenizer.max_lost_share`.
    """
    # Measure a sample of every source with text.
    fast = load_reference(folder)
    unknown = unknown_ids(folder)
    documents = kept_documents(config)
    losses: dict[str, LostText] = {}
    for name, source in config.sources.items():
        if source.has_documents:
            splits = measured_texts(documents, name, SAMPLE_BYTES).values()
            losses[name] = measure(fast, unknown, [text for split in splits for text in split])

    # Refuse the tokenizer where a source loses too much.
    limit = config.tokenizer.max_lost_share
    refused = [f"source {name}: {loss}" for name, loss in losses.items() if _share(loss) > limit]
    if refused:
        raise DataError(
            f"tokenizer.path = {config.tokenizer.path}: does not hold the text that it encodes.\n  "
            + "\n  ".join(refused)
            + f"\nAt most tokenizer.max_lost_share = {limit} of a source may be lost. Use a "
            "tokenizer with a token for every byte, or raise tokenizer.max_lost_share if this loss "
            "is wanted."
        )

    # A smaller loss may be wanted, but is reported.
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
    """Encode and decode the texts, and count what is lost.

    `unknown`: ids that stand for text which the vocabulary lacks.
    """
    pieces = list(_pieces(texts))
    encodings = fast.encode_batch(pieces, add_special_tokens=False)
    same = 0
    tokens = 0
    unknown_tokens = 0
    characters = 0
    lost = 0
    for piece, encoding in zip(pieces, encodings, strict=True):
        known_ids = [number for number in encoding.ids if number not in unknown]
        tokens += len(encoding.ids)
        unknown_tokens += len(encoding.ids) - len(known_ids)
        decoded = fast.decode(known_ids, skip_special_tokens=False)
        if len(known_ids) == len(encoding.ids) and decoded == piece:
            same += 1
        written = letters(piece)
        characters += written.total()
        lost += (written - letters(decoded)).total()
    return LostText(len(pieces), same, tokens, unknown_tokens, characters, lost)


def letters(text: str) -> Counter[str]:
    """Count a text's characters, whatever their case and Unicode form.

    White space and combining marks are left out.
    """
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return Counter(
        character
        for character in plain
        if not (character.isspace() or unicodedata.combining(character))
    )


def unknown_ids(folder: Path) -> frozenset[int]:
    """Return the ids of the unknown token that tokenizer.json and tokenizer_config.json name."""
    description = read_description(folder / TOKENIZER_JSON)
    model = description["model"]
    vocabulary = {token["content"]: token["id"] for token in description["added_tokens"]}
    if isinstance(model["vocab"], dict):
        vocabulary |= model["vocab"]
    unknown = unknown_of_model(model)
    unknown_id = model.get("unk_id")
    if unknown is not None and unknown_id is not None:
        vocabulary[unknown] = unknown_id
    names = (unknown, special_token(folder, "unk_token"))
    return frozenset(vocabulary[name] for name in names if name in vocabulary)


def _pieces(texts: Sequence[str]) -> Iterator[str]:
    """Cut the texts into pieces of PIECE_CHARACTERS."""
    for text in texts:
        for start in range(0, len(text), PIECE_CHARACTERS):
            yield text[start : start + PIECE_CHARACTERS]
