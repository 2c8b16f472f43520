"""The tokenizer kind `pretrained`: a tokenizer that exists already is taken as it is."""

from pathlib import Path

from pipeline.config.run_config import RunConfig
from pipeline.config.sections import TokenizerSection
from pipeline.tokens.kinds.tokenizer_kind import MadeTokenizer, TokenizerKind


class PretrainedTokenizer(TokenizerKind):
    """The tokenizer in `tokenizer.path` (`pretrained.py`)."""

    is_learned = False

    def wrong_settings(self, settings: TokenizerSection) -> list[str]:
        """Describe a missing path, and a size of the vocabulary: it has one already."""
        if settings.path is not None and settings.vocab_size is None:
            return []
        return [
            "tokenizer: kind pretrained takes `path` (folder, tokenizer.json or .model) and no "
            "vocab_size"
        ]

    def make(self, config: RunConfig, folder: Path) -> MadeTokenizer:
        """Write the tokenizer in the form that `tokenize` reads."""
        from pipeline.tokens import pretrained

        return MadeTokenizer(pretrained.take(config, folder), {})

    def check_files(self, config: RunConfig) -> None:
        """Raise DataError if `tokenizer.path` cannot be used.

        It may hold no tokenizer, one that tokenizer.json cannot express exactly, or Python code.
        """
        from pipeline.tokens import pretrained

        pretrained.check_pretrained(config)

    def identify_files(self, config: RunConfig) -> dict[str, str]:
        """Return the checksum of each file of the tokenizer."""
        from pipeline.tokens import pretrained

        return pretrained.identify_pretrained(config)
