"""Types of the tokenizer report: what is measured, and what the vocabulary costs the model."""

from typing import TypedDict

from pipeline.tokens.pieces import PieceKind


class TextSize(TypedDict):
    """Size of the text that a tokenizer is measured on."""

    documents: int
    bytes: int
    characters: int
    words: int
    """Runs of characters that are not white space."""


class SampledSize(TextSize):
    """Size of the sample of one source."""

    held_out_bytes: int
    """Bytes that are held out from training."""


class Sampled(TypedDict):
    """Sizes of the texts that tokenizers are measured on, and the bounds of that sample."""

    bytes_per_source_at_most: int
    characters_per_document_at_most: int
    sources: dict[str, SampledSize]
    sources_without_text: list[str]


class TokenRates(TypedDict):
    """Rates of a tokenizer on one text; None where they would divide by 0."""

    tokens: int
    bytes_per_token: float | None
    characters_per_token: float | None
    tokens_per_word: float | None
    byte_fallback_share: float | None
    """Fraction of the tokens that are bytes of a character that has no piece."""
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
    """Figures of one tokenizer."""

    kind: PieceKind
    vocab_size: int
    """Ids that have a piece."""
    special: list[PieceEntry]
    single_byte_pieces: int
    unused_in_sample: int
    """Ids that do not occur in the sample."""
    unused_share: float
    """Fraction of the ids that do not occur in the sample."""
    longest_pieces: list[LongPiece]
    frequent_pieces: list[FrequentPiece]
    sources: dict[str, TokenRates]
    all: TokenRates
    """Rates on the texts of all sources together."""


class NamedFigures(TokenizerFigures):
    """Figures of a tokenizer, with its name."""

    name: str
    """Empty for the run's own tokenizer."""


class EmbeddingSize(TypedDict):
    """Size of an embedding at one vocabulary size."""

    vocab_size: int
    rows: int
    """Ids, and rows that pad their number."""
    embedding_parameters: int
    share: float | None
    """Fraction of the model's parameters; None where their number is not known."""


class VocabularyEffect(TypedDict):
    """Sizes of the embedding at several vocabulary sizes."""

    width: int
    """Values per id."""
    tied: bool | None
    """Whether input and output share a matrix; None if the settings do not decide it."""
    own_vocab_size: int
    other_parameters: int | None
    """Parameters besides the embedding; None before a run has been trained."""
    sizes: list[EmbeddingSize]


class Measured(TypedDict):
    """The part of the report that does not depend on the run."""

    sample: Sampled
    tokenizer: NamedFigures
    compared: list[NamedFigures]


class TokenizerReport(Measured):
    """The whole report."""

    model: VocabularyEffect | None
    """None where the model's width is not known."""
