"""The questions that every kind of tokenizer answers.

Imports no tokenizer library, so that checking a run file takes no time. A new kind is one file in
this folder with a class, and a line in the table `TOKENIZER_KINDS` in `pipeline/config/kinds.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.kinds import TOKENIZER_KINDS
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import TokenizerSection
from pipeline.store.counts import LearnedFrom

Encode = Callable[[str], list[int]]
"""Text -> ids. No special tokens are added, and one that is written in the text stays text."""


@dataclass(frozen=True)
class MadeTokenizer:
    """What is known of a tokenizer whose folder has been written."""

    reference: Encode
    """Encoding that the ids of the folder have to equal."""
    learned_from: LearnedFrom
    """Text that the vocabulary was learned from; empty for a pretrained tokenizer."""
    other: Encode | None = None
    """SentencePiece's own encoding where it is not the reference; its differences are counted."""
    is_rounding: Callable[[Sequence[int], Sequence[int]], bool] | None = None
    """Tells whether the ids of `reference` and `other` are equally good cuts of a text; where they
    are not, the tokenizer is refused. None: all differences are counted."""


class TokenizerKind(ABC):
    """A way to make a tokenizer, without state."""

    is_learned = True
    """Whether the tokenizer is learned from the documents, so that decoding must give back every
    text. A pretrained one may lose some text."""

    @abstractmethod
    def wrong_settings(self, settings: TokenizerSection) -> list[str]:
        """Describe each mistake in the section `tokenizer` of a run file, with its remedy."""

    @abstractmethod
    def make(self, config: RunConfig, folder: Path) -> MadeTokenizer:
        """Write the tokenizer to an empty folder. Raises DataError where it cannot be made."""

    def check_files(self, config: RunConfig) -> None:
        """Raise DataError for files outside of data_dir that no tokenizer can be made from."""
        return

    def identify_files(self, config: RunConfig) -> dict[str, str]:
        """Return a checksum of each file outside of data_dir that is read, for the fingerprint.

        Raises DataError for missing files.
        """
        return {}

    def decoding_of(self, text: str) -> str:
        """Return the text that the ids of `text` have to decode to."""
        return text


def tokenizer_kind(config: RunConfig) -> TokenizerKind:
    """Return the object that makes tokenizers of `tokenizer.kind`."""
    return TOKENIZER_KINDS[config.tokenizer.kind]


def tokenizer_inventory(config: RunConfig) -> dict[str, str]:
    """Describe the files that `train-tokenizer` reads outside of data_dir, for its fingerprint."""
    return tokenizer_kind(config).identify_files(config)


def check_tokenizer_files(config: RunConfig) -> None:
    """Raise DataError for files that the tokenizer cannot be made from."""
    tokenizer_kind(config).check_files(config)
