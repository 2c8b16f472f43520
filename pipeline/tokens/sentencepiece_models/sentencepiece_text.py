"""What a SentencePiece model does to a text before and after it is cut, as parts of a fast tokenizer."""

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers

from pipeline.tokens.sentencepiece_models.sentencepiece_file import (
    CONTROL,
    SPACE,
    UNKNOWN,
    SentencePieceModel,
)
from pipeline.tokens.sentencepiece_models.sentencepiece_rules import single_rules


def normalizer(model: SentencePieceModel) -> normalizers.Normalizer:
    """Return the steps that change a text, in the order of SentencePiece.

    A table of many rules, or of rules for several characters, is applied by characters that belong
    together, which SentencePiece does not know: where one of them has a rule, the results differ.

    Source: `Normalizer::Normalize` in SentencePiece's normalizer.cc, `Precompiled` in tokenizers'
    normalizers/precompiled.rs.
    """
    # The beginning: rules, then no space, or one space in front.
    steps: list[normalizers.Normalizer] = []
    rules = single_rules(model.rules) if model.rules else {}
    if rules is None:
        steps.append(normalizers.Precompiled(model.rules))
    else:
        steps += [normalizers.Replace(old, new) for old, new in sorted(rules.items())]
    if model.remove_extra_spaces:
        steps.append(normalizers.Replace(Regex(r"\A +"), ""))
    if model.dummy_prefix and not model.space_as_suffix:
        # Like SentencePiece, this leaves an empty text as it is.
        steps.append(normalizers.Prepend(SPACE))

    # Between words.
    if model.remove_extra_spaces:
        steps.append(normalizers.Replace(Regex(" {2,}"), " "))
    steps.append(normalizers.Replace(" ", SPACE))

    # The end: no space, or one space behind every text that is not empty.
    adds_suffix = model.dummy_prefix and model.space_as_suffix
    if model.remove_extra_spaces and adds_suffix:
        steps.append(normalizers.Replace(Regex(rf"(?:{SPACE}+|(?<=[^{SPACE}]))\z"), SPACE))
    elif model.remove_extra_spaces:
        steps.append(normalizers.Replace(Regex(rf"{SPACE}+\z"), ""))
    elif adds_suffix:
        steps.append(normalizers.Replace(Regex(r"(?<=[\s\S])\z"), SPACE))
    if len(steps) == 1:
        return steps[0]
    return normalizers.Sequence(steps)


def decoder(model: SentencePieceModel) -> decoders.Decoder:
    """Return the decoder, which makes text of pieces."""
    steps: list[decoders.Decoder] = [decoders.Replace(SPACE, " ")]
    if model.byte_fallback:
        steps.append(decoders.ByteFallback())
    steps.append(decoders.Fuse())
    if model.dummy_prefix and model.space_as_suffix:
        # Not `Strip`, which panics at the end of an empty text.
        steps.append(decoders.Replace(Regex(r" \z"), ""))
    elif model.dummy_prefix:
        steps.append(decoders.Strip(" ", 1, 0))
    return decoders.Sequence(steps)


def add_special_tokens(fast: Tokenizer, model: SentencePieceModel) -> None:
    """Make special tokens of the control pieces and the unknown piece."""
    special = [model.pieces[i] for i in model.ids_of(UNKNOWN, CONTROL)]
    fast.add_special_tokens(
        [AddedToken(piece, normalized=False, special=True) for piece in special]
    )
