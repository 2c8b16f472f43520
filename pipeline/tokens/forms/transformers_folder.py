"""The form `folder`: a transformers folder, read by AutoTokenizer without code of its own."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.sections import TokenizerSection
from pipeline.errors import DataError
from pipeline.store.pretrained_folders import (
    MERGES_TXT,
    MODEL_CONFIG,
    SENTENCEPIECE_MODEL,
    TOKENIZER_CONFIG,
    TOKENIZER_JSON,
    VOCAB_JSON,
    open_tokenizer,
    refuse_code,
)
from pipeline.tokens.forms.fast_file import count_ids, read_fast
from pipeline.tokens.forms.tokenizer_form import (
    TokenizerForm,
    expected_forms,
    path_of,
    require_token,
)
from pipeline.tokens.kinds.tokenizer_kind import MadeTokenizer
from pipeline.tokens.tokenizer_json import unknown_of_model

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

FOLDER_FILES = (
    TOKENIZER_JSON,
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    MODEL_CONFIG,
    SENTENCEPIECE_MODEL,
    "spiece.model",
    "sentencepiece.bpe.model",
    VOCAB_JSON,
    "vocab.txt",
    MERGES_TXT,
)
"""Files that transformers may read to build a tokenizer; each that exists decides the output."""


class TransformersFolder(TokenizerForm):
    """A folder with tokenizer.json, or with the files of a class that tokenizer_config.json names."""

    words = "a transformers folder with tokenizer.json"

    def recognises(self, settings: TokenizerSection) -> bool:
        """Tell whether the path is a folder that transformers knows how to read."""
        path = path_of(settings)
        if not path.is_dir():
            return False
        described = (TOKENIZER_CONFIG, VOCAB_JSON, MERGES_TXT)
        return (path / TOKENIZER_JSON).is_file() or all(
            (path / name).is_file() for name in described
        )

    def files(self, settings: TokenizerSection) -> list[Path]:
        """Return the files of the folder that transformers may read."""
        path = path_of(settings)
        return [path / name for name in FOLDER_FILES if (path / name).is_file()]

    def check(self, settings: TokenizerSection) -> None:
        """Raise DataError for code in the folder, and where it holds no fast tokenizer."""
        path = path_of(settings)
        refuse_code(path, f"tokenizer.path = {path}")
        if (path / TOKENIZER_JSON).is_file():
            read_fast(path / TOKENIZER_JSON)
        else:
            load_folder(path)

    def expected_ids(self, settings: TokenizerSection) -> int:
        """Return the number of ids of its tokenizer.json, or of what transformers makes."""
        path = path_of(settings)
        if (path / TOKENIZER_JSON).is_file():
            return count_ids(path / TOKENIZER_JSON)
        return max(load_folder(path).get_vocab().values()) + 1

    def take(self, settings: TokenizerSection, folder: Path) -> MadeTokenizer:
        """Write the folder's tokenizer; its eos token ends documents, if it has one."""
        from pipeline.tokens import tokenizer_folder

        tokenizer = load_folder(path_of(settings))
        fast = tokenizer.backend_tokenizer
        end = tokenizer.eos_token
        if tokenizer.eos_token_id is None or not isinstance(end, str):
            require_token(settings, fast.get_vocab())
            end = settings.end_of_document
        unknown = tokenizer.unk_token
        if not unknown or not isinstance(unknown, str):
            unknown = unknown_token(fast)
        tokenizer_folder.write(fast, folder, end, unknown)
        return MadeTokenizer(
            lambda text: tokenizer(text, add_special_tokens=False, split_special_tokens=True)[
                "input_ids"
            ],
            {},
        )


def load_folder(path: Path) -> "PreTrainedTokenizerFast":
    """Load a transformers folder. Raises DataError where its tokenizer is not a fast one."""
    tokenizer = open_tokenizer(path, f"tokenizer.path = {path}")
    # Not before: the code of the folder is refused without waiting for transformers.
    from transformers import PreTrainedTokenizerFast

    if not tokenizer.is_fast or not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise DataError(f"tokenizer.path = {path}: is not a fast tokenizer; {expected_forms()}")
    return tokenizer


def unknown_token(fast: "Tokenizer") -> str | None:
    """Return the token for text that the vocabulary lacks; None where the tokenizer has none."""
    token = unknown_of_model(json.loads(fast.to_str())["model"])
    if token is None or fast.token_to_id(token) is None:
        return None
    return token
