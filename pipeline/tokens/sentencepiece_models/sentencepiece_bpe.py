"""SentencePiece BPE as a fast tokenizer with the same ids.

The conversion that transformers offers for `.model` files gives other ids for some texts. So the
fast tokenizer is built here from the model's own pieces, and the stage compares the ids of both
before the tokenizer is used.
"""

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE

from pipeline.tokens.sentencepiece_models.sentencepiece_file import (
    NORMAL,
    SPACE,
    UNUSED,
    USER_DEFINED,
    SentencePieceModel,
)
from pipeline.tokens.sentencepiece_models.sentencepiece_text import (
    add_special_tokens,
    decoder,
    normalizer,
)


def why_not(model: SentencePieceModel) -> str | None:
    """Return why a BPE model has no exact fast form here; None where nothing is known against it."""
    # In a fast tokenizer, every piece can be merged.
    symbols = [model.pieces[i] for i in model.ids_of(USER_DEFINED)]
    if model.ids_of(UNUSED):
        return "it has unused pieces, which merges would pass through"

    # User-defined symbols are cut out of the text before it is changed.
    changes_spaces = model.dummy_prefix or model.remove_extra_spaces
    if symbols and (changes_spaces or model.rules):
        return (
            "it has user-defined symbols and changes the text around them (add_dummy_prefix, "
            "remove_extra_whitespaces, normaliser)"
        )
    if any(" " in symbol or SPACE in symbol for symbol in symbols):
        return "it has user-defined symbols with spaces"
    return None


def to_fast(model: SentencePieceModel) -> Tokenizer:
    """Return a fast tokenizer with the ids of a SentencePiece BPE model that `why_not` accepts.

    The pieces imply the merges: two pieces may be joined where their concatenation is a piece, and
    those that make a piece of higher score are joined first.
    """
    # Find the merges: each way to make a piece of two others.
    vocabulary = {piece: i for i, piece in enumerate(model.pieces)}
    parts = {model.pieces[i] for i in model.ids_of(NORMAL)}
    merges: list[tuple[float, int, int, str, str]] = []
    for i in model.ids_of(NORMAL):
        piece = model.pieces[i]
        splits = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        usable = [(left, right) for left, right in splits if left in parts and right in parts]
        merges += [
            (model.scores[i], vocabulary[left], vocabulary[right], left, right)
            for left, right in usable
        ]
    merges.sort(key=lambda merge: (-merge[0], merge[1], merge[2]))

    # Build the tokenizer with the model's treatment of spaces and unknown text.
    fast = Tokenizer(
        BPE(
            vocab=vocabulary,
            merges=[(left, right) for *_, left, right in merges],
            unk_token=model.pieces[model.unknown_id],
            fuse_unk=True,
            byte_fallback=model.byte_fallback,
        )
    )
    fast.normalizer = normalizer(model)
    fast.decoder = decoder(model)

    # Special and user-defined pieces are found before anything is merged.
    add_special_tokens(fast, model)
    symbols = [
        AddedToken(model.pieces[i], normalized=False, special=False)
        for i in model.ids_of(USER_DEFINED)
    ]
    fast.add_tokens(symbols)
    return fast
