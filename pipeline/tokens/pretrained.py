"""Take an existing tokenizer: a transformers folder, a tokenizer.json, or a SentencePiece model.

Reads `tokenizer.path`, and writes data_dir/tokenizer.
"""

import json
from collections.abc import Container
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.run_config import RunConfig
from pipeline.errors import DataError, one_line
from pipeline.store.files import file_record
from pipeline.store.pretrained_folders import (
    MODEL_CONFIG,
    SENTENCEPIECE_MODEL,
    TOKENIZER_CONFIG,
    TOKENIZER_JSON,
    open_tokenizer,
    refuse_code,
)
from pipeline.tokens.kinds.tokenizer_kind import Encode
from pipeline.tokens.tokenizer_json import unknown_of_model

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    from pipeline.tokens.sentencepiece_file import SentencePieceModel

FOLDER_FILES = (
    TOKENIZER_JSON,
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    MODEL_CONFIG,
    SENTENCEPIECE_MODEL,
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)
"""Files that transformers may read to build a tokenizer; each that exists decides the output."""
EXPECTED = (
    "set it to a transformers folder with tokenizer.json, a tokenizer.json, or a SentencePiece BPE "
    ".model"
)
"""Remedy at the end of a message about a path that holds no tokenizer."""


def identify_pretrained(config: RunConfig) -> dict[str, str]:
    """Return a checksum of each file of the tokenizer, for the stage's fingerprint.

    Raises DataError for missing files.
    """
    return {f"pretrained {path.name}": file_record(path)["checksum"] for path in _files(config)}


def check_pretrained(config: RunConfig) -> None:
    """Raise DataError if `tokenizer.path` cannot be used.

    It may hold no tokenizer, one that tokenizer.json cannot express exactly, or Python code.
    """
    path = _path(config)
    _files(config)
    if path.is_dir():
        refuse_code(path, f"tokenizer.path = {path}")
    if _is_sentencepiece(path):
        _read_sentencepiece(path)
    else:
        _read_fast(_json_file(path))


def _path(config: RunConfig) -> Path:
    path = config.tokenizer.path
    assert path is not None, "the run file is checked for it"
    return path


def _json_file(path: Path) -> Path:
    """Return the tokenizer.json that a folder holds, or the file itself."""
    if path.is_dir():
        return path / TOKENIZER_JSON
    return path


def _files(config: RunConfig) -> list[Path]:
    """Return the files that decide the output. Raises DataError where there is no tokenizer."""
    path = _path(config)
    if not path.exists():
        raise DataError(f"tokenizer.path = {path}: does not exist; {EXPECTED}")
    if path.is_file():
        return [path]
    if not (path / TOKENIZER_JSON).is_file():
        models = sorted(file.name for file in path.glob("*.model"))
        remedy = f"; {EXPECTED}"
        if models:
            remedy = f", but {models[0]}: set tokenizer.path to that file"
        raise DataError(f"tokenizer.path = {path}: holds no tokenizer.json{remedy}")
    return [path / name for name in FOLDER_FILES if (path / name).is_file()]


def expected_ids(config: RunConfig) -> int:
    """Return the number of ids of the tokenizer in `tokenizer.path`.

    Raises DataError as `check_pretrained` does.
    """
    _files(config)
    path = _path(config)
    if _is_sentencepiece(path):
        return len(_read_sentencepiece(path).pieces)
    file = _json_file(path)
    status = file.stat()
    return _id_count(file, (status.st_mtime_ns, status.st_size, status.st_ino))


@lru_cache(maxsize=4)
def _id_count(file: Path, version: tuple[int, ...]) -> int:
    """Return the number of ids of a `tokenizer.json`.

    Kept, since a large file takes a second to read, and several checks of one command ask.
    `version`: changes with the file.
    """
    from pipeline.tokens.encode import id_count

    return id_count(_read_fast(file))


