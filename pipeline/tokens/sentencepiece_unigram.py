"""SentencePiece unigram: SentencePiece learns the vocabulary, the fast tokenizer built from it is
the tokenizer.

A unigram model cuts a text into the pieces whose scores sum highest. SentencePiece adds up in
float32 over the whole text, so which of two equally good cuts it takes (a run of spaces as 16 + 8
or as 8 + 16) depends on rounding, and so on all that came before. `tokenizers` adds up in float64;
of scores that are multiples of QUANTUM every sum is exact, and of equal cuts the one whose last
piece is longest wins, whatever came before. So the ids are a function of the vocabulary alone, they
are the reference, and no `.model` file is left that would give others. Source: `EncodeOptimized` in
SentencePiece's unigram_model.cc, `encode_optimized` in tokenizers' unigram/model.rs.
"""

import math

from tokenizers import Tokenizer, normalizers
from tokenizers.models import Unigram

from pipeline.tokens.sentencepiece_bpe import add_special_tokens, decoder
from pipeline.tokens.sentencepiece_file import NORMAL, SPACE, SentencePieceModel

QUANTUM = 2.0**-13
"""Scores, in nats, are rounded to multiples of this. Sums stay exact below 2^53 x 2^-13 = 2^40,
beyond any text. And `tokenizers` reads numbers of more than 15 digits from JSON with an error in
the last bit: these have 13 digits behind the point and at most two before it."""


def quantized(score: float) -> float:
    """Return the nearest multiple of QUANTUM."""
    return round(score / QUANTUM) * QUANTUM


def to_fast(model: SentencePieceModel) -> Tokenizer:
    """Return the fast tokenizer with a trained unigram model's pieces and scores.

    `tokenizers` would find a special piece (`<0x41>`, the end of a document) written out in a text,
    which SentencePiece keeps apart: their scores are set below those of their single characters, so
    that they never win.
    """
    normal = {model.pieces[i]: quantized(model.scores[i]) for i in model.ids_of(NORMAL)}
    vocabulary = []
    for piece in model.pieces:
        score = normal.get(piece)
        if score is None:
            score = (
                math.floor(sum(normal[character] for character in piece.replace(" ", SPACE))) - 1.0
            )
        vocabulary.append((piece, score))
    fast = Tokenizer(Unigram(vocabulary, model.unknown_id, byte_fallback=True))
    fast.normalizer = normalizers.Replace(" ", SPACE)
    fast.decoder = decoder(model)
    add_special_tokens(fast, model)
    return fast
