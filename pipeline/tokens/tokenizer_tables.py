"""The tokenizer report as tables, the same for the terminal and for the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.harmless_text import visible
from pipeline.logs import human_bytes, number_or_blank
from pipeline.tokens.pieces import PieceKind
from pipeline.tokens.tokenizer_figures import (
    TokenizerFigures,
    TokenizerReport,
    TokenRates,
    VocabularyEffect,
)

PIECE_CHARACTERS = 48
"""Characters of a piece that the tables show."""

MEANING_OF_FALLBACK: Mapping[PieceKind, str] = {
    "byte-level": "tokens of one byte that is part of a character of several bytes",
    "sentencepiece": "pieces <0xNN>, used where no other piece fits",
    "other": "of no meaning for this kind of tokenizer",
}
"""Kind of vocabulary -> tokens that count as byte fallback."""
MATRICES: Mapping[bool | None, str] = {
    True: "one matrix for input and output (tied)",
    False: "two matrices, input and output (untied)",
    None: (
        "the input matrix alone: model.config does not say tie_word_embeddings; untied takes twice "
        "as many"
    ),
}
"""`tie_word_embeddings` -> the matrices that are counted."""


@dataclass(frozen=True)
class Table:
    """A titled table of formatted cells; the first column is text, the others are figures."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    is_small: bool = False
    """Whether the table has room beside another one."""


def tables(report: TokenizerReport) -> list[Table]:
    """Return the report's tables, without those that would be empty."""
    candidates = [
        _sources(report),
        _comparison(report),
        *_pieces(report["tokenizer"]),
        _sizes(report["model"]),
    ]
    return [table for table in candidates if table is not None and table.rows]


def vocabulary_line(tokenizer: TokenizerFigures) -> str:
    """Describe the vocabulary in one sentence."""
    special = ", ".join(f"{token['id']} {visible(token['text'])}" for token in tokenizer["special"])
    unused = "there is no text to measure it on."
    if tokenizer["all"]["tokens"]:
        unused = (
            f"{tokenizer['unused_in_sample']:,} ids ({tokenizer['unused_share']:.1%}) do not occur "
            "in the sample."
        )
    return (
        f"{tokenizer['vocab_size']:,} ids ({tokenizer['kind']}), {tokenizer['single_byte_pieces']} "
        f"of them single bytes; special: {special or 'none'}; {unused}"
    )


def _sources(report: TokenizerReport) -> Table:
    """Return the table of rates, a row for each source."""
    # One row for each source, blank without text, and one for all of them.
    sample = report["sample"]
    tokenizer = report["tokenizer"]
    rows: list[list[str]] = []
    for name, size in sample["sources"].items():
        sizes = [human_bytes(size["bytes"]), human_bytes(size["held_out_bytes"])]
        rows.append([name, *sizes, *_rates(tokenizer["sources"][name])])
    rows += [[name, *["—"] * 7] for name in sample["sources_without_text"]]
    sampled = human_bytes(sum(size["bytes"] for size in sample["sources"].values()))
    held_out = human_bytes(sum(size["held_out_bytes"] for size in sample["sources"].values()))
    rows.append(["all", sampled, held_out, *_rates(tokenizer["all"])])

    # The meaning of the columns for this kind of tokenizer.
    head = ["source", "sample", "held out", "bytes per token", "chars per token", "tokens per word"]
    return Table(
        "Rates per source",
        [*head, "byte fallback", "single bytes"],
        rows,
        f"Held-out documents first, then training documents, each cut at "
        f"{sample['characters_per_document_at_most']:,} characters, at most "
        f"{human_bytes(sample['bytes_per_source_at_most'])} a source. A word is a run of "
        "characters that are not white space. Byte fallback: "
        f"{MEANING_OF_FALLBACK[tokenizer['kind']]}. Single bytes: tokens of one byte, letters and "
        "digits included. End-of-document tokens are not counted.",
    )


def _rates(row: TokenRates) -> list[str]:
    """Return the cells of one text's rates."""
    return [
        number_or_blank(row["bytes_per_token"], ".2f"),
        number_or_blank(row["characters_per_token"], ".2f"),
        number_or_blank(row["tokens_per_word"], ".2f"),
        number_or_blank(row["byte_fallback_share"], ".2%"),
        number_or_blank(row["single_byte_share"], ".2%"),
    ]


def _comparison(report: TokenizerReport) -> Table | None:
    """Return the table of other tokenizers on the same text; None where there are none."""
    if not report["compared"]:
        return None
    tokenizers = [report["tokenizer"], *report["compared"]]
    rows = [["ids", *(f"{tokenizer['vocab_size']:,}" for tokenizer in tokenizers)]]
    for source in report["sample"]["sources"]:
        rates = [tokenizer["sources"][source] for tokenizer in tokenizers]
        rows.append([source, *map(_bytes_per_token, rates)])
    rows.append(["all", *(_bytes_per_token(tokenizer["all"]) for tokenizer in tokenizers)])
    return Table(
        "Bytes per token, beside other tokenizers",
        ["", "this run's", *(visible(tokenizer["name"]) for tokenizer in report["compared"])],
        rows,
        "The same text for all (tokenizer.compare). More bytes per token: shorter sequences for "
        "the same text.",
    )


def _bytes_per_token(rates: TokenRates) -> str:
    return number_or_blank(rates["bytes_per_token"], ".2f")


def _pieces(tokenizer: TokenizerFigures) -> list[Table]:
    """Return the tables of the longest and the most frequent pieces."""
    longest = [
        [piece_text(piece["text"]), f"{piece['characters']}", f"{piece['id']}"]
        for piece in tokenizer["longest_pieces"]
    ]
    frequent = [
        [piece_text(piece["text"]), number_or_blank(piece["share"], ".2%"), f"{piece['id']}"]
        for piece in tokenizer["frequent_pieces"]
    ]
    return [
        Table("Longest pieces", ["piece", "characters", "id"], longest, is_small=True),
        Table("Most frequent pieces", ["piece", "of all tokens", "id"], frequent, is_small=True),
    ]


def piece_text(text: str) -> str:
    """Return a piece on one line of at most PIECE_CHARACTERS, each space as `␣`.

    A piece of one repeated character becomes `#, 64 times`.
    """
    if len(text) > 4 and len(set(text)) == 1:
        return f"{piece_text(text[0])}, {len(text)} times"
    shown = visible(text).replace(" ", "␣")
    if len(shown) <= PIECE_CHARACTERS:
        return shown
    return shown[: PIECE_CHARACTERS - 1] + "…"


def _sizes(model: VocabularyEffect | None) -> Table | None:
    """Return the table of vocabulary sizes; None where the model's width is not known."""
    if model is None:
        return None

    # The share of the model needs the other parameters.
    others = model["other_parameters"]
    head = ["ids", "rows", "embedding parameters"]
    note_on_others = "The share of the whole model is known once the run has been trained."
    if others is not None:
        head.append("of the model")
        note_on_others = f"All other parameters: {others:,}."

    # One row for each size.
    rows: list[list[str]] = []
    for size in model["sizes"]:
        ids = f"{size['vocab_size']:,}"
        if size["vocab_size"] == model["own_vocab_size"]:
            ids += " (this run's)"
        row = [ids, f"{size['rows']:,}", f"{size['embedding_parameters']:,}"]
        if others is not None:
            row.append(f"{size['share']:.1%}")
        rows.append(row)
    return Table(
        "What the vocabulary's size costs the model",
        head,
        rows,
        f"Rows x width {model['width']:,}, {MATRICES[model['tied']]}. {note_on_others}",
    )
