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
from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.models import Unigram

from pipeline.tokens.sentencepiece_models.sentencepiece_file import (
    NORMAL,
    SPACE,
    USER_DEFINED,
    SentencePieceModel,
)
from pipeline.tokens.sentencepiece_models.sentencepiece_text import (
    add_special_tokens,
    decoder,
    normalizer,
)

QUANTUM = 2.0**-13
"""Scores are rounded to multiples of this, in nats.

Sums are exact below 2^53 x 2^-13 = 2^40, more than any text reaches. `tokenizers` reads numbers of
more than 15 digits from JSON with an error in the last bit; rounded scores have 13 digits behind
the point and at most two before it.
"""

SYMBOL_PENALTY = 0.1
"""A user-defined symbol of n bytes counts as n times the best score, minus this.

Source: `EncodeOptimized` in SentencePiece's unigram_model.cc.
"""


def quantized(score: float) -> float:
    """Return the nearest multiple of QUANTUM."""
    return round(score / QUANTUM) * QUANTUM


def to_fast(model: SentencePieceModel) -> Tokenizer:
    """Return the fast tokenizer with the pieces and rounded scores of a unigram model.

    SentencePiece never finds a special piece (`<0x41>`, the end of a document) that is written in a
    text, but `tokenizers` would. So the score of a special piece is set below the sum of its single
    characters, and the special piece never wins; a character without a piece counts as the worst
    one. A user-defined symbol has the score with which SentencePiece's search counts it.
    """
    normal = {model.pieces[i]: quantized(model.scores[i]) for i in model.ids_of(NORMAL)}
    worst = min(normal.values())
    best = max(normal.values())
    vocabulary: list[tuple[str, float]] = []
    for piece, kind in zip(model.pieces, model.types, strict=True):
        if kind == NORMAL:
            score = normal[piece]
        elif kind == USER_DEFINED:
            score = quantized(len(piece.encode()) * best - SYMBOL_PENALTY)
        else:
            characters = piece.replace(" ", SPACE)
            lowest = sum(normal.get(character, worst) for character in characters)
            score = math.floor(lowest) - 1.0
        vocabulary.append((piece, score))
    fast = Tokenizer(Unigram(vocabulary, model.unknown_id, byte_fallback=model.byte_fallback))
    fast.normalizer = normalizer(model)
    fast.decoder = decoder(model)
    add_special_tokens(fast, model)
    return fast


def is_rounding(model: SentencePieceModel, ids: Sequence[int], theirs: Sequence[int]) -> bool:
    """Tell whether two cuts of a text are equally good but for SentencePiece's rounding.

    Both have to hold the same text, and the same ids that are no normal pieces. The sum of n scores
    in float32 errs by at most n 2^-24 of the sum of their sizes, and rounded scores by n / 2 QUANTUM.
    """
    sums: list[float] = []
    texts: list[str] = []
    others: list[list[int]] = []
    for cut in (ids, theirs):
        pieces = [number for number in cut if model.types[number] == NORMAL]
        sums.append(math.fsum(model.scores[number] for number in pieces))
        texts.append("".join(model.pieces[number] for number in cut))
        others.append([number for number in cut if model.types[number] != NORMAL])
    count = max(len(ids), len(theirs))
    error = count * (abs(sums[0]) * 2.0**-24 + QUANTUM / 2)
    return texts[0] == texts[1] and others[0] == others[1] and abs(sums[0] - sums[1]) <= error
