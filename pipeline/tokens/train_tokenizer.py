"""The `train-tokenizer` stage: documents -> data_dir/tokenizer, a fast tokenizer that transformers
loads.

Whatever the kind, the exported folder is loaded again as a user would and must give the reference's
ids on thousands of strings, else the stage fails.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from pipeline.config.run_config import RunConfig
from pipeline.errors import DataError
from pipeline.logs import human_bytes, note
from pipeline.store.artifacts import Result
from pipeline.store.counts import LearnedFrom, TokenizerCounts
from pipeline.store.files import file_record, write_json
from pipeline.store.layout import data_folder, tokenizer_report_path
from pipeline.store.pretrained_folders import SENTENCEPIECE_MODEL
from pipeline.tokens import pretrained, tokenizer_folder
from pipeline.tokens.encode import prove_fast_encoder
from pipeline.tokens.learning import learn
from pipeline.tokens.lost_text import refuse_lost_text
from pipeline.tokens.sample import Sample

Encode = Callable[[str], list[int]]


class Made(NamedTuple):
    """A tokenizer folder has been written."""

    reference: Encode
    """What its ids are compared with."""
    learned_from: LearnedFrom
    """What it was learned from; empty for one that was taken."""
    other: Encode | None = None
    """SentencePiece's own search, where it is not the reference: how often it differs is
    reported."""


def train_tokenizer(config: RunConfig) -> Result[TokenizerCounts]:
    """Train or take the tokenizer, export it, prove the export exact.

    Raises DataError where there is too little text for the vocabulary, or a pretrained tokenizer
    cannot be taken; where the exported folder gives other ids than the reference; where decoding
    does not give the text back, or of a pretrained tokenizer's too little.
    """
    folder = data_folder(config).tokenizer
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if old.is_file():
            old.unlink()
    kind = config.tokenizer.kind
    made = (
        Made(pretrained.take(config, folder), {})
        if kind == "pretrained"
        else _train(config, folder)
    )
    loaded = tokenizer_folder.load_exported(folder)
    strings = tokenizer_folder.proof_strings(config, sorted(loaded.get_added_vocab()))
    report: TokenizerCounts = {
        "kind": kind,
        "vocab_size": max(loaded.get_vocab().values()) + 1,
        "end_of_document_id": loaded.eos_token_id,
        "training_bytes": 0,
        **made.learned_from,
        **tokenizer_folder.prove(folder, kind, made.reference, strings),
    }
    report["gigatoken"] = prove_fast_encoder(folder, strings)
    if made.other:
        differing = sum(made.other(text) != made.reference(text) for text in strings)
        report["strings_that_sentencepiece_cuts_differently"] = differing
    if kind == "pretrained":
        report["lost_text"] = refuse_lost_text(config, folder)
    write_json(tokenizer_report_path(folder), report)
    headline = f"{report['vocab_size']:,} ids ({kind}), exact on {len(strings):,} strings"
    if kind == "pretrained":
        headline += f", of which {report['strings_decoded_to_themselves']:,} decode to themselves"
    if "sample" in report:
        documents = sum(given["documents"] for given in report["sample"].values())
        headline += (
            f", learned from {human_bytes(report['training_bytes'])} of {documents:,} documents"
        )
    files = {path.name: file_record(path) for path in sorted(folder.iterdir()) if path.is_file()}
    counts: TokenizerCounts = {"headline": headline, **report}
    return Result(counts, files)


def _train(config: RunConfig, folder: Path) -> Made:
    sample = Sample(config)
    if config.tokenizer.kind == "byte-level-bpe":
        from pipeline.tokens import byte_level_bpe

        fast = learn(
            lambda texts: byte_level_bpe.train(texts, config.tokenizer),
            sample,
            config.tokenizer.vocab_size,
        )
        reference, other, unknown = _encode_with(fast), None, None
    else:
        fast, reference, other, unknown = _train_sentencepiece(config, sample, folder)
    sample.say_what_is_lopsided()
    if fast.get_vocab_size() != config.tokenizer.vocab_size:
        raise DataError(
            f"tokenizer.vocab_size = {config.tokenizer.vocab_size}: {human_bytes(sample.bytes)} of "
            "text gave only "
            f"{fast.get_vocab_size()} ids. Take a smaller vocabulary or more text "
            "(tokenizer.sample_bytes, sources)."
        )
    end = config.tokenizer.end_of_document
    tokenizer_folder.write(fast, folder, end, unknown)
    note(
        f"train-tokenizer: learned {fast.get_vocab_size():,} ids from {human_bytes(sample.bytes)} "
        "of text"
    )
    return Made(reference, {"training_bytes": sample.bytes, "sample": sample.report()}, other)


def _train_sentencepiece(
    config: RunConfig, sample: Sample, folder: Path
) -> tuple[Tokenizer, Encode, Encode | None, str]:
    """Return the fast tokenizer, the reference, SentencePiece's own encoding where it is another,
    the unknown token."""
    import sentencepiece

    from pipeline.tokens import sentencepiece_bpe, sentencepiece_training, sentencepiece_unigram
    from pipeline.tokens.sentencepiece_file import parse_model

    data = learn(
        lambda texts: sentencepiece_training.train(texts, config.tokenizer),
        sample,
        config.tokenizer.vocab_size,
    )
    model = parse_model(data)
    processor = sentencepiece.SentencePieceProcessor(model_proto=data)
    encode: Encode = processor.encode  # pyright: ignore[reportAssignmentType]
    unknown = model.pieces[model.unknown_id]
    if config.tokenizer.kind == "sentencepiece-unigram":
        fast = sentencepiece_unigram.to_fast(model)
        return fast, _encode_with(fast), encode, unknown
    (folder / SENTENCEPIECE_MODEL).write_bytes(data)
    return sentencepiece_bpe.to_fast(model), encode, None, unknown


def _encode_with(fast: Tokenizer) -> Encode:
    """Encode special tokens that stand in a text as text."""
    fast.encode_special_tokens = True
    return lambda text: fast.encode(text, add_special_tokens=False).ids
