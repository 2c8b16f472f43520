"""SentencePiece unigram as a fast tokenizer, which is the only one that encodes.

A unigram model cuts a text into the pieces whose scores sum highest. SentencePiece adds up in
float32 over the whole text. So rounding, and thereby all text before, decides which of two equally
good cuts it takes (a run of spaces as 16 + 8 or as 8 + 16). `tokenizers` adds up in float64. With
scores that are multiples of QUANTUM every sum is exact, and of equal cuts the one whose last piece
is longest wins, whatever text is before. So the ids depend on the vocabulary alone, and are the
reference; no `.model` file is kept, since it would give others.

Source: `EncodeOptimized` in SentencePiece's unigram_model.cc, `encode_optimized` in tokenizers'
unigram/model.rs.
"""

import math

from tokenizers import Tokenizer, normalizers
from tokenizers.models import Unigram

from pipeline.tokens.sentencepiece_bpe import add_special_tokens, decoder
from pipeline.tokens.sentencepiece_file import NORMAL, SPACE, SentencePieceModel

QUANTUM = 2.0**-13
"""Scores are rounded to multiples of this, in nats.

Sums are exact below 2^53 x 2^-13 = 2^40, more than any text reaches. `tokenizers` reads numbers of
more than 15 digits from JSON with an error in the last bit; rounded scores have 13 digits behind
the point and at most two before it.
"""


def quantized(score: float) -> float:
    """Return the nearest multiple of QUANTUM."""
    return round(score / QUANTUM) * QUANTUM


def to_fast(model: SentencePieceModel) -> Tokenizer:
    """Return the fast tokenizer with the pieces and rounded scores of a unigram model.

    SentencePiece never finds a special piece (`<0x41>`, the end of a document) that is written in a
    text, but `tokenizers` would. So the score of a special piece is set below the sum of its single
    characters, and the special piece never wins.
    """
    normal = {model.pieces[i]: quantized(model.scores[i]) for i in model.ids_of(NORMAL)}
    vocabulary: list[tuple[str, float]] = []
    for piece in model.pieces:
        score = normal.get(piece)
        if score is None:
            characters = piece.replace(" ", SPACE)
            score = math.floor(sum(normal[character] for character in characters)) - 1.0
        vocabulary.append((piece, score))
    fast = Tokenizer(Unigram(vocabulary, model.unknown_id, byte_fallback=True))
    fast.normalizer = normalizers.Replace(" ", SPACE)
    fast.decoder = decoder(model)
    add_special_tokens(fast, model)
    return fast
