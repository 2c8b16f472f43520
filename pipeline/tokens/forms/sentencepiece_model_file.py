"""The form `sentencepiece`: a SentencePiece `.model` file with a fast form of the same ids."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.sections import TokenizerSection
from pipeline.errors import DataError
from pipeline.store.pretrained_folders import SENTENCEPIECE_MODEL
from pipeline.tokens.forms.tokenizer_form import (
    TokenizerForm,
    expected_forms,
    path_of,
    require_token,
)
from pipeline.tokens.kinds.tokenizer_kind import Encode

if TYPE_CHECKING:
    from pipeline.tokens.sentencepiece_file import SentencePieceModel


class SentencePieceFile(TokenizerForm):
    """A `.model` file; any file that has no other form is taken for one."""

    words = "a SentencePiece BPE .model"

    def recognises(self, settings: TokenizerSection) -> bool:
        """Tell whether the path is a file."""
        return path_of(settings).is_file()

    def check(self, settings: TokenizerSection) -> None:
        """Raise DataError where it is no model, or one without an exact fast form."""
        _read(path_of(settings))

    def expected_ids(self, settings: TokenizerSection) -> int:
        """Return the number of pieces."""
        return len(_read(path_of(settings)).pieces)

    def take(self, settings: TokenizerSection, folder: Path) -> Encode:
        """Write the model and its fast form; the reference is SentencePiece's own encoding."""
        import sentencepiece

        from pipeline.tokens import sentencepiece_bpe, tokenizer_folder

        path = path_of(settings)
        model = _read(path)
        processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        end = processor.eos_id()
        if end < 0:
            require_token(settings, model.pieces)
            end = model.pieces.index(settings.end_of_document)
        fast = sentencepiece_bpe.to_fast(model)
        tokenizer_folder.write(fast, folder, model.pieces[end], model.pieces[model.unknown_id])
        (folder / SENTENCEPIECE_MODEL).write_bytes(path.read_bytes())
        return lambda text: processor.encode(text)


def _read(path: Path) -> "SentencePieceModel":
    """Read a `.model` file. Raises DataError where it is not one, or has no exact fast form."""
    from pipeline.tokens.sentencepiece_bpe import why_not
    from pipeline.tokens.sentencepiece_file import read_model

    try:
        model = read_model(path)
    except DataError as error:
        raise DataError(f"tokenizer.path: {error}; {expected_forms()}") from None
    reason = why_not(model)
    if reason is not None:
        raise DataError(f"tokenizer.path = {path}: {reason}")
    return model
