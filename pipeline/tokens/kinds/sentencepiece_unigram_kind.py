"""The tokenizer kind `sentencepiece-unigram`: SentencePiece learns the pieces, and the ids are those
of the fast tokenizer."""

from pathlib import Path

from pipeline.config.sections import Tokenizer as TokenizerSection
from pipeline.tokens.kinds.learned import Learned, encode_with
from pipeline.tokens.kinds.sentencepiece_model import SentencePieceModelKind
from pipeline.tokens.kinds.tokenizer_kind import Encode

BYTE_PIECES = "<0x0123456789ABCDEF>"
"""Characters of the names of the pieces that stand for bytes."""


class SentencePieceUnigram(SentencePieceModelKind):
    """The pieces whose scores sum highest (`sentencepiece_unigram.py`)."""

    model_type = "unigram"

    def convert(self, data: bytes, encode: Encode, folder: Path) -> Learned:
        """Take the fast tokenizer for the reference: SentencePiece's own sums are not exact."""
        from pipeline.tokens import sentencepiece_unigram
        from pipeline.tokens.sentencepiece_file import parse_model

        model = parse_model(data)
        fast = sentencepiece_unigram.to_fast(model)
        return Learned(fast, encode_with(fast), encode, model.pieces[model.unknown_id])

    def required_characters(self, settings: TokenizerSection) -> set[str]:
        """Return those that special pieces are written with, so that such text can always be
        encoded as text."""
        from pipeline.tokens.sentencepiece_file import SPACE

        return set(f"{BYTE_PIECES}<unk>{settings.end_of_document}") - {" ", SPACE}
