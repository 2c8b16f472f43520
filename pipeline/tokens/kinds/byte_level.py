"""The tokenizer kind `byte-level-bpe`: pairs of bytes are merged, and every text comes back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.run_config import RunConfig
from pipeline.tokens.kinds.learned import Learned, LearnedTokenizer, encode_with

if TYPE_CHECKING:
    from pipeline.tokens.sample import Sample


class ByteLevelBpe(LearnedTokenizer):
    """Learned by `tokenizers` (`byte_level_bpe.py`)."""

    split_patterns = ("single-digits", "gpt2", "cl100k")

    def learn(self, config: RunConfig, sample: Sample, folder: Path) -> Learned:
        """Learn the merges."""
        from pipeline.tokens import byte_level_bpe
        from pipeline.tokens.kinds.learning import learn

        fast = learn(
            lambda texts: byte_level_bpe.train(texts, config.tokenizer),
            sample,
            config.tokenizer.vocab_size,
        )
        return Learned(fast, encode_with(fast))
