"""Models to score, and to continue texts with: from a checkpoint of a run, or a transformers folder.

Reads a checkpoint, whose bytes are compared with their checksums first, and data_dir/tokenizer; or
a folder in which no code is run. A checkpoint's model is the one that `export` writes: the same
weights in the same number format, the same tokenizer. Writes nothing that stays.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pipeline.checkpoint.folders import checkpoint_of_step, read_checkpoint_manifest
from pipeline.config.run_config import RunConfig
from pipeline.errors import DataError, UserError
from pipeline.evaluation.published import end_ids, publish_tokenizer, refuse_other_ids
from pipeline.sampling.dataset import tokenizer_size
from pipeline.store.files import fingerprint
from pipeline.store.layout import RunFolder, data_folder, manifest_path, run_folder
from pipeline.store.pretrained_folders import (
    MODEL_CONFIG,
    has_tokenizer,
    is_model_folder,
    new_model,
    open_model,
    open_tokenizer,
)
from pipeline.store.recorded_run import recorded_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline.model.given_weights import GivenWeights


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model in memory, with its tokenizer."""

    model: "PreTrainedModel"
    """The model on the CPU, in its number format, not in training mode."""
    tokenizer: "PreTrainedTokenizerBase"
    name: str
    """Name of the checkpoint or of the folder."""
    step: int | None
    """Steps of training; None for a folder."""
    tokens: int | None
    """Tokens of training; None for a folder."""


def load_named_model(name: str, overrides: Sequence[str]) -> LoadedModel:
    """Load the model that a command names: RUN, RUN@STEP, or a transformers folder.

    RUN is a run's folder or its run file; without a step, its newest checkpoint is taken. Raises
    UserError where there is no such run, step or folder, and as the two functions below do.
    """
    place, step = split_step(name)
    if step is None and is_model_folder(place):
        return load_folder_model(place)
    if place.is_dir() and not RunFolder(place).config.is_file():
        raise DataError(
            f"{place}: holds neither a run ({RunFolder(place).config.name}) nor a transformers "
            f"model ({MODEL_CONFIG})."
        )
    config = recorded_config(place, overrides)
    if not data_folder(config).tokenizer.is_dir():
        raise DataError(
            f"{config.paths.data_dir}: does not hold the run's tokenizer. If it has been moved, set "
            "paths.data_dir=FOLDER to its new folder."
        )
    return load_checkpoint_model(config, checkpoint_of_step(run_folder(config).checkpoints, step))


def split_step(name: str) -> tuple[Path, int | None]:
    """Return the place and the step in RUN@STEP; None where no step is named.

    A path that exists is taken as it is. Raises UserError for a step that is no number.
    """
    place, sign, step = name.rpartition("@")
    if not sign or Path(name).exists():
        return Path(name), None
    if not (step.isascii() and step.isdigit()):
        raise UserError(f"{name}: no such file or folder, and {step!r} is no step of a run")
    return Path(place), int(step)


def load_checkpoint_model(config: RunConfig, checkpoint: Path) -> LoadedModel:
    """Build the model that `export` writes from a checkpoint, in `precision.dtype`.

    Raises DataError where the checkpoint is damaged, or where transformers encodes texts with the
    tokenizer to other ids than `tokenize` did.
    """
    state = read_checkpoint_manifest(checkpoint)["state"]
    model = model_of_weights(config, checkpoint_weights(checkpoint))
    return LoadedModel(
        model, published_tokenizer(config, model), checkpoint.name, state["step"], state["tokens"]
    )


def checkpoint_identity(config: RunConfig, checkpoint: Path) -> dict[str, str]:
    """Return what identifies the model that `export` writes from a checkpoint.

    The hash of the weights covers all files of the checkpoint, the model's config and the number
    format; the other one the tokenizer's ids and how special tokens are read.
    """
    manifest = read_checkpoint_manifest(checkpoint)
    files = {name: record["checksum"] for name, record in manifest["files"].items()}
    weights = {"files": files, "model": manifest["model"], "dtype": config.precision.dtype}
    tokenizer = [manifest["tokenizer"], config.tokens.parse_special_tokens]
    return {"weights": fingerprint(weights), "tokenizer": fingerprint(tokenizer)}


