"""Learn byte-level BPE: every text can be encoded, and decoding gives back every byte.

Source: Radford et al. 2019.
"""

from collections.abc import Iterator

from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE

from pipeline.config.sections import TokenizerSection
from pipeline.tokens.split_patterns import NAMED_PATTERNS, byte_level_cutter

PATTERNS = {
    # Source: the split pattern of Qwen2's tokenizer.json.
    "single-digits": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "cl100k": NAMED_PATTERNS["cl100k_base"].expression,
    "gpt2": NAMED_PATTERNS["gpt2"].expression,
}
"""Setting -> regular expression of a word; no token reaches across the end of one."""


def train(texts: Iterator[str], config: TokenizerSection) -> Tokenizer:
    """Learn a vocabulary from texts; the end-of-document token gets id 0."""
    assert config.vocab_size is not None, "the run file is checked for it"

    # Cut the text into words, and words into bytes.
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = byte_level_cutter(PATTERNS[config.split_pattern])
    tokenizer.decoder = decoders.ByteLevel()

    # Learn merges until there are enough ids.
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=[config.end_of_document],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
