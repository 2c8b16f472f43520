"""The types of the tokenizer report: what is measured, and what the vocabulary costs the model."""

from typing import Literal, TypedDict


class TextSize(TypedDict):
    """Text that is measured on."""

    documents: int
    bytes: int
    characters: int
    words: int
    """Runs of characters that are no white space."""


class SampledSize(TextSize):
    """The sample of one source."""

    held_out_bytes: int
    """Bytes of it that are held out from training."""


class Sampled(TypedDict):
    """The texts that a report measures on."""

    bytes_per_source_at_most: int
    characters_per_document_at_most: int
    sources: dict[str, SampledSize]
    sources_without_text: list[str]


class TokenRates(TypedDict):
    """How a tokenizer divides a text; None where there is nothing to divide by."""

    tokens: int
    bytes_per_token: float | None
    characters_per_token: float | None
    tokens_per_word: float | None
    byte_fallback_share: float | None
    """Fraction of the tokens that are bytes of a character which no piece holds."""
    single_byte_share: float | None
    """Fraction of the tokens that are one byte."""


class PieceEntry(TypedDict):
    """One id of a vocabulary."""

    id: int
    text: str


class LongPiece(PieceEntry):
    """One of the longest pieces."""

    characters: int


class FrequentPiece(PieceEntry):
    """One of the most frequent pieces."""

    share: float
    """Fraction of all tokens."""


class TokenizerFigures(TypedDict):
    """What is measured of one tokenizer."""

    kind: Literal["byte-level", "sentencepiece", "other"]
    vocab_size: int
    """Ids that have a piece."""
    special: list[PieceEntry]
    single_byte_pieces: int
    unused_in_sample: int
    """Ids that do not occur."""
    unused_share: float
    """Fraction of the ids that do not occur."""
    longest_pieces: list[LongPiece]
    frequent_pieces: list[FrequentPiece]
    sources: dict[str, TokenRates]
    all: TokenRates


class NamedFigures(TokenizerFigures):
    """What is measured of a tokenizer of some name; this run's own has none."""

    name: str


class EmbeddingSize(TypedDict):
    """What an embedding takes at one vocabulary size."""

    vocab_size: int
    rows: int
    """Ids and what pads them."""
    embedding_parameters: int
    share: float | None
    """Fraction of the model's parameters; None where the others are not known."""


class VocabularyEffect(TypedDict):
    """What the embedding takes at several vocabulary sizes."""

    width: int
    tied: bool | None
    """Whether input and output share a matrix; None where the settings do not say it."""
    own_vocab_size: int
    other_parameters: int | None
    """The model's other parameters; None before a run has been trained."""
    sizes: list[EmbeddingSize]


class Measured(TypedDict):
    """What does not depend on the run."""

    sample: Sampled
    tokenizer: NamedFigures
    compared: list[NamedFigures]


class TokenizerReport(Measured):
    """The whole report."""

    model: VocabularyEffect | None
    """None where the model's width is not known."""
