"""The tokenizer kind `sentencepiece-unigram`: SentencePiece learns the pieces.

The ids are those of the fast tokenizer that is made from them.
"""

from pathlib import Path

from pipeline.config.sections import TokenizerSection
from pipeline.tokens.kinds.learned import Learned, encode_with
from pipeline.tokens.kinds.sentencepiece_model import SentencePieceModelKind
from pipeline.tokens.kinds.tokenizer_kind import Encode

BYTE_PIECES = "<0x0123456789ABCDEF>"
"""Characters in the names of the pieces that stand for bytes."""


class SentencePieceUnigram(SentencePieceModelKind):
    """A tokenizer that takes the pieces whose scores sum highest (`sentencepiece_unigram.py`)."""

    model_type = "unigram"

    def convert(self, data: bytes, encode: Encode, folder: Path) -> Learned:
        """Make the fast tokenizer its own reference: the sums of SentencePiece are not exact."""
        from pipeline.tokens.sentencepiece_models import sentencepiece_unigram
        from pipeline.tokens.sentencepiece_models.sentencepiece_file import parse_model

        model = parse_model(data)
        fast = sentencepiece_unigram.to_fast(model)
        return Learned(fast, encode_with(fast), encode, model.pieces[model.unknown_id])

    def required_characters(self, settings: TokenizerSection) -> set[str]:
        """Return the characters of special pieces, so that their names can be encoded as text."""
        from pipeline.tokens.sentencepiece_models.sentencepiece_file import SPACE

        return set(f"{BYTE_PIECES}<unk>{settings.end_of_document}") - {" ", SPACE}
