"""The tokenizer kind `sentencepiece-bpe`: a SentencePiece model and a fast form of its ids."""

from pathlib import Path

from pipeline.store.pretrained_folders import SENTENCEPIECE_MODEL
from pipeline.tokens.kinds.learned import Learned
from pipeline.tokens.kinds.sentencepiece_model import SentencePieceModelKind
from pipeline.tokens.kinds.tokenizer_kind import Encode


class SentencePieceBpe(SentencePieceModelKind):
    """A SentencePiece model that merges pairs of pieces (`sentencepiece_bpe.py`)."""

    model_type = "bpe"

    def convert(self, data: bytes, encode: Encode, folder: Path) -> Learned:
        """Write the model to the folder; its own encoding is the reference of the fast form."""
        from pipeline.tokens.sentencepiece_models import sentencepiece_bpe
        from pipeline.tokens.sentencepiece_models.sentencepiece_file import parse_model

        model = parse_model(data)
        (folder / SENTENCEPIECE_MODEL).write_bytes(data)
        unknown = model.pieces[model.unknown_id]
        return Learned(sentencepiece_bpe.to_fast(model), encode, unknown=unknown)
