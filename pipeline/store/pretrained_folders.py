"""Opens transformers folders: tokenizers, configs, weights. Nothing that a folder brings is ever
run.

The only module that calls `from_pretrained` and `from_config`, so that every call refuses remote
code, asks no network and reads no pickle. transformers is imported inside the functions: a command
that fails early does not wait for it.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xxhash

from pipeline.errors import DataError, is_missing

TOKENIZER_JSON = "tokenizer.json"
"""File of a fast tokenizer, in the format of the `tokenizers` library."""
TOKENIZER_CONFIG = "tokenizer_config.json"
"""File of what transformers asks of a tokenizer beside its vocabulary: class, special tokens."""
SENTENCEPIECE_MODEL = "tokenizer.model"
"""File of a SentencePiece model, kept beside the fast tokenizer that was made from it."""
MODEL_CONFIG = "config.json"
"""File of a model's architecture."""
CODE_ENTRY = "auto_map"
"""Entry of a JSON file in which a folder names Python code of its own, which transformers would
import."""
CODE_FILE = Path("custom_generate", "generate.py")
"""Code that transformers would run in the place of its own `generate`."""
KERNEL_ENTRIES = (
    "attn_implementation",
    "_attn_implementation",
    "experts_implementation",
    "_experts_implementation",
)
"""Entries of config.json that name a kernel; one with a slash is a repository whose code would be
loaded."""
EDGE_BYTES = 1 << 20
"""Of each file of weights so much of its beginning and end is read to tell it from another one."""
OFFLINE = {"local_files_only": True, "trust_remote_code": False}
"""What every call of `from_pretrained` is given. Without it transformers asks on the terminal
whether to run the code."""


def refuse_code(folder: Path, where: str) -> None:
    """Refuse a folder that brings code, before anything of it is loaded. `where` begins the
    message.

    Raises DataError naming the file and its entry; also for a config that cannot be read, and for a
    named pipe or a device, which would be waited for without end.
    """
    if (folder / CODE_FILE).exists():
        raise DataError(
            f"{where}: brings code of its own ({CODE_FILE}), which is never run. Remove that file."
        )
    for path in sorted([*folder.glob("*"), *folder.glob("*/*.jinja")]):
        if path.exists() and not path.is_file() and not path.is_dir():
            raise DataError(
                f"{where}: {path.name} is neither a file nor a folder. Remove it, or name another "
                "folder."
            )
    for file in sorted(folder.glob("*config*.json")):
        _refuse_code_in(file, where)


def _refuse_code_in(file: Path, where: str) -> None:
    try:
        content = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError):
        raise DataError(
            f"{where}: {file.name} is no JSON that can be read. Copy the folder again."
        ) from None
    for entry, value in _entries(content):
        if entry == CODE_ENTRY and value:
            raise DataError(
                f"{where}: {file.name} names code of the folder's own ({CODE_ENTRY}), which is "
                "never run. Where transformers "
                f"has a class for it, remove {CODE_ENTRY} from {file.name}; else take a folder "
                "that needs no code."
            )
        if entry in KERNEL_ENTRIES and "/" in str(value):
            raise DataError(
                f"{where}: {file.name} names a kernel of a repository ({entry}), whose code is "
                "never run. Remove that entry."
            )


def _entries(content: Any) -> Iterator[tuple[str, Any]]:
    """Yield every (key, value) of a JSON value at any depth, without recursion."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


@contextmanager
def _refusing_what_fails(where: str) -> Iterator[None]:
    """Turn what transformers raises over a broken or hostile folder into a DataError; not a lack of
    memory or of rights."""
    try:
        yield
    except (MemoryError, DataError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None and not is_missing(error):
            raise
        reason = (str(error).splitlines() or [""])[0][:200]
        raise DataError(
            f"{where}: cannot be loaded by transformers ({type(error).__name__}: {reason})"
        ) from None


def open_tokenizer(folder: Path, where: str) -> Any:
    """Load a tokenizer folder as transformers does. Raises DataError as `refuse_code` does, and
    where that fails."""
    refuse_code(folder, where)
    from transformers import AutoTokenizer

    with _refusing_what_fails(where):
        return AutoTokenizer.from_pretrained(folder, **OFFLINE)


def open_config(folder: Path, where: str) -> Any:
    """Load the config of a model folder. Raises DataError as `refuse_code` does, and where that
    fails."""
    refuse_code(folder, where)
    from transformers import AutoConfig

    with _refusing_what_fails(where):
        return AutoConfig.from_pretrained(folder, **OFFLINE)


def open_model(folder: Path, where: str, **options: Any) -> Any:
    """Load a causal language model from safetensors. Raises DataError as `refuse_code` does, and
    where that fails."""
    opening = opening_options(folder, where)
    from transformers import AutoModelForCausalLM

    with _refusing_what_fails(where):
        return AutoModelForCausalLM.from_pretrained(folder, **options, **opening)


def opening_options(folder: Path, where: str) -> dict[str, Any]:
    """Return what a library that opens a model folder itself must be given.

    Raises DataError as `refuse_code` does, and where an index of weights leads out of the folder.
    """
    refuse_code(folder, where)
    _refuse_weights_elsewhere(folder, where)
    return {**OFFLINE, "use_safetensors": True}


def _refuse_weights_elsewhere(folder: Path, where: str) -> None:
    """Refuse an index whose shards lie elsewhere: what is read would be other files than those that
    were named and counted."""
    for index in sorted(folder.glob("*.safetensors.index.json")):
        try:
            names = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
            elsewhere = sorted(name for name in names if name != Path(name).name)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise DataError(
                f"{where}: {index.name} is no index of weights. Copy the folder again."
            ) from None
        if elsewhere:
            raise DataError(
                f"{where}: {index.name} names {elsewhere[0]}, which is no file of the folder. Copy "
                "it there."
            )


def new_model(architecture: Any, **options: Any) -> Any:
    """Build a causal language model from a transformers config, with weights of its own drawing."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(architecture, trust_remote_code=False, **options)


def content_of_model_folder(folder: Path) -> str | None:
    """Return a digest of a model folder's config and weights, None where a file of it is missing.

    Of each file its name, its size and its first and last EDGE_BYTES are read.
    """
    files = [folder / MODEL_CONFIG, *sorted(folder.glob("*.safetensors"))]
    if not all(file.is_file() for file in files):
        return None
    digest = xxhash.xxh3_128()
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name}/{size}/".encode())
        with path.open("rb") as file:
            digest.update(file.read(EDGE_BYTES))
            file.seek(max(0, size - EDGE_BYTES))
            digest.update(file.read())
    return digest.hexdigest()
