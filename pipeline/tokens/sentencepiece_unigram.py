"""SentencePiece unigram: SentencePiece learns the vocabulary, the fast tokenizer built from it is the tokenizer.

A unigram model cuts a text into the pieces whose scores sum highest. SentencePiece adds up in float32 over the whole
text, so which of two equally good cuts it takes (a run of spaces as 16 + 8 or as 8 + 16) depends on rounding, and so on
all that came before. `tokenizers` adds up the same scores in float64: a score is a float32 of magnitude 1 to 32, a
multiple of 2^-23 or coarser, so that sums below 2^29 are exact, and of equal cuts the one whose last piece is longest
wins, whatever came before. That is the model's own definition, so it is the reference, and no `.model` file is left
that would give other ids.
Source: `EncodeOptimized` in SentencePiece's unigram_model.cc, `encode_optimized` in tokenizers' unigram/model.rs.
"""

from tokenizers import Tokenizer, normalizers
from tokenizers.models import Unigram

from pipeline.tokens.sentencepiece_bpe import add_special_tokens, decoder
from pipeline.tokens.sentencepiece_file import NORMAL, SPACE, SentencePieceModel


def to_fast(model: SentencePieceModel) -> Tokenizer:
    """Return the fast tokenizer with a trained unigram model's pieces and scores.

    `tokenizers` would find a special piece (`<0x41>`, the end of a document) written out in a text, which
    SentencePiece keeps apart: their scores are set below those of their single characters, so that they never win.
    """
    single = {model.pieces[i]: model.scores[i] for i in model.ids_of(NORMAL) if len(model.pieces[i]) == 1}
    normal = set(model.ids_of(NORMAL))
    vocabulary = []
    for i, (piece, score) in enumerate(zip(model.pieces, model.scores, strict=True)):
        never = sum(single[character] for character in piece.replace(" ", SPACE)) - 1 if i not in normal else 0
        vocabulary.append((piece, score if i in normal else never))
    fast = Tokenizer(Unigram(vocabulary, model.unknown_id, byte_fallback=True))
    fast.normalizer = normalizers.Replace(" ", SPACE)
    fast.decoder = decoder(model)
    add_special_tokens(fast, model)
    return fast
