"""Open transformers folders: tokenizers, configs, weights. Code in a folder is never run.

Only this module calls `from_pretrained` and `from_config`, so every call refuses remote code, uses
no network and reads no pickle. transformers is imported inside the functions: a command that fails
early does not wait for it.
"""

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

import xxhash

from pipeline.errors import DataError, is_missing, listed_problems
from pipeline.store.records import Json

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

TOKENIZER_JSON = "tokenizer.json"
"""File of a fast tokenizer, in the format of the `tokenizers` library."""
TOKENIZER_CONFIG = "tokenizer_config.json"
"""File of a tokenizer's class and special tokens, beside its vocabulary."""
SENTENCEPIECE_MODEL = "tokenizer.model"
"""File of a SentencePiece model, beside the fast tokenizer that was made from it."""
VOCAB_JSON = "vocab.json"
"""File of a byte-level vocabulary in GPT-2's form, piece -> id; its merges are in MERGES_TXT."""
MERGES_TXT = "merges.txt"
"""File of the merges of VOCAB_JSON, a pair of pieces a line, the first merge first."""
VOCABULARY_FILES = ("tokenizer.*", "vocab.*", "*.model", "*.tiktoken")
"""Patterns of the files in which transformers' tokenizers keep their vocabulary."""
TOKENIZER_FILES = (
    *VOCABULARY_FILES,
    TOKENIZER_CONFIG,
    "merges.*",
    "added_tokens.*",
    "special_tokens_map.*",
)
"""Patterns of all files that decide the ids of a text."""
MODEL_CONFIG = "config.json"
"""File of a model's architecture."""
CODE_ENTRY = "auto_map"
"""Entry of a JSON file that names Python code in the folder, which transformers would import."""
CODE_FILE = Path("custom_generate", "generate.py")
"""File of code that transformers would run instead of its own `generate`."""
KERNEL_ENTRIES = (
    "attn_implementation",
    "_attn_implementation",
    "experts_implementation",
    "_experts_implementation",
)
"""Entries of config.json that name a kernel; a name with a slash is a repository whose code would
be loaded."""
EDGE_BYTES = 1 << 20
"""Bytes at the beginning and at the end of each file of weights that enter its digest."""
OFFLINE = {"local_files_only": True, "trust_remote_code": False}
"""Arguments of every call of `from_pretrained`. Without them transformers asks on the terminal
whether to run the code."""


def refuse_code(folder: Path, where: str) -> None:
    """Raise DataError for a folder that contains code, before any of its files is loaded.

    `where`: beginning of the message, which names the file and its entry. Also raised for a config
    that cannot be read, and for a named pipe or a device, which could block for ever.
    """
    if (folder / CODE_FILE).exists():
        raise DataError(
            f"{where}: contains Python code ({CODE_FILE}), which is never run. Remove that file."
        )
    for path in sorted([*folder.glob("*"), *folder.glob("*/*.jinja")]):
        if path.exists() and not path.is_file() and not path.is_dir():
            raise DataError(
                f"{where}: {path.name} is neither a file nor a folder. Remove it, or use another "
                "folder."
            )
    for file in sorted(folder.glob("*config*.json")):
        _refuse_code_in(file, where)


def _refuse_code_in(file: Path, where: str) -> None:
    try:
        content = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError):
        raise DataError(f"{where}: {file.name} is not valid JSON. Copy the folder again.") from None
    for entry, value in _entries(content):
        if entry == CODE_ENTRY and value:
            raise DataError(
                f"{where}: {file.name} refers to Python code in the folder ({CODE_ENTRY}), which is "
                f"never run. If transformers itself has a class for it, remove {CODE_ENTRY} from "
                f"{file.name}; otherwise use a folder that needs no code."
            )
        if entry in KERNEL_ENTRIES and "/" in str(value):
            raise DataError(
                f"{where}: {file.name} refers to a kernel of a repository ({entry}), whose code is "
                f"never run. Remove {entry} from {file.name}."
            )


def _entries(content: Json) -> Iterator[tuple[str, Json]]:
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
def _refusing_what_fails(where: str) -> Generator[None]:
    """Turn exceptions of transformers over a broken or hostile folder into a DataError.

    Lack of memory and of permissions stay what they are.
    """
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


def is_model_folder(folder: Path) -> bool:
    """Tell whether a folder has a model's config, as transformers writes it."""
    return (folder / MODEL_CONFIG).is_file()


def has_tokenizer(folder: Path) -> bool:
    """Tell whether a folder has the file of a vocabulary, of any of transformers' tokenizers."""
    return any(path.is_file() for pattern in VOCABULARY_FILES for path in folder.glob(pattern))


def tokenizer_files(folder: Path) -> list[str]:
    """Return the names of the files of a folder's tokenizer, sorted."""
    names = {path.name for pattern in TOKENIZER_FILES for path in folder.glob(pattern)}
    return sorted(names)


