"""The models that `evaluation.models` names, with what identifies each, before any is loaded.

Reads the manifests of checkpoints and of the export, and the files of transformers folders.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pipeline.checkpoint.folders import complete_checkpoints, read_checkpoint_manifest
from pipeline.config.evaluation_section import EverySteps, Merge, MergedModel, ModelChoice
from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError, DataError
from pipeline.evaluation.merged import (
    merge_coefficients,
    merged_checkpoints,
    merged_steps_in_words,
    merged_weights,
)
from pipeline.evaluation.models import (
    LoadedModel,
    checkpoint_identity,
    load_checkpoint_model,
    load_folder_model,
    model_of_weights,
    published_tokenizer,
)
from pipeline.logs import warn
from pipeline.store.artifacts import read_manifest
from pipeline.store.counts import ExportCounts
from pipeline.store.files import file_record, fingerprint
from pipeline.store.layout import RunFolder, checkpoint_step
from pipeline.store.pretrained_folders import MODEL_CONFIG, tokenizer_files
from pipeline.store.recorded_run import recorded_config
from pipeline.store.records import Manifest
from pipeline.store.scores_folder import MERGE_PREFIX

LAST = Path("last")
ALL = Path("all")
MOST_LISTED = 20
"""Maximum number of steps that a message lists."""


@dataclass(frozen=True)
class ModelToScore:
    """A model, not loaded yet."""

    name: str
    """Name of the folder of its cells; names of a run's checkpoints sort by step."""
    title: str
    """The model for people: a run and step, or a folder."""
    step: int | None
    """Step of the checkpoint; None for a model from elsewhere."""
    tokens: int | None
    """Tokens that the checkpoint was trained on; None for a model from elsewhere."""
    identity: Mapping[str, str]
    """`weights` and `tokenizer`: hashes of all that decides the scores."""
    load: Callable[[], LoadedModel]
    """Loads the model; can be sent to another process, as all of this can."""
    folders: tuple[Path, ...] = ()
    """Folders that the model is read from: checkpoints, or a transformers folder."""
    coefficients: Mapping[str, float] = field(default_factory=dict)
    """Run and step of each checkpoint of a merge -> its coefficient; empty for other models."""

    def gone(self) -> list[Path]:
        """Return the folders that no longer exist."""
        return [folder for folder in self.folders if not folder.is_dir()]


def deleted_models_error(models: Sequence[ModelToScore]) -> DataError:
    """Return the error to raise where models were deleted while others were scored."""
    lines = [
        f"{model.title}: {', '.join(map(str, model.gone()))} was deleted while models were scored, "
        "so that its scores are not complete; those of the other models are there. Leave it out of "
        "evaluation.models, or restore it, and run `pipeline evaluate` again"
        for model in models
    ]
    return DataError("\n".join(lines))


def models_to_score(config: RunConfig) -> list[ModelToScore]:
    """Return the models of `evaluation.models`, each once, in the order in which they are named.

    Raises DataError where nothing has been exported; ConfigError where there is no such checkpoint
    or no such folder, and where the entries name no model at all.
    """
    models: dict[str, ModelToScore] = {}
    problems: list[str] = []
    without_models: list[str] = []
    for choice in config.evaluation.models:
        try:
            chosen = chosen_models(config, choice)
        except ConfigError as error:
            problems += error.problems
            continue
        if not chosen:
            without_models.append(_names_no_checkpoint(config, choice))
        for model in chosen:
            models.setdefault(model.name, model)
    if not models:
        problems += without_models
    if problems:
        raise ConfigError(problems)
    for line in without_models:
        warn(line)
    return list(models.values())


def _names_no_checkpoint(config: RunConfig, choice: ModelChoice) -> str:
    """Return the message of an entry, `all` or `{every: N}`, that names no checkpoint."""
    run = RunFolder(config.paths.run_dir)
    entry = "all"
    rule = "no complete checkpoint"
    if isinstance(choice, EverySteps):
        entry = f"{{every: {choice.every}}}"
        rule = f"no complete checkpoint at a multiple of {choice.every} steps"
    return (
        f"evaluation.models: {entry}: {run.checkpoints} holds {rule}; there are "
        f"{_steps_of(complete_checkpoints(run.checkpoints))}"
    )


def _steps_of(checkpoints: Sequence[Path]) -> str:
    """Return the steps of the newest checkpoints in words."""
    steps = ", ".join(str(checkpoint_step(path)) for path in checkpoints[-MOST_LISTED:])
    return steps or "none"


def folder_identity(folder: Path) -> dict[str, str]:
    """Return what identifies a transformers folder: the content of its files."""
    weights = sorted(path.name for path in folder.glob("*.safetensors"))
    return {
        "weights": _content_of(folder, [*weights, MODEL_CONFIG]),
        "tokenizer": folder_tokenizer(folder),
    }


def folder_tokenizer(folder: Path) -> str:
    """Return a hash of the tokenizer in a transformers folder, of all its files."""
    return _content_of(folder, tokenizer_files(folder))


def _content_of(folder: Path, names: list[str]) -> str:
    paths = [folder / name for name in names]
    return fingerprint(
        {path.name: file_record(path)["checksum"] for path in paths if path.is_file()}
    )


def chosen_models(config: RunConfig, choice: ModelChoice) -> list[ModelToScore]:
    """Return the models of one entry of `evaluation.models`.

    Raises DataError where nothing has been exported; ConfigError where there is no such checkpoint
    or no such folder.
    """
    if choice == LAST:
        return [exported_model(config)]
    checkpoints = complete_checkpoints(RunFolder(config.paths.run_dir).checkpoints)
    if choice == ALL:
        chosen = checkpoints
    elif isinstance(choice, EverySteps):
        chosen = [path for path in checkpoints if checkpoint_step(path) % choice.every == 0]
    elif isinstance(choice, MergedModel):
        return [_of_merge(config, choice.merge)]
    elif isinstance(choice, int):
        return [_of_checkpoint(config, _checkpoint_of_step(config.paths.run_dir, choice), None)]
    else:
        return [_from_elsewhere(choice)]
    return [_of_checkpoint(config, checkpoint, None) for checkpoint in chosen]


