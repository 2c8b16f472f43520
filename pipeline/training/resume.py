"""Whether and from where a run goes on, and which settings may have changed since it began."""

from pathlib import Path
from typing import Any, NamedTuple

from pipeline.artifacts import differences, flatten, read_json, read_manifest, write_json
from pipeline.config import RunConfig
from pipeline.errors import ConfigError

RUN_RECORD = "run.json"

FIXED = ("model", "data", "optimizer", "schedule", "batch.global_batch_tokens", "precision", "train.seed")
"""Settings that stay as they were: any of them would turn the run into another one."""

MAY_CHANGE = {
    "train.train_tokens": "upwards only; a cosine schedule is stretched to the new end",
    "batch.micro_batch_sequences": "the same global batch in other portions",
    "train.activation_checkpointing, train.validate_every_steps": "cost and measurements only",
    "checkpoint, evaluation, launch.kind, launch.master_port, executor": "how and where, not what",
    "deepspeed": "any template of the same ZeRO stage",
    "paths": "the folders may be moved",
}
"""What may change on resume. The number of ranks and the ZeRO stage are those of the checkpoint."""


class Beginning(NamedTuple):
    """Where this job starts."""

    candidates: list[Path]
    """Complete checkpoints, newest first; the first intact one is taken. Empty: from the initial weights."""


def begin(config: RunConfig, checkpoints: list[Path]) -> Beginning:
    """Decide where to start and record the run's settings at its very beginning; only one process calls it.

    Raises ConfigError where `train.resume` forbids it or where a fixed setting differs from the run's.
    """
    run_dir, mode = config.paths.run_dir, config.train.resume
    if mode == "required" and not checkpoints:
        raise ConfigError([f"train.resume = required: {run_dir / 'checkpoints'} holds no complete checkpoint; set it to auto"])
    if mode == "never" and checkpoints:
        raise ConfigError(
            [
                f"train.resume = never: {run_dir} holds checkpoints up to {checkpoints[-1].name}; set it to auto to go on "
                "from there, or choose another paths.run_dir"
            ]
        )
    now = settings_of(config)
    if checkpoints and (before := read_json(run_dir / RUN_RECORD)) is not None:
        problems = [
            f"{change}; the run in {run_dir} began with the first value: set it back, or choose another paths.run_dir"
            for change in differences({k: v for k, v in before.items() if k != "train.train_tokens"}, _fixed(now))
        ]
        if now["train.train_tokens"] < before["train.train_tokens"]:
            problems.append(
                f"train.train_tokens = {now['train.train_tokens']}: may only grow on resume; the run has "
                f"{before['train.train_tokens']}"
            )
        if problems:
            raise ConfigError(problems)
    write_json(run_dir / RUN_RECORD, now)
    return Beginning(checkpoints[::-1])


def settings_of(config: RunConfig) -> dict[str, Any]:
    """Return everything that makes this run what it is, flat."""
    settings: dict[str, Any] = {"train.train_tokens": config.train.train_tokens}
    for dotted in FIXED:
        value: Any = config.model_dump()
        for part in dotted.split("."):
            value = value[part]
        settings |= flatten(value, dotted)
    for folder in ("tokenizer", "tokens"):
        manifest = read_manifest(config.paths.data_dir / folder / "manifest.json")
        settings[f"the {folder} in {config.paths.data_dir / folder}"] = manifest["output"] if manifest else None
    return settings


def _fixed(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != "train.train_tokens"}
