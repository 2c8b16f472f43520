"""What the kinds have in common whose pieces SentencePiece learns."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.run_config import RunConfig
from pipeline.config.sections import Tokenizer as TokenizerSection
from pipeline.tokens.kinds.learned import Learned, LearnedTokenizer
from pipeline.tokens.kinds.tokenizer_kind import Encode

if TYPE_CHECKING:
    from pipeline.tokens.sample import Sample


class SentencePieceModelKind(LearnedTokenizer):
    """A kind of SentencePiece model, and the fast tokenizer that is made from it."""

    model_type: str
    """What SentencePiece calls it."""
    split_patterns = ("single-digits", "spaces")

    def learn(self, config: RunConfig, sample: Sample, folder: Path) -> Learned:
        """Learn the pieces."""
        import sentencepiece

        from pipeline.tokens.kinds import sentencepiece_training
        from pipeline.tokens.kinds.learning import learn

        data = learn(
            lambda texts: sentencepiece_training.train(texts, config.tokenizer),
            sample,
            config.tokenizer.vocab_size,
        )
        processor = sentencepiece.SentencePieceProcessor(model_proto=data)
        encode: Encode = processor.encode  # pyright: ignore[reportAssignmentType]
        return self.convert(data, encode, folder)

    @abstractmethod
    def convert(self, data: bytes, encode: Encode, folder: Path) -> Learned:
        """Return the fast tokenizer. `data`: the content of the `.model`; `encode`: its own
        encoding."""

    def decoding_of(self, text: str) -> str:
        """Return the text with a space for each symbol of one."""
        from pipeline.tokens.sentencepiece_file import SPACE

        return text.replace(SPACE, " ")

    def required_characters(self, settings: TokenizerSection) -> set[str]:
        """Return characters that have to be pieces, however rare they are in the text."""
        return set()