def exported_model(config: RunConfig) -> ModelToScore:
    """Return the model that `export` wrote last. Raises DataError where there is none."""
    run = RunFolder(config.paths.run_dir)
    manifest: Manifest[ExportCounts] | None = read_manifest(run.export_manifest)
    if manifest is None:
        raise DataError(f"{run.export}: holds no exported model. Run `pipeline export` first.")
    counts = manifest["counts"]
    folder = run.export / counts["folder"]
    # The folder's weights are the checkpoint's, so that both have the same cells.
    identity = counts.get("identity") or folder_identity(folder)
    return ModelToScore(
        counts["folder"],
        f"{run.name}@{checkpoint_step(folder)}",
        checkpoint_step(folder),
        counts.get("tokens"),
        identity,
        partial(load_folder_model, folder),
        (folder,),
    )


def _checkpoint_of_step(run_dir: Path, step: int) -> Path:
    """Return a complete checkpoint. Raises ConfigError that lists the steps that there are."""
    run = RunFolder(run_dir)
    checkpoints = complete_checkpoints(run.checkpoints)
    if run.checkpoint(step) in checkpoints:
        return run.checkpoint(step)
    raise ConfigError(
        [
            f"evaluation.models: {run.checkpoints} holds no complete checkpoint of step {step}; "
            f"there are {_steps_of(checkpoints)}"
        ]
    )


def _of_checkpoint(config: RunConfig, checkpoint: Path, prefix: str | None) -> ModelToScore:
    """Return the model of a checkpoint; `prefix` names another run in the name of its cells."""
    state = read_checkpoint_manifest(checkpoint)["state"]
    name = checkpoint.name
    if prefix is not None:
        name = f"{prefix}@{checkpoint.name}"
    return ModelToScore(
        name,
        f"{RunFolder(checkpoint.parents[1]).name}@{state['step']}",
        state["step"],
        state["tokens"],
        checkpoint_identity(config, checkpoint),
        partial(load_checkpoint_model, config, checkpoint),
        (checkpoint,),
    )


def _of_merge(config: RunConfig, merge: Merge) -> ModelToScore:
    """Return the mean of a run's checkpoints."""
    run = RunFolder(config.paths.run_dir)
    prefix = ""
    if merge.run is not None:
        if not merge.run.exists():
            raise ConfigError(
                [
                    f"evaluation.models: merge.run = {merge.run}: no such folder; name the folder of "
                    "a run, or leave it out for this run"
                ]
            )
        run = RunFolder(merge.run)
        config = recorded_config(run.path, [])
        prefix = f"{_place_name(merge.run, run.name)}@"

    # What is averaged, and how.
    checkpoints = merged_checkpoints(run.path, merge)
    steps = [checkpoint_step(checkpoint) for checkpoint in checkpoints]
    coefficients = merge_coefficients(steps, merge.weights)
    parts = [checkpoint_identity(config, checkpoint) for checkpoint in checkpoints]
    tokens = read_checkpoint_manifest(checkpoints[-1])["state"]["tokens"]

    # The cells' folder, the title, and what decides the scores.
    name = f"{prefix}{MERGE_PREFIX}{fingerprint(steps)[:8]}-{merge.weights}-{checkpoints[-1].name}"
    title = f"{run.name}, {merge.weights} merge of {merged_steps_in_words(steps)}"
    identity = {
        "weights": fingerprint([[part["weights"] for part in parts], coefficients]),
        "tokenizer": parts[-1]["tokenizer"],
    }
    load = partial(_load_merge, config, checkpoints, coefficients, name, tokens)
    named = {
        f"{run.name}@{step}": coefficient
        for step, coefficient in zip(steps, coefficients, strict=True)
    }
    return ModelToScore(name, title, steps[-1], tokens, identity, load, tuple(checkpoints), named)


def _load_merge(
    config: RunConfig,
    checkpoints: Sequence[Path],
    coefficients: Sequence[float],
    name: str,
    tokens: int,
) -> LoadedModel:
    model = model_of_weights(config, merged_weights(checkpoints, coefficients))
    tokenizer = published_tokenizer(config, model)
    return LoadedModel(model, tokenizer, name, checkpoint_step(checkpoints[-1]), tokens)


def _from_elsewhere(location: Path) -> ModelToScore:
    """Return the model of another run's checkpoint, or of a transformers folder."""
    match = re.fullmatch(r"(.+)@(\d+)", str(location))
    if match is not None and not location.exists():
        run_dir = Path(match[1])
        checkpoint = _checkpoint_of_step(run_dir, int(match[2]))
        run = RunFolder(run_dir)
        config = recorded_config(run.path, [])
        return _of_checkpoint(config, checkpoint, _place_name(run_dir, run.name))
    if not location.is_dir():
        raise ConfigError(
            [
                f"evaluation.models: {location} is no folder; name a transformers folder, "
                "RUN@STEP, a step, `last` or `all`"
            ]
        )
    identity = folder_identity(location)
    name = _place_name(location, location.name)
    return ModelToScore(
        name,
        str(location),
        None,
        None,
        identity,
        partial(load_folder_model, location),
        (location,),
    )


def _place_name(path: Path, name: str) -> str:
    """Return a folder name for the cells of a model from elsewhere, different for two places."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '-', name)}-{fingerprint(str(path))[:8]}"
