"""The form `json`: the file tokenizer.json of the library `tokenizers`."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.sections import TokenizerSection
from pipeline.errors import DataError, one_line
from pipeline.tokens.forms.tokenizer_form import (
    TokenizerForm,
    expected_forms,
    path_of,
    require_token,
)
from pipeline.tokens.kinds.tokenizer_kind import MadeTokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class FastFile(TokenizerForm):
    """A tokenizer.json, which holds all but the role of its special tokens."""

    words = "a tokenizer.json"

    def recognises(self, settings: TokenizerSection) -> bool:
        """Tell whether the path is a JSON file."""
        path = path_of(settings)
        return path.is_file() and path.suffix == ".json"

    def check(self, settings: TokenizerSection) -> None:
        """Raise DataError for a file that `tokenizers` cannot read."""
        read_fast(path_of(settings))

    def expected_ids(self, settings: TokenizerSection) -> int:
        """Return the highest id and one."""
        return count_ids(path_of(settings))

    def take(self, settings: TokenizerSection, folder: Path) -> MadeTokenizer:
        """Write the tokenizer; `tokenizer.end_of_document` ends documents."""
        from pipeline.tokens import tokenizer_folder
        from pipeline.tokens.forms.transformers_folder import unknown_token

        fast = read_fast(path_of(settings))
        require_token(settings, fast.get_vocab())
        tokenizer_folder.write(fast, folder, settings.end_of_document, unknown_token(fast))
        fast.encode_special_tokens = True
        fast.no_truncation()
        fast.no_padding()
        return MadeTokenizer(lambda text: fast.encode(text, add_special_tokens=False).ids, {})


def read_fast(path: Path) -> "Tokenizer":
    """Read a tokenizer.json. Raises DataError where it is not one."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # `tokenizers` raises bare Exceptions
        raise DataError(
            f"tokenizer.path: {path} is not a tokenizer of the tokenizers library "
            f"({one_line(error)}); {expected_forms()}"
        ) from None


def count_ids(file: Path) -> int:
    """Return the highest id of a tokenizer.json and one."""
    status = file.stat()
    return _kept_count(file, (status.st_mtime_ns, status.st_size, status.st_ino))


@lru_cache(maxsize=4)
def _kept_count(file: Path, version: tuple[int, ...]) -> int:
    """Return the number of ids of a tokenizer.json.

    Kept, since a large file takes a second to read, and several checks of one command ask.
    `version`: changes with the file.
    """
    from pipeline.tokens.encode import id_count

    return id_count(read_fast(file))
