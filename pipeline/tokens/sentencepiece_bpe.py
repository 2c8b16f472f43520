"""SentencePiece BPE: training, and an exact conversion into a fast tokenizer.

The conversion that transformers offers for `.model` files gives other ids for part of the texts, so the fast tokenizer
is built here from the model's own pieces, and the stage proves it equal before it is used.
"""

from collections.abc import Iterator
from pathlib import Path

import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, normalizers
from tokenizers.models import BPE

from pipeline.config import Tokenizer as TokenizerConfig
from pipeline.errors import DataError

SPACE = "▁"
"""SentencePiece's symbol for a space (U+2581)."""
MAX_SENTENCE_BYTES = 4192
"""SentencePiece drops longer training sentences with only a warning: nothing longer may be handed over."""


def train(texts: Iterator[str], config: TokenizerConfig, model_file: Path) -> None:
    """Learn a vocabulary from pieces of text and write a SentencePiece `.model`.

    Nothing is normalised, no space is put in front, unknown characters become bytes.
    Raises DataError where the text is too small for the vocabulary.
    """
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=pieces_of(texts),
            model_prefix=str(model_file.with_suffix("")),
            model_type="bpe",
            vocab_size=config.vocab_size,
            character_coverage=0.9999,
            byte_fallback=True,
            normalization_rule_name=config.normalization,
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            split_digits=config.split_digits,
            max_sentence_length=MAX_SENTENCE_BYTES,
            unk_id=0,
            eos_id=1,
            eos_piece=config.end_of_document,
            bos_id=-1,
            pad_id=-1,
            num_threads=1,  # more threads change nothing but the time, and that only for unigram models
            minloglevel=2,
        )
    except RuntimeError as error:
        raise DataError(
            f"tokenizer.vocab_size = {config.vocab_size}: SentencePiece could not learn so many pieces from this text "
            f"({error}). Take a smaller vocabulary or more text (tokenizer.sample_bytes, sources)."
        ) from None


def pieces_of(texts: Iterator[str]) -> Iterator[str]:
    """Cut texts into training sentences of at most MAX_SENTENCE_BYTES, where possible after a line's end."""
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


def to_fast(model_file: Path) -> Tokenizer:
    """Return a `tokenizers.Tokenizer` with the ids of a SentencePiece BPE model.

    BPE merges are implied by the pieces: two pieces may be joined when their concatenation is a piece, earlier ones
    (higher scores) first.
    """
    model = sentencepiece.SentencePieceProcessor(model_file=str(model_file))
    pieces = [model.id_to_piece(i) for i in range(model.vocab_size())]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    special = [i for i in range(len(pieces)) if model.is_control(i) or model.is_unknown(i)]
    plain = [i for i in range(len(pieces)) if i not in special and not model.is_byte(i)]
    merges = []
    for i in plain:
        piece = pieces[i]
        splits = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        usable = [(left, right) for left, right in splits if left in vocabulary and right in vocabulary]
        merges += [(model.get_score(i), vocabulary[left], vocabulary[right], left, right) for left, right in usable]
    merges.sort(key=lambda merge: (-merge[0], merge[1], merge[2]))
    unknown = pieces[model.unk_id()]
    fast = Tokenizer(
        BPE(
            vocab=vocabulary,
            merges=[(left, right) for *_, left, right in merges],
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    fast.normalizer = normalizers.Replace(" ", SPACE)
    fast.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    fast.add_special_tokens([AddedToken(pieces[i], normalized=False, special=True) for i in special])
    return fast
