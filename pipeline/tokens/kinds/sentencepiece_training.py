"""Learn a SentencePiece vocabulary, BPE or unigram, from pieces of text."""

import io
from collections.abc import Iterator

import sentencepiece

from pipeline.config.kinds import TOKENIZER_KINDS
from pipeline.config.sections import TokenizerSection
from pipeline.errors import DataError
from pipeline.tokens.kinds.sentencepiece_model import SentencePieceModelKind

MAX_SENTENCE_BYTES = 4192
"""Maximum size of a training sentence: SentencePiece drops longer ones with only a warning."""
THREADS = 16
"""Threads on any machine: unigram training adds up its counts by thread in float32, so the
vocabulary depends on this number."""


def train(texts: Iterator[str], config: TokenizerSection) -> bytes:
    """Learn a vocabulary from texts; return the content of a SentencePiece `.model` file.

    No space is put in front of a text, and unknown characters become bytes. Raises DataError where
    there is too little text for the vocabulary, or the vocabulary is too small for the text.
    """
    # The model is written to memory: it would contain the name of a file.
    kind: SentencePieceModelKind = TOKENIZER_KINDS[config.kind]
    model = io.BytesIO()
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
            f"tokenizer.vocab_size = {config.vocab_size}: SentencePiece cannot make a vocabulary "
            f"of this size from this text ({error}). Use {remedy}."
        ) from None
    return model.getvalue()


def pieces_of(texts: Iterator[str]) -> Iterator[str]:
    """Cut texts into training sentences of at most MAX_SENTENCE_BYTES, after a line if possible."""
    # In characters: UTF-8 takes at most 4 bytes for each.
    limit = MAX_SENTENCE_BYTES // 4
    for text in texts:
        start = 0
        while start < len(text):
            end = min(start + limit, len(text))
            if end < len(text):
                line_end = text.rfind("\n", start, end)
                if line_end > start:
                    end = line_end + 1
            piece = text[start:end]
            # SentencePiece reserves NUL and stops reading there.
            if "\0" not in piece:
                yield piece
            start = end
