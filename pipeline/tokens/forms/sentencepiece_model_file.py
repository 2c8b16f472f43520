"""The form `sentencepiece`: a SentencePiece `.model` file, as a fast tokenizer of the same ids.

The ids of a BPE model are SentencePiece's. Those of a unigram model are, but for cuts that are
equally good, between which SentencePiece's rounding decides. A model for which that does not hold
is refused with the first string that differs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
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
from pipeline.tokens.kinds.learned import encode_with
from pipeline.tokens.kinds.tokenizer_kind import MadeTokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from pipeline.tokens.sentencepiece_models.sentencepiece_file import SentencePieceModel

RANDOM_STRINGS = 300
"""Random strings on which a model is compared before any work; the stage compares more."""
INSTEAD = "name a tokenizer.json made from it"
"""Remedy for a model without an exact fast form."""


class SentencePieceFile(TokenizerForm):
    """A `.model` file; any file that has no other form is taken for one."""

    words = "a SentencePiece .model"

    def recognises(self, settings: TokenizerSection) -> bool:
        """Tell whether the path is a file."""
        return path_of(settings).is_file()

    def check(self, settings: TokenizerSection) -> None:
        """Raise DataError where it is no model, or one without an exact fast form.

        The fast form is compared on difficult and on random strings.
        """
        path = path_of(settings)
        model = _read(path)
        made = _made(path, model, _fast_of(model))
        fast = encode_with(_fast_of(model))
        theirs = made.other or made.reference
        for text in _probes(model):
            ids = fast(text)
            expected = theirs(text)
            is_equal = ids == expected or (
                made.is_rounding is not None and made.is_rounding(ids, expected)
            )
            if not is_equal:
                raise DataError(
                    f"tokenizer.path = {path}: its fast form gives other ids than SentencePiece for "
                    f"{text[:80]!r}{_why(model)}; {INSTEAD}"
                )

    def expected_ids(self, settings: TokenizerSection) -> int:
        """Return the number of pieces."""
        return len(_read(path_of(settings)).pieces)

    def take(self, settings: TokenizerSection, folder: Path) -> MadeTokenizer:
        """Write the fast form; beside that of a BPE model, the model itself."""
        import sentencepiece

        from pipeline.tokens import tokenizer_folder

        path = path_of(settings)
        model = _read(path)
        end = sentencepiece.SentencePieceProcessor(model_file=str(path)).eos_id()
        if end < 0:
            require_token(settings, model.pieces)
            end = model.pieces.index(settings.end_of_document)
        fast = _fast_of(model)
        tokenizer_folder.write(fast, folder, model.pieces[end], model.pieces[model.unknown_id])
        if model.model_type == "bpe":
            (folder / SENTENCEPIECE_MODEL).write_bytes(path.read_bytes())
        return _made(path, model, fast)


def _read(path: Path) -> SentencePieceModel:
    """Read a `.model` file. Raises DataError where it is not one, or has no exact fast form."""
    from pipeline.tokens.sentencepiece_models import sentencepiece_bpe
    from pipeline.tokens.sentencepiece_models.sentencepiece_file import read_model

    try:
        model = read_model(path)
    except DataError as error:
        raise DataError(f"tokenizer.path: {error}; {expected_forms()}") from None
    reason = None
    if model.model_type not in ("bpe", "unigram"):
        reason = f"it is a {model.model_type} model, which has no fast form"
    elif not model.escape_spaces:
        reason = "it does not escape spaces (escape_whitespaces), which has no fast form"
    elif model.model_type == "bpe":
        reason = sentencepiece_bpe.why_not(model)
    if reason is not None:
        raise DataError(f"tokenizer.path = {path}: {reason}; {INSTEAD}")
    return model


def _fast_of(model: SentencePieceModel) -> Tokenizer:
    from pipeline.tokens.sentencepiece_models import sentencepiece_bpe, sentencepiece_unigram

    if model.model_type == "bpe":
        return sentencepiece_bpe.to_fast(model)
    return sentencepiece_unigram.to_fast(model)


def _made(path: Path, model: SentencePieceModel, fast: Tokenizer) -> MadeTokenizer:
    """Return the reference of a model: SentencePiece, or of a unigram model its fast form."""
    import sentencepiece

    from pipeline.tokens.sentencepiece_models.sentencepiece_unigram import is_rounding

    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    if model.model_type == "bpe":
        return MadeTokenizer(lambda text: processor.encode(text), {})
    return MadeTokenizer(
        encode_with(fast),
        {},
        other=lambda text: processor.encode(text),
        is_rounding=lambda ids, theirs: is_rounding(model, ids, theirs),
    )


def _probes(model: SentencePieceModel) -> Iterator[str]:
    """Yield strings to compare: difficult ones, pieces that are no normal ones, random ones.

    Then, where the rules of its normaliser are no steps, strings in which those may differ.
    """
    from pipeline.tokens.sentencepiece_models.sentencepiece_file import NORMAL
    from pipeline.tokens.sentencepiece_models.sentencepiece_rules import (
        joined_characters,
        single_rules,
    )
    from pipeline.tokens.tokenizer_folder import EDGE_STRINGS, random_text

    yield from EDGE_STRINGS
    special = [
        piece for piece, kind in zip(model.pieces, model.types, strict=True) if kind != NORMAL
    ]
    for piece in special:
        yield f"a{piece} {piece}{piece}b"
    generator = random.Random(0)
    for _ in range(RANDOM_STRINGS):
        yield random_text(generator)
    if model.rules and single_rules(model.rules) is None:
        yield from joined_characters(model.rules)


def _why(model: SentencePieceModel) -> str:
    """Return the reason of differences, as far as it is known."""
    if not model.rules:
        return ""
    return (
        f", since its normaliser ({model.normalizer}) rewrites text by rules that tokenizer.json "
        "applies to characters that belong together"
    )