def take(config: RunConfig, folder: Path) -> Encode:
    """Write the tokenizer of `tokenizer.path` to `folder`; return its own encoding, the reference.

    Raises DataError where it cannot be read, has no exact fast form, or has no end-of-document
    token.
    """
    from pipeline.tokens import tokenizer_folder

    path = _path(config)
    end_of_document = config.tokenizer.end_of_document
    if _is_sentencepiece(path):
        return _take_sentencepiece(path, end_of_document, folder)
    if path.is_dir():
        return _take_folder(path, end_of_document, folder)
    fast = _read_fast(path)
    _require_token(end_of_document, fast.get_vocab(), path)
    tokenizer_folder.write(fast, folder, end_of_document, unknown_token(fast))
    fast.encode_special_tokens = True
    fast.no_truncation()
    fast.no_padding()
    return lambda text: fast.encode(text, add_special_tokens=False).ids


def _take_folder(path: Path, end_of_document: str, folder: Path) -> Encode:
    """Write the tokenizer of a transformers folder, and return its encoding."""
    from pipeline.tokens import tokenizer_folder

    tokenizer = _load_folder(path)
    fast = tokenizer.backend_tokenizer
    end = tokenizer.eos_token
    if tokenizer.eos_token_id is None or not isinstance(end, str):
        _require_token(end_of_document, fast.get_vocab(), path)
        end = end_of_document
    unknown = tokenizer.unk_token
    if not unknown or not isinstance(unknown, str):
        unknown = unknown_token(fast)
    tokenizer_folder.write(fast, folder, end, unknown)
    return lambda text: tokenizer(text, add_special_tokens=False, split_special_tokens=True)[
        "input_ids"
    ]


def unknown_token(fast: "Tokenizer") -> str | None:
    """Return the token for text that the vocabulary lacks; None where the tokenizer has none."""
    token = unknown_of_model(json.loads(fast.to_str())["model"])
    if token is None or fast.token_to_id(token) is None:
        return None
    return token


def _load_folder(path: Path) -> "PreTrainedTokenizerFast":
    """Load a transformers folder. Raises DataError where its tokenizer is not a fast one."""
    tokenizer = open_tokenizer(path, f"tokenizer.path = {path}")
    # Not before: the code of the folder is refused without waiting for transformers.
    from transformers import PreTrainedTokenizerFast

    if not tokenizer.is_fast or not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise DataError(f"tokenizer.path = {path}: is not a fast tokenizer; {EXPECTED}")
    return tokenizer


def _read_fast(path: Path) -> "Tokenizer":
    """Read a tokenizer.json. Raises DataError where it is not one."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # `tokenizers` raises bare Exceptions
        raise DataError(
            f"tokenizer.path: {path} is not a tokenizer of the tokenizers library "
            f"({one_line(error)}); {EXPECTED}"
        ) from None


def _is_sentencepiece(path: Path) -> bool:
    return path.is_file() and path.suffix != ".json"


def _read_sentencepiece(path: Path) -> "SentencePieceModel":
    """Read a `.model` file. Raises DataError where it is not one, or has no exact fast form."""
    from pipeline.tokens.sentencepiece_bpe import why_not
    from pipeline.tokens.sentencepiece_file import read_model

    try:
        model = read_model(path)
    except DataError as error:
        raise DataError(f"tokenizer.path: {error}; {EXPECTED}") from None
    reason = why_not(model)
    if reason is not None:
        raise DataError(f"tokenizer.path = {path}: {reason}")
    return model


def _take_sentencepiece(path: Path, end_of_document: str, folder: Path) -> Encode:
    """Write a SentencePiece model and its fast form, and return SentencePiece's own encoding."""
    import sentencepiece

    from pipeline.tokens import sentencepiece_bpe, tokenizer_folder

    model = _read_sentencepiece(path)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    end = processor.eos_id()
    if end < 0:
        _require_token(end_of_document, model.pieces, path)
        end = model.pieces.index(end_of_document)
    fast = sentencepiece_bpe.to_fast(model)
    tokenizer_folder.write(fast, folder, model.pieces[end], model.pieces[model.unknown_id])
    (folder / SENTENCEPIECE_MODEL).write_bytes(path.read_bytes())
    return lambda text: processor.encode(text)


def _require_token(end_of_document: str, vocabulary: Container[str], path: Path) -> None:
    """Raise DataError where a tokenizer without an end of its own lacks the one of the run file."""
    if end_of_document not in vocabulary:
        raise DataError(
            f"tokenizer.path = {path}: has no eos_token, and tokenizer.end_of_document = "
            f"{end_of_document!r} is not in its vocabulary; set it to a token that is"
        )
