"""What a kind of tokenizer has to answer. Imports no tokenizer library, so that a run file is checked
at once.

`TOKENIZER_KINDS` in `pipeline/config/kinds.py` is the table. A new kind is one file here with a
class, and a line there.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.kinds import TOKENIZER_KINDS
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import Tokenizer
from pipeline.store.counts import LearnedFrom

Encode = Callable[[str], list[int]]
"""Text to ids, without special tokens around them; one that stands in the text is text."""


@dataclass(frozen=True)
class MadeTokenizer:
    """A tokenizer folder has been written."""

    reference: Encode
    """What its ids are compared with."""
    learned_from: LearnedFrom
    """What it was learned from; empty for one that was taken."""
    other: Encode | None = None
    """SentencePiece's own search, where it is not the reference: how often it differs is
    reported."""


class TokenizerKind(ABC):
    """A way to make a tokenizer; it has no state of its own."""

    is_learned = True
    """Whether it is made from the text, and so has to give every text back. One that exists already
    may lose some of it."""

    @abstractmethod
    def wrong_settings(self, settings: Tokenizer) -> list[str]:
        """Describe what is wrong with the section `tokenizer` of a run file, each a line with its
        remedy."""

    @abstractmethod
    def make(self, config: RunConfig, folder: Path) -> MadeTokenizer:
        """Write the tokenizer to an empty folder. Raises DataError where it cannot be made."""

    def check_files(self, config: RunConfig) -> None:
        """Raise DataError for files outside of data_dir that it cannot be made from."""
        return

    def identify_files(self, config: RunConfig) -> dict[str, Any]:
        """Return checksums of the files outside of data_dir that it is made from, for the stage's
        fingerprint. Raises DataError for missing ones."""
        return {}

    def decoding_of(self, text: str) -> str:
        """Return what the ids of a text have to decode to."""
        return text


def tokenizer_kind(config: RunConfig) -> TokenizerKind:
    """Return the object that knows how `tokenizer.kind` is made."""
    return TOKENIZER_KINDS[config.tokenizer.kind]


def tokenizer_inventory(config: RunConfig) -> dict[str, Any]:
    """Describe what `train-tokenizer` reads from outside, for its fingerprint."""
    return tokenizer_kind(config).identify_files(config)


def check_tokenizer_files(config: RunConfig) -> None:
    """Raise DataError for files that the tokenizer cannot be made from."""
    tokenizer_kind(config).check_files(config)