def load_folder_model(folder: Path) -> LoadedModel:
    """Load anybody's transformers folder, in the number format of its files.

    Raises DataError where it has no model or no tokenizer, where it brings code, where loading
    fails, where the weights are not those of its config, and where its tokenizer has ids that the
    model does not embed.
    """
    from transformers.utils.logging import disable_progress_bar

    where = str(folder)
    if not is_model_folder(folder):
        raise DataError(
            f"{where}: holds no model (no {MODEL_CONFIG}). Give a transformers folder, with "
            f"{MODEL_CONFIG}, safetensors and a tokenizer."
        )
    if not has_tokenizer(folder):
        raise DataError(
            f"{where}: has no tokenizer, so no text can be encoded for its model. Copy the files of "
            "the model's tokenizer there (tokenizer.json, tokenizer_config.json)."
        )
    disable_progress_bar()
    tokenizer = open_tokenizer(folder, where)
    model = open_model(folder, where).eval()
    rows = next(model.get_input_embeddings().parameters()).shape[0]
    ids = max(tokenizer.get_vocab().values(), default=-1) + 1
    if ids > rows:
        raise DataError(
            f"{where}: its tokenizer has {ids:,} ids, and its model embeds {rows:,}, so that some "
            "texts cannot be read. Copy the files of this model's own tokenizer there."
        )
    return LoadedModel(model, tokenizer, folder.name, None, None)


def move_to_gpu(loaded: LoadedModel) -> None:
    """Move a model to the GPU, where there is one."""
    import torch

    if torch.cuda.is_available():
        torch.nn.Module.to(loaded.model, "cuda")


def checkpoint_weights(checkpoint: Path) -> "GivenWeights":
    """Return the fp32 weights of a checkpoint, whose bytes are compared with their checksums.

    Raises DataError where the checkpoint is damaged, here or where a weight is read.
    """
    # Set before DeepSpeed is imported: shards are merged in host memory.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from pipeline.checkpoint.stored_weights import read_verified, stored_as_weights
    from pipeline.model.language_model import PREFIX

    stored = read_verified(checkpoint, damage_remedy(checkpoint.parent))
    buffers = {name.removeprefix(PREFIX): buffer for name, buffer in stored.buffers.items()}
    return replace(stored_as_weights(checkpoint, stored), buffers=buffers)


def model_of_weights(config: RunConfig, weights: "GivenWeights") -> "PreTrainedModel":
    """Build the run's model with given weights, rounded to `precision.dtype`.

    Each tensor has the format that it has in a model which transformers loads from an export: a few
    architectures keep some parameters in fp32, and all of them their rotary frequencies.
    """
    import torch
    from transformers.utils.logging import disable_progress_bar

    from pipeline.engine.engine import DTYPES
    from pipeline.model.architecture import model_config
    from pipeline.model.given_weights import put_weights

    # Build the model in its number format, and copy the weights.
    disable_progress_bar()
    dtype = DTYPES[config.precision.dtype]
    with torch.device("cpu"):
        model = new_model(model_config(config), dtype=dtype)
    put_weights(model, weights, is_sharded=False)

    # What the architecture keeps in fp32 is rounded, too: training computed with rounded values.
    persistent = model.state_dict(keep_vars=True)
    kept_in_fp32 = [pattern.replace("*", ".*") for pattern in model._get_dtype_plan(dtype)]
    for name, tensor in persistent.items():
        if tensor.is_floating_point():
            rounded = tensor.data.to(dtype).to(tensor.dtype)
            if any(re.search(pattern, name) for pattern in kept_in_fp32):
                rounded = rounded.float()
            tensor.data = rounded

    # Texts begin and end with the end of a document.
    _, end_of_document = tokenizer_size(data_folder(config).tokenizer)
    for settings in (model.config, model.generation_config):
        if settings is not None:
            settings.bos_token_id = end_of_document
            settings.eos_token_id = end_ids(settings.eos_token_id, end_of_document)
    return model.eval().requires_grad_(False)


def published_tokenizer(config: RunConfig, model: "PreTrainedModel") -> "PreTrainedTokenizerBase":
    """Return the run's tokenizer as transformers opens it in the exported folder of a model.

    transformers also chooses the class of a tokenizer by the model's type. Raises DataError where
    it encodes texts to other ids than `tokenize` did.
    """
    source = data_folder(config).tokenizer
    with TemporaryDirectory() as folder:
        model.config.save_pretrained(folder)
        publish_tokenizer(source, Path(folder), config.tokens.parse_special_tokens)
        refuse_other_ids(source, Path(folder), config.tokens.parse_special_tokens)
        return open_tokenizer(Path(folder), str(source))


def damage_remedy(checkpoints: Path) -> str:
    """Return what to do about a damaged checkpoint."""
    return (
        f"Restore it from a copy; or delete {manifest_path(checkpoints)} and run `pipeline train`, "
        "which continues from the newest sound checkpoint"
    )
