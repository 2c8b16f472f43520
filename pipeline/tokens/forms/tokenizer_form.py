"""The questions that every form of an existing tokenizer answers.

A form is a kind of files that `tokenizer.path` may name. Imports no tokenizer library, so that a
run file is checked quickly. A new form is one file in this folder with a class, and a line in the
table `TOKENIZER_FORMS` in `pipeline/config/kinds.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path

from pipeline.config.kinds import TOKENIZER_FORMS
from pipeline.config.sections import TokenizerSection
from pipeline.errors import DataError
from pipeline.tokens.kinds.tokenizer_kind import MadeTokenizer

FORM_SETTINGS = ("merges", "pattern", "special_tokens")
"""Settings of the section `tokenizer` that some forms take."""


class TokenizerForm(ABC):
    """A form in which a tokenizer that exists already is stored, without state."""

    words: str
    """The form in a list of what `tokenizer.path` may be."""
    takes: Collection[str] = ()
    """The FORM_SETTINGS that the form reads; others are refused."""

    @abstractmethod
    def recognises(self, settings: TokenizerSection) -> bool:
        """Tell whether `tokenizer.path`, which exists, is of this form."""

    def files(self, settings: TokenizerSection) -> list[Path]:
        """Return the files that decide the output. Raises DataError for missing ones."""
        return [path_of(settings)]

    @abstractmethod
    def check(self, settings: TokenizerSection) -> None:
        """Raise DataError for files that no tokenizer can be made from."""

    @abstractmethod
    def expected_ids(self, settings: TokenizerSection) -> int:
        """Return the number of ids. Raises DataError as `check` does."""

    @abstractmethod
    def take(self, settings: TokenizerSection, folder: Path) -> MadeTokenizer:
        """Write the tokenizer to `folder`; its own encoding is the reference.

        Raises DataError as `check` does, and where there is no end-of-document token.
        """


def path_of(settings: TokenizerSection) -> Path:
    """Return `tokenizer.path`."""
    assert settings.path is not None, "the run file is checked for it"
    return settings.path


def form_of(settings: TokenizerSection) -> TokenizerForm:
    """Return the form of `tokenizer.path`.

    Raises DataError for a path that does not exist or has no form, and for settings that its form
    does not take.
    """
    path = path_of(settings)
    if not path.exists():
        raise DataError(f"tokenizer.path = {path}: does not exist; {expected_forms()}")
    forms: list[TokenizerForm] = [TOKENIZER_FORMS[name] for name in TOKENIZER_FORMS.paths]
    form = next((form for form in forms if form.recognises(settings)), None)
    if form is None:
        raise DataError(f"tokenizer.path = {path}: {_what_it_lacks(path)}")

    # A setting that is not read would seem to have an effect.
    given = [name for name in FORM_SETTINGS if getattr(settings, name)]
    for name in given:
        if name not in form.takes:
            raise DataError(
                f"tokenizer.{name}: is not used with {form.words}, which {path} is; remove "
                f"tokenizer.{name}"
            )
    return form


def expected_forms() -> str:
    """Return the remedy at the end of a message about a path that holds no tokenizer."""
    forms: list[TokenizerForm] = [TOKENIZER_FORMS[name] for name in TOKENIZER_FORMS.paths]
    *others, last = [form.words for form in forms]
    return f"set it to {', '.join(others)}, or {last}"


def _what_it_lacks(path: Path) -> str:
    """Describe a folder without a tokenizer, with the file in it that may be one."""
    models = sorted(
        file.name for pattern in ("*.model", "*.tiktoken") for file in path.glob(pattern)
    )
    if models:
        return f"holds no tokenizer.json, but {models[0]}: set tokenizer.path to that file"
    return f"holds no tokenizer.json; {expected_forms()}"


def require_token(settings: TokenizerSection, vocabulary: Collection[str]) -> None:
    """Raise DataError where a tokenizer without an end of its own lacks `tokenizer.end_of_document`."""
    if settings.end_of_document not in vocabulary:
        raise DataError(
            f"tokenizer.path = {settings.path}: has no eos_token, and tokenizer.end_of_document = "
            f"{settings.end_of_document!r} is not in its vocabulary; set it to a token that is"
        )
