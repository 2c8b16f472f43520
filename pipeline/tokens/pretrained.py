"""`kind: pretrained`: a transformers folder, a `tokenizer.json`, or a SentencePiece `.model`, taken
as it is."""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from tokenizers import Tokenizer

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
"""What transformers may read to build a tokenizer; each that is there decides the output."""
EXPECTED = (
    "name a transformers folder with tokenizer.json, a tokenizer.json, or a SentencePiece BPE "
    ".model"
)


def identify_pretrained(config: RunConfig) -> dict[str, Any]:
    """Describe the files of a tokenizer that is taken, for the stage's fingerprint. Raises
    DataError for missing ones."""
    return {f"pretrained {path.name}": file_record(path)["checksum"] for path in _files(config)}


def check_pretrained(config: RunConfig) -> None:
    """Refuse a `tokenizer.path` that names no tokenizer, one without an exact fast form, or code.
    Raises DataError."""
    path = config.tokenizer.path
    assert path is not None, "the run file is checked for it"
    _files(config)
    if path.is_dir():
        refuse_code(path, f"tokenizer.path = {path}")
    if _is_sentencepiece(path):
        _read_sentencepiece(path)
    else:
        _read_fast(path / TOKENIZER_JSON if path.is_dir() else path)


def _files(config: RunConfig) -> list[Path]:
    path = config.tokenizer.path
    assert path is not None, "the run file is checked for it"
    if not path.exists():
        raise DataError(f"tokenizer.path = {path}: does not exist; {EXPECTED}")
    if path.is_file():
        return [path]
    if not (path / TOKENIZER_JSON).is_file():
        models = sorted(file.name for file in path.glob("*.model"))
        raise DataError(
            f"tokenizer.path = {path}: holds no tokenizer.json"
            + (f", but {models[0]}: name that file itself" if models else f"; {EXPECTED}")
        )
    return [path / name for name in FOLDER_FILES if (path / name).is_file()]


def expected_ids(config: RunConfig) -> int:
    """Return how many ids the tokenizer in `tokenizer.path` has. Raises DataError as
    `check_pretrained` does."""
    _files(config)
    path = config.tokenizer.path
    assert path is not None, "the run file is checked for it"
    if _is_sentencepiece(path):
        return len(_read_sentencepiece(path).pieces)
    file = path / TOKENIZER_JSON if path.is_dir() else path
    status = file.stat()
    return _id_count(file, (status.st_mtime_ns, status.st_size, status.st_ino))


@lru_cache(maxsize=4)
def _id_count(file: Path, version: tuple[int, ...]) -> int:
    """Return the ids of a `tokenizer.json`: large ones take a second to read, and several checks of
    a command ask."""
    from pipeline.tokens.encode import id_count

    return id_count(_read_fast(file))


def take(config: RunConfig, folder: Path) -> Callable[[str], list[int]]:
    """Write the tokenizer that `tokenizer.path` names to `folder`; returns its own encoding, to
    compare with.

    Raises DataError where it cannot be read, has no exact fast form, or has no end-of-document
    token.
    """
    from pipeline.tokens import tokenizer_folder

    path = config.tokenizer.path
    assert path is not None, "the run file is checked for it"
    if _is_sentencepiece(path):
        return _take_sentencepiece(path, config.tokenizer.end_of_document, folder)
    if path.is_dir():
        return _take_folder(path, config.tokenizer.end_of_document, folder)
    fast = _read_fast(path)
    _demand(fast.get_vocab(), config.tokenizer.end_of_document, path)
    tokenizer_folder.write(fast, folder, config.tokenizer.end_of_document, unknown_token(fast))
    fast.encode_special_tokens = True
    fast.no_truncation()
    fast.no_padding()
    return lambda text: fast.encode(text, add_special_tokens=False).ids


def _take_folder(path: Path, end_of_document: str, folder: Path) -> Callable[[str], list[int]]:
    from pipeline.tokens import tokenizer_folder

    tokenizer = _load_folder(path)
    fast: Tokenizer = tokenizer.backend_tokenizer
    if tokenizer.eos_token_id is None:
        _demand(fast.get_vocab(), end_of_document, path)
    end = end_of_document if tokenizer.eos_token_id is None else tokenizer.eos_token
    tokenizer_folder.write(fast, folder, end, tokenizer.unk_token or unknown_token(fast))
    return lambda text: tokenizer(text, add_special_tokens=False, split_special_tokens=True)[
        "input_ids"
    ]


def unknown_of_model(model: Mapping[str, Any]) -> str | None:
    """Return the token for text that the vocabulary lacks, as the `model` of tokenizer.json names
    it; None where there is none."""
    if model.get("unk_id") is not None:  # unigram
        return model["vocab"][model["unk_id"]][0]
    return model.get("unk_token")


def unknown_token(fast: "Tokenizer") -> str | None:
    """Return the token that stands for text which the vocabulary lacks; None where there is
    none."""
    token = unknown_of_model(json.loads(fast.to_str())["model"])
    if token is None or fast.token_to_id(token) is None:
        return None
    return token


def _load_folder(path: Path) -> Any:
    tokenizer = open_tokenizer(path, f"tokenizer.path = {path}")
    if not tokenizer.is_fast:
        raise DataError(f"tokenizer.path = {path}: is not a fast tokenizer; {EXPECTED}")
    return tokenizer


def _read_fast(path: Path) -> "Tokenizer":
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # `tokenizers` raises bare Exceptions
        raise DataError(
            f"tokenizer.path: {path} is no tokenizer of the tokenizers library "
            f"({one_line(error)}); {EXPECTED}"
        ) from None


def _is_sentencepiece(path: Path) -> bool:
    return path.is_file() and path.suffix != ".json"


def _read_sentencepiece(path: Path) -> Any:
    """Return the model, one that has an exact fast form."""
    from pipeline.tokens.sentencepiece_bpe import why_not
    from pipeline.tokens.sentencepiece_file import read_model

    try:
        model = read_model(path)
    except DataError as error:
        raise DataError(f"tokenizer.path: {error}; {EXPECTED}") from None
    if reason := why_not(model):
        raise DataError(f"tokenizer.path = {path}: {reason}")
    return model


def _take_sentencepiece(
    path: Path, end_of_document: str, folder: Path
) -> Callable[[str], list[int]]:
    import sentencepiece

    from pipeline.tokens import sentencepiece_bpe, tokenizer_folder

    model = _read_sentencepiece(path)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    end = processor.eos_id()
    if end < 0:
        _demand(model.pieces, end_of_document, path)
        end = model.pieces.index(end_of_document)
    fast = sentencepiece_bpe.to_fast(model)
    tokenizer_folder.write(fast, folder, model.pieces[end], model.pieces[model.unknown_id])
    (folder / SENTENCEPIECE_MODEL).write_bytes(path.read_bytes())
    return processor.encode  # pyright: ignore[reportReturnType]


def _demand(vocabulary: Any, end_of_document: str, path: Path) -> None:
    if end_of_document not in vocabulary:
        raise DataError(
            f"tokenizer.path = {path}: has no eos_token, and tokenizer.end_of_document = "
            f"{end_of_document!r} is not in "
            f"its vocabulary; name a token that is"
        )
