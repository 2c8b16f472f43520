"""Byte-level BPE (Radford et al. 2019): every text has an encoding, and decoding gives every byte back."""

from collections.abc import Iterator

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE

from pipeline.config import Tokenizer as TokenizerConfig

SINGLE_DIGITS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Where words end, with each digit on its own. Source: the split pattern of Qwen2's tokenizer.json."""


def train(texts: Iterator[str], config: TokenizerConfig) -> Tokenizer:
    """Learn a vocabulary; the end-of-document token gets id 0."""
    assert config.vocab_size is not None, "the run file is checked for it"
    tokenizer = Tokenizer(BPE())
    if config.split_digits:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(SINGLE_DIGITS), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=[config.end_of_document],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
