"""Learning a SentencePiece vocabulary, BPE or unigram, from pieces of text."""

import io
from collections.abc import Iterator

import sentencepiece

from pipeline.config.kinds import TOKENIZER_KINDS
from pipeline.config.sections import Tokenizer as TokenizerConfig
from pipeline.errors import DataError
from pipeline.tokens.kinds.sentencepiece_model import SentencePieceModelKind

MAX_SENTENCE_BYTES = 4192
"""SentencePiece drops longer training sentences with only a warning: nothing longer may be handed
over."""
THREADS = 16
"""A constant, whatever the machine has: unigram training adds up its counts by thread, in
float32."""


def train(texts: Iterator[str], config: TokenizerConfig) -> bytes:
    """Learn a vocabulary from pieces of text; returns the content of a SentencePiece `.model`.

    Nothing is normalised, no space is put in front, unknown characters become bytes.
    Raises DataError where the text is too small for the vocabulary, or the vocabulary for the text.
    """
    # The model goes to memory: in a file, the file's name would stand in the model.
    kind: SentencePieceModelKind = TOKENIZER_KINDS[config.kind]
    model = io.BytesIO()  # a file's name would stand in the model
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=pieces_of(texts),
            model_writer=model,
            model_type=kind.model_type,
            vocab_size=config.vocab_size,
            character_coverage=0.9999,
            required_chars="".join(sorted(kind.required_characters(config))),
            byte_fallback=True,
            normalization_rule_name=config.normalization,
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            split_digits=config.split_pattern == "single-digits",
            max_sentence_length=MAX_SENTENCE_BYTES,
            unk_id=0,
            eos_id=1,
            eos_piece=config.end_of_document,
            bos_id=-1,
            pad_id=-1,
            num_threads=THREADS,
            minloglevel=2,
        )
    except RuntimeError as error:
        # SentencePiece's message says which side is too small.
        remedy = "a smaller vocabulary or more text (tokenizer.sample_bytes, sources)"
        if "smaller than required_chars" in str(error):
            remedy = (
                "a larger vocabulary: 256 bytes, the special tokens and every common character are "
                "pieces"
            )
        raise DataError(
            f"tokenizer.vocab_size = {config.vocab_size}: SentencePiece could not learn so many "
            "pieces from this text "
            f"({error}). Take {remedy}."
        ) from None
    return model.getvalue()


def pieces_of(texts: Iterator[str]) -> Iterator[str]:
    """Cut texts into training sentences of at most MAX_SENTENCE_BYTES, where possible after a
    line's end."""
    limit = MAX_SENTENCE_BYTES // 4  # in characters: UTF-8 takes at most 4 bytes each
    for text in texts:
        start = 0
        while start < len(text):
            end = min(start + limit, len(text))
            if end < len(text) and (line_end := text.rfind("\n", start, end)) > start:
                end = line_end + 1
            if "\0" not in (piece := text[start:end]):  # SentencePiece reserves NUL and stops at it
                yield piece
            start = end
