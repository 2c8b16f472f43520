"""The tokenizer kind `pretrained`: a tokenizer that exists already is taken as it is.

The forms in which it may be stored are in `pipeline/tokens/forms`.
"""

from pathlib import Path

from pipeline.config.run_config import RunConfig
from pipeline.config.sections import TokenizerSection
from pipeline.store.files import file_record
from pipeline.tokens.kinds.tokenizer_kind import MadeTokenizer, TokenizerKind


class PretrainedTokenizer(TokenizerKind):
    """The tokenizer in `tokenizer.path`."""

    is_learned = False

    def wrong_settings(self, settings: TokenizerSection) -> list[str]:
        """Describe a missing path, and a size of the vocabulary: it has one already."""
        if settings.path is not None and settings.vocab_size is None:
            return []
        return [
            "tokenizer: kind pretrained takes `path` (an existing tokenizer: `pipeline config "
            "--describe tokenizer.path`) and no vocab_size"
        ]

    def make(self, config: RunConfig, folder: Path) -> MadeTokenizer:
        """Write the tokenizer in the form that `tokenize` reads.

        Raises DataError where it cannot be read, has no exact fast form, or has no end-of-document
        token.
        """
        from pipeline.tokens.forms.tokenizer_form import form_of

        settings = config.tokenizer
        return form_of(settings).take(settings, folder)

    def check_files(self, config: RunConfig) -> None:
        """Raise DataError if `tokenizer.path` cannot be used.

        It may hold no tokenizer, one that tokenizer.json cannot express exactly, or Python code.
        """
        from pipeline.tokens.forms.tokenizer_form import form_of

        form = form_of(config.tokenizer)
        form.files(config.tokenizer)
        form.check(config.tokenizer)

    def identify_files(self, config: RunConfig) -> dict[str, str]:
        """Return the checksum of each file of the tokenizer."""
        from pipeline.tokens.forms.tokenizer_form import form_of

        files = form_of(config.tokenizer).files(config.tokenizer)
        return {f"pretrained {path.name}": file_record(path)["checksum"] for path in files}
