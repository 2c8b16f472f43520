"""SentencePiece BPE as a fast tokenizer with the same ids.

The conversion that transformers offers for `.model` files gives other ids for some texts. So the
fast tokenizer is built here from the model's own pieces, and the stage compares the ids of both
before the tokenizer is used.
"""

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers
from tokenizers.models import BPE

from pipeline.tokens.sentencepiece_file import (
    CONTROL,
    NORMAL,
    SPACE,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    SentencePieceModel,
)


def why_not(model: SentencePieceModel) -> str | None:
    """Return why a model has no exact fast form here; None where it has one."""
    # Only BPE has one search that both libraries do in the same way.
    if model.model_type == "unigram":
        return (
            "it is a unigram model, whose ids SentencePiece finds in single precision, with "
            "rounding that no fast tokenizer repeats; name a folder or tokenizer.json made from it"
        )
    if model.model_type != "bpe":
        return f"it is a {model.model_type} model, which has no fast form"

    # A fast tokenizer has other means to change the text before it is cut.
    if model.rewrites:
        return (
            f"it rewrites text (normaliser {model.normalizer}) by rules that a fast tokenizer "
            "applies differently"
        )
    if model.space_as_suffix or not model.escape_spaces:
        return (
            "it treats spaces in a way that has no fast form (space as suffix, or spaces not "
            "escaped)"
        )

    # In a fast tokenizer, every piece can be merged.
    symbols = [model.pieces[i] for i in model.ids_of(USER_DEFINED)]
    if model.ids_of(UNUSED):
        return "it has unused pieces, which merges would pass through"
    if symbols and (model.dummy_prefix or model.remove_extra_spaces):
        return (
            "it has user-defined symbols and changes spaces around them (add_dummy_prefix, "
            "remove_extra_whitespaces)"
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
    fast.normalizer = _normalizer(model)
    fast.decoder = decoder(model)

    # Special and user-defined pieces are found before anything is merged.
    add_special_tokens(fast, model)
    symbols = [
        AddedToken(model.pieces[i], normalized=False, special=False)
        for i in model.ids_of(USER_DEFINED)
    ]
    fast.add_tokens(symbols)
    return fast


def _normalizer(model: SentencePieceModel) -> normalizers.Normalizer:
    """Return the steps that change spaces, in the order of SentencePiece.

    Source: `Normalizer::Normalize` in SentencePiece's normalizer.cc.
    """
    steps: list[normalizers.Normalizer] = []
    if model.remove_extra_spaces:
        steps.append(normalizers.Replace(Regex(r"\A +"), ""))
    if model.dummy_prefix:
        # Like SentencePiece, this leaves an empty text as it is.
        steps.append(normalizers.Prepend(SPACE))
    if model.remove_extra_spaces:
        steps.append(normalizers.Replace(Regex(" {2,}"), " "))
    steps.append(normalizers.Replace(" ", SPACE))
    if model.remove_extra_spaces:
        steps.append(normalizers.Replace(Regex(rf"{SPACE}+\z"), ""))
    if len(steps) == 1:
        return steps[0]
    return normalizers.Sequence(steps)


def decoder(model: SentencePieceModel) -> decoders.Decoder:
    """Return the decoder, which makes text of pieces."""
    steps: list[decoders.Decoder] = [decoders.Replace(SPACE, " ")]
    if model.byte_fallback:
        steps.append(decoders.ByteFallback())
    steps.append(decoders.Fuse())
    if model.dummy_prefix:
        steps.append(decoders.Strip(" ", 1, 0))
    return decoders.Sequence(steps)


def add_special_tokens(fast: Tokenizer, model: SentencePieceModel) -> None:
    """Make special tokens of the control pieces and the unknown piece."""
    special = [model.pieces[i] for i in model.ids_of(UNKNOWN, CONTROL)]
    fast.add_special_tokens(
        [AddedToken(piece, normalized=False, special=True) for piece in special]
    )
