"""Tokenizer kinds that learn a vocabulary from the documents: what they have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.run_config import RunConfig
from pipeline.config.sections import TokenizerSection
from pipeline.errors import DataError
from pipeline.logs import human_bytes, note
from pipeline.store.counts import LearnedFrom
from pipeline.tokens.kinds.tokenizer_kind import Encode, MadeTokenizer, TokenizerKind

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from pipeline.tokens.sample import Sample


@dataclass(frozen=True)
class Learned:
    """A tokenizer that was learned, before it is written to its folder."""

    fast: Tokenizer
    reference: Encode
    """The reference: the written folder has to give the same ids as this encoding."""
    other: Encode | None = None
    """SentencePiece's own encoding, where it is not the reference."""
    unknown: str | None = None
    """Unknown token; None for byte-level kinds, whose other tokens can encode any text."""


class LearnedTokenizer(TokenizerKind):
    """A kind that learns from a sample of the documents."""

    split_patterns: Sequence[str]
    """Values of `tokenizer.split_pattern` that the kind accepts."""

    @abstractmethod
    def learn(self, config: RunConfig, sample: Sample, folder: Path) -> Learned:
        """Learn `tokenizer.vocab_size` ids.

        Writes to the folder what belongs to the tokenizer besides its fast form.
        """

    def wrong_settings(self, settings: TokenizerSection) -> list[str]:
        """Describe a missing size of the vocabulary, a path, and a pattern that is not accepted."""
        problems: list[str] = []
        if settings.path is not None or settings.vocab_size is None:
            problems.append(f"tokenizer: kind {settings.kind} takes `vocab_size` and no path")
        problems += [
            f"tokenizer.{name}: is used with kind pretrained only; remove it"
            for name in ("merges", "pattern", "special_tokens")
            if getattr(settings, name)
        ]
        if settings.split_pattern not in self.split_patterns:
            problems.append(
                f"tokenizer.split_pattern = {settings.split_pattern}: kind {settings.kind} takes "
                f"{' or '.join(self.split_patterns)}"
            )
        return problems

    def make(self, config: RunConfig, folder: Path) -> MadeTokenizer:
        """Learn the vocabulary and write the tokenizer.

        Raises DataError where the text gives fewer ids than `tokenizer.vocab_size`.
        """
        from pipeline.tokens import tokenizer_folder
        from pipeline.tokens.sample import Sample

        sample = Sample(config)
        learned = self.learn(config, sample, folder)
        sample.note_dominant_documents()
        ids = learned.fast.get_vocab_size()
        if ids != config.tokenizer.vocab_size:
            raise DataError(
                f"tokenizer.vocab_size = {config.tokenizer.vocab_size}: "
                f"{human_bytes(sample.bytes)} of text gave only {ids} ids. Use a smaller "
                "vocabulary or more text (tokenizer.sample_bytes, sources)."
            )
        end = config.tokenizer.end_of_document
        tokenizer_folder.write(learned.fast, folder, end, learned.unknown)
        note(f"train-tokenizer: learned {ids:,} ids from {human_bytes(sample.bytes)} of text")
        learned_from: LearnedFrom = {"training_bytes": sample.bytes, "sample": sample.report()}
        return MadeTokenizer(learned.reference, learned_from, learned.other)


def encode_with(fast: Tokenizer) -> Encode:
    """Return the encoding of a fast tokenizer; a special token written in a text stays text."""
    fast.encode_special_tokens = True
    return lambda text: fast.encode(text, add_special_tokens=False).ids
