"""The tokenizer report as tables, the same ones for the terminal and for the page."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.logs import human_bytes, number_or_blank, visible
from pipeline.tokens.tokenizer_figures import (
    TokenizerFigures,
    TokenizerReport,
    TokenRates,
    VocabularyEffect,
)

PIECE_CHARACTERS = 48
"""A longer piece is cut in the tables."""


@dataclass(frozen=True)
class Table:
    """A titled table of ready text; the first column is text, the others are figures."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    is_small: bool = False
    """Has room beside another one."""


def tables(report: TokenizerReport) -> list[Table]:
    """Return the report's tables, those left out that have nothing to show."""
    found = [
        _sources(report),
        _comparison(report),
        *_pieces(report["tokenizer"]),
        _sizes(report["model"]),
    ]
    return [table for table in found if table is not None and table.rows]


def vocabulary_line(tokenizer: TokenizerFigures) -> str:
    """Return what there is to say about the vocabulary in one sentence."""
    special = ", ".join(f"{token['id']} {visible(token['text'])}" for token in tokenizer["special"])
    unused = (
        f"{tokenizer['unused_in_sample']:,} ids ({tokenizer['unused_share']:.1%}) do not occur in "
        "the sample."
    )
    return (
        f"{tokenizer['vocab_size']:,} ids ({tokenizer['kind']}), {tokenizer['single_byte_pieces']} "
        "of them single "
        f"bytes; special: {special or 'none'}; "
        + (unused if tokenizer["all"]["tokens"] else "there is no text to measure it on.")
    )


def _sources(report: TokenizerReport) -> Table:
    # One row a source, those without text blank, and one row over all.
    sample = report["sample"]
    tokenizer = report["tokenizer"]
    rows = []
    for name, size in sample["sources"].items():
        sizes = [human_bytes(size["bytes"]), human_bytes(size["held_out_bytes"])]
        rows.append([name, *sizes, *_rates(tokenizer["sources"][name])])
    rows += [[name, *["—"] * 7] for name in sample["sources_without_text"]]
    sampled = human_bytes(sum(size["bytes"] for size in sample["sources"].values()))
    held_out = human_bytes(sum(size["held_out_bytes"] for size in sample["sources"].values()))
    rows.append(["all", sampled, held_out, *_rates(tokenizer["all"])])

    # What the columns mean for this kind of tokenizer.
    head = ["source", "sample", "held out", "bytes per token", "chars per token", "tokens per word"]
    fallback = {
        "byte-level": "tokens of one byte that is part of a character of several bytes",
        "sentencepiece": "pieces <0xNN>, used where no other piece fits",
        "other": "of no meaning for this kind of tokenizer",
    }[tokenizer["kind"]]
    return Table(
        "Rates per source",
        [*head, "byte fallback", "single bytes"],
        rows,
        f"Held-out documents first, then training documents, each cut at "
        f"{sample['characters_per_document_at_most']:,} characters, at most "
        f"{human_bytes(sample['bytes_per_source_at_most'])} a source. A word is a run of "
        "characters that are no white "
        f"space. Byte fallback: {fallback}. Single bytes: tokens of one byte, letters and digits "
        "included. "
        "End-of-document tokens are not counted.",
    )


def _rates(row: TokenRates) -> list[str]:
    return [
        number_or_blank(row["bytes_per_token"], ".2f"),
        number_or_blank(row["characters_per_token"], ".2f"),
        number_or_blank(row["tokens_per_word"], ".2f"),
        number_or_blank(row["byte_fallback_share"], ".2%"),
        number_or_blank(row["single_byte_share"], ".2%"),
    ]


def _comparison(report: TokenizerReport) -> Table | None:
    if not report["compared"]:
        return None
    measured = [report["tokenizer"], *report["compared"]]
    rows = [["ids", *(f"{each['vocab_size']:,}" for each in measured)]]
    for name in report["sample"]["sources"]:
        rows.append(
            [
                name,
                *(
                    number_or_blank(each["sources"][name]["bytes_per_token"], ".2f")
                    for each in measured
                ),
            ]
        )
    rows.append(
        ["all", *(number_or_blank(each["all"]["bytes_per_token"], ".2f") for each in measured)]
    )
    return Table(
        "Bytes per token, beside other tokenizers",
        ["", "this run's", *(visible(each["name"]) for each in report["compared"])],
        rows,
        "The same text for all (tokenizer.compare). More bytes per token: shorter sequences for "
        "the same text.",
    )


def _pieces(tokenizer: TokenizerFigures) -> list[Table]:
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
    """Return a piece on one line, each space as `␣`, cut at PIECE_CHARACTERS; one character
    repeated as `#, 64 times`."""
    if len(text) > 4 and len(set(text)) == 1:
        return f"{piece_text(text[0])}, {len(text)} times"
    shown = visible(text).replace(" ", "␣")
    if len(shown) <= PIECE_CHARACTERS:
        return shown
    return shown[: PIECE_CHARACTERS - 1] + "…"


def _sizes(model: VocabularyEffect | None) -> Table | None:
    # One row a size, with its share where the other parameters are known.
    if model is None:
        return None
    rows = []
    for size in model["sizes"]:
        own = " (this run's)" if size["vocab_size"] == model["own_vocab_size"] else ""
        share = [] if model["other_parameters"] is None else [f"{size['share']:.1%}"]
        rows.append(
            [
                f"{size['vocab_size']:,}{own}",
                f"{size['rows']:,}",
                f"{size['embedding_parameters']:,}",
                *share,
            ]
        )

    # What is counted.
    matrices = {
        True: "one matrix for input and output (tied)",
        False: "two matrices, input and output (untied)",
        None: "the input matrix alone: model.config does not say tie_word_embeddings; untied takes twice as many",
    }[model["tied"]]
    others = model["other_parameters"]
    known = (
        "The share of the whole model is known once the run has been trained."
        if others is None
        else f"All other parameters: {others:,}."
    )
    return Table(
        "What the vocabulary's size costs the model",
        ["ids", "rows", "embedding parameters", *([] if others is None else ["of the model"])],
        rows,
        f"Rows x width {model['width']:,}, {matrices}. {known}",
    )