def open_tokenizer(folder: Path, where: str) -> "PreTrainedTokenizerBase":
    """Load a tokenizer with transformers. Raises DataError for code, or where loading fails."""
    refuse_code(folder, where)
    from transformers import AutoTokenizer

    with _refusing_what_fails(where):
        return cast("PreTrainedTokenizerBase", AutoTokenizer.from_pretrained(folder, **OFFLINE))


def open_config(folder: Path, where: str) -> "PreTrainedConfig":
    """Load the config of a model folder. Raises DataError for code, or where loading fails."""
    refuse_code(folder, where)
    from transformers import AutoConfig

    with _refusing_what_fails(where):
        return cast("PreTrainedConfig", AutoConfig.from_pretrained(folder, **OFFLINE))


def open_model(folder: Path, where: str) -> "PreTrainedModel":
    """Load a causal language model from safetensors, in the number format of the files.

    Raises DataError for code, for weights outside the folder, where loading fails, and where the
    weights are not those of the model in config.json.
    """
    return _open_fitting(folder, where, {"dtype": "auto"})


def open_weights(folder: Path, where: str, architecture: "PreTrainedConfig") -> "PreTrainedModel":
    """Load a model of a given config from safetensors, in fp32.

    Raises DataError as `open_model` does.
    """
    import torch

    return _open_fitting(folder, where, {"config": architecture, "dtype": torch.float32})


class LoadedWeights(TypedDict):
    """Differences that transformers reports between a folder's weights and the config's model.

    A tied weight is missing only where the weight that it is tied to is missing.
    """

    missing_keys: set[str]
    """Weights of the model that the folder lacks; transformers would initialise them at random."""
    unexpected_keys: set[str]
    """Weights of the folder that the model has not; transformers would leave them out."""
    mismatched_keys: set[tuple[str, "torch.Size", "torch.Size"]]
    """Name, shape in the folder and shape in the model, where they differ."""


def _open_fitting(folder: Path, where: str, format_options: dict[str, Any]) -> "PreTrainedModel":
    """Load a model whose weights are those of its config; raise DataError where they are not."""
    # Load it, with transformers' report of differences.
    options = opening_options(folder, where)
    from transformers import AutoModelForCausalLM

    with _refusing_what_fails(where):
        model_and_report: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **format_options,
            **options,
        )
    model: PreTrainedModel = model_and_report[0]
    loaded: LoadedWeights = model_and_report[1]

    # What is missing would be random, what is left over would not count.
    problems = listed_problems(
        {
            "missing": sorted(loaded["missing_keys"]),
            "not of this model": sorted(loaded["unexpected_keys"]),
            "of another shape": sorted(str(entry[0]) for entry in loaded["mismatched_keys"]),
        }
    )
    if problems:
        raise DataError(
            f"{where}: its weights do not fit its config.json: {problems}. Copy the folder again, "
            f"both {MODEL_CONFIG} and all safetensors."
        )
    return model


def opening_options(folder: Path, where: str) -> dict[str, bool]:
    """Return the arguments for a library that calls `from_pretrained` on a model folder itself.

    Raises DataError for code, or where an index of weights names files outside the folder.
    """
    refuse_code(folder, where)
    _refuse_weights_elsewhere(folder, where)
    return {**OFFLINE, "use_safetensors": True}


def _refuse_weights_elsewhere(folder: Path, where: str) -> None:
    """Raise DataError for an index that refers to weights outside the folder."""
    for index in sorted(folder.glob("*.safetensors.index.json")):
        try:
            names = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
            elsewhere = sorted(name for name in names if name != Path(name).name)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise DataError(
                f"{where}: {index.name} is not a valid index of weights. Copy the folder again."
            ) from None
        if elsewhere:
            raise DataError(
                f"{where}: {index.name} lists {elsewhere[0]}, which is not a file of the folder. "
                "Copy it there."
            )


def new_model(
    architecture: "PreTrainedConfig",
    dtype: "torch.dtype | None" = None,
    attention: str | None = None,
) -> "PreTrainedModel":
    """Build a causal language model from a transformers config, with random weights.

    Without a `dtype`, the number format is the config's; without `attention`, the name of a kernel,
    transformers chooses.
    """
    from transformers import AutoModelForCausalLM

    options: dict[str, torch.dtype | str] = {}
    if dtype is not None:
        options["dtype"] = dtype
    if attention is not None:
        options["attn_implementation"] = attention
    return cast(
        "PreTrainedModel",
        AutoModelForCausalLM.from_config(architecture, trust_remote_code=False, **options),
    )


def content_of_model_folder(folder: Path) -> str | None:
    """Return a digest of a model folder's config and weights, None where one of them is missing.

    The digest covers the name, the size, and the first and last EDGE_BYTES of each file.
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
