"""Tokenizer kinds whose pieces SentencePiece learns: what they have in common."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.run_config import RunConfig
from pipeline.config.sections import TokenizerSection
from pipeline.tokens.kinds.learned import Learned, LearnedTokenizer
from pipeline.tokens.kinds.tokenizer_kind import Encode

if TYPE_CHECKING:
    from pipeline.tokens.sample import Sample


class SentencePieceModelKind(LearnedTokenizer):
    """A type of SentencePiece model, from which a fast tokenizer is made."""

    model_type: str
    """SentencePiece's name of the type."""
    split_patterns = ("single-digits", "spaces")

    def learn(self, config: RunConfig, sample: Sample, folder: Path) -> Learned:
        """Learn the pieces."""
        import sentencepiece

        from pipeline.tokens.kinds import sentencepiece_training
        from pipeline.tokens.kinds.training_thread import train_in_thread

        data = train_in_thread(
            lambda texts: sentencepiece_training.train(texts, config.tokenizer),
            sample,
            config.tokenizer.vocab_size,
        )
        processor = sentencepiece.SentencePieceProcessor(model_proto=data)
        return self.convert(data, lambda text: processor.encode(text), folder)

    @abstractmethod
    def convert(self, data: bytes, encode: Encode, folder: Path) -> Learned:
        """Return the fast tokenizer.

        `data`: content of the `.model` file. `encode`: SentencePiece's own encoding.
        """

    def decoding_of(self, text: str) -> str:
        """Return the text with each `▁` as a space: SentencePiece writes a space as `▁`."""
        from pipeline.tokens.sentencepiece_models.sentencepiece_file import SPACE

        return text.replace(SPACE, " ")

    def required_characters(self, settings: TokenizerSection) -> set[str]:
        """Return the characters that must become pieces, however rare they are in the text."""
        return set()
