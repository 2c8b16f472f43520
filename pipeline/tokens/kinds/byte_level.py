"""The tokenizer kind `byte-level-bpe`: merges pairs of bytes, and decodes to exactly the text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.run_config import RunConfig
from pipeline.tokens.kinds.learned import Learned, LearnedTokenizer, encode_with

if TYPE_CHECKING:
    from pipeline.tokens.sample import Sample


class ByteLevelBpe(LearnedTokenizer):
    """A tokenizer that the library `tokenizers` learns (`byte_level_bpe.py`)."""

    split_patterns = ("single-digits", "gpt2", "cl100k")

    def learn(self, config: RunConfig, sample: Sample, folder: Path) -> Learned:
        """Learn the merges."""
        from pipeline.tokens import byte_level_bpe
        from pipeline.tokens.kinds.training_thread import train_in_thread

        fast = train_in_thread(
            lambda texts: byte_level_bpe.train(texts, config.tokenizer),
            sample,
            config.tokenizer.vocab_size,
        )
        return Learned(fast, encode_with(fast))
