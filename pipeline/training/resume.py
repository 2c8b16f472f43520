"""Whether a run may resume, from which checkpoints, and which settings may have changed since it
began. Free of torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.checkpoint.folders import (
    broken_checkpoints,
    complete_checkpoints,
    read_checkpoint_manifest,
    read_latest,
)
from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError
from pipeline.sampling import order
from pipeline.sampling.dataset import phase_starts
from pipeline.sampling.recorded_tokens import record_tokens
from pipeline.store.artifacts import differences, flatten, read_manifest
from pipeline.store.events import SaveEvent, read_events, write_event
from pipeline.store.files import read_json, write_json
from pipeline.store.layout import RunFolder, data_folder, run_folder
from pipeline.store.records import Json
from pipeline.training.lengthening import LENGTHENED, describe_jump, find_jump, with_length
from pipeline.training.origin import inventory

LENGTH = "train.train_tokens"

FIXED = (
    "model", "data", "optimizer", "schedule", "batch.global_batch_tokens", "batch.ramp", "precision", "train.seed",
    "train.init_from", "train.init_take",
)  # fmt: skip
"""Settings that stay as they were: any of them would turn the run into another one. README.md says
what may change."""

NOT_IN_A_BRANCH = ("model.", "output of tokenizer:", "train.init_")
"""Settings in which a branch cannot differ from the run that it begins from, or that name what that
run began from."""


def record_run(config: RunConfig) -> list[Path]:
    """Record the run's settings and return the checkpoints to resume from, newest first; one
    process calls it.

    Raises ConfigError as `check_resume` does.
    """
    check_resume(config)
    record = run_folder(config).settings
    before = read_json(record) or {}
    jump = find_jump(config, before.get(LENGTH, config.train.train_tokens))
    if jump is not None:
        message = describe_jump(config, jump)
        write_event(config.paths.run_dir, LENGTHENED, **jump.event(message))
    write_json(record, _settings_to_record(config, before))
    record_tokens(config)
    return complete_checkpoints(run_folder(config).checkpoints)[::-1]


def _lost_checkpoints(config: RunConfig) -> list[str]:
    """Say where a run had checkpoints and has none that is complete: it must not begin again from
    nothing by itself."""
    folder = run_folder(config).checkpoints
    found = [f"{path.name}: {flaw}" for path, flaw in broken_checkpoints(folder).items()]
    named = read_latest(folder)
    saves: list[SaveEvent] = read_events(config.paths.run_dir, "save")
    saved = [event["step"] for event in saves]
    if not found and named is None and not saved:
        return []
    found += [] if named is None else [f"`latest` names {named or 'nothing'}"]
    found += (
        [f"{run_folder(config).events.name} tells of a save at step {saved[-1]}"] if saved else []
    )
    return [
        f"paths.run_dir = {config.paths.run_dir}: had checkpoints, and none of them is complete "
        f"({'; '.join(found)}). Restore "
        "one from a copy; or, to begin anew, choose another paths.run_dir"
    ]


def check_resume(config: RunConfig) -> None:
    """Raise ConfigError where `train.resume` forbids to resume, or where a fixed setting differs
    from the run's.

    Also where the newest checkpoint has seen other tokens than the steps before it take.
    """
    run_dir = config.paths.run_dir
    mode = config.train.resume
    checkpoints = complete_checkpoints(RunFolder(run_dir).checkpoints)
    if mode == "required" and not checkpoints:
        raise ConfigError(
            [
                f"train.resume = required: {RunFolder(run_dir).checkpoints} holds no complete checkpoint; "
                "to begin one, set it to auto"
            ]
        )
    if mode == "never" and checkpoints:
        raise ConfigError(
            [
                f"train.resume = never: {run_dir} holds checkpoints up to {checkpoints[-1].name}; "
                "set it to auto to go on "
                "from there, or choose another paths.run_dir"
            ]
        )

    # A new run must not hide a lost one; a resumed one must be the run that began.
    if not checkpoints:
        problems = _lost_checkpoints(config)
    else:
        problems = _changes(config)
        problems = problems or _misplaced(config, checkpoints[-1])
    if problems:
        raise ConfigError(problems)


def _changes(config: RunConfig) -> list[str]:
    """Name the fixed settings that differ from those that were recorded."""
    run_dir = config.paths.run_dir
    before = read_json(RunFolder(run_dir).settings)
    if before is None:
        return []
    other_version = order.other_version(before, run_dir)
    if other_version is not None:
        return [
            f"{other_version}, so the run cannot go on. Finish it with the version of the pipeline "
            "that began it, or choose "
            f"another paths.run_dir{_or_branch(run_dir)}"
        ]
    now = _settings_to_record(config, before)
    length = LENGTH
    for name, digest in now.items():
        if digest is None and name.startswith(
            "output of "
        ):  # about to be made; compared again before training
            before[name] = None
    problems = [
        f"{change}; the run in {run_dir} began with the first value: set it back, or choose "
        "another paths.run_dir"
        + ("" if change.startswith(NOT_IN_A_BRANCH) else _or_branch(run_dir))
        for change in differences(before | {length: 0}, now | {length: 0})
    ]
    if now[length] < before[length]:
        problems.append(
            f"{length} = {now[length]}: may only grow on resume; the run has {before[length]}"
        )
    elif phase_starts(config) != phase_starts(with_length(config, before[length])):
        problems.append(
            f"{length} = {now[length]}: data.stages begin at fractions of the run, so that another "
            "length changes what was "
            f"read before; set it back to {before[length]}, or choose another "
            f"paths.run_dir{_or_branch(run_dir)}"
        )
    return problems


def _misplaced(config: RunConfig, checkpoint: Path) -> list[str]:
    """Say where a checkpoint has seen other tokens than the config's steps take, whatever was
    recorded."""
    state = read_checkpoint_manifest(checkpoint)["state"]
    planned = config.step_plan.tokens_after(state["step"])
    if state["tokens"] == planned:
        return []
    ramp = [(step.until_tokens, step.global_batch_tokens) for step in config.batch.ramp]
    return [
        f"batch.global_batch_tokens = {config.batch.global_batch_tokens}, batch.ramp = {ramp}: "
        f"step {state['step']} ends "
        f"after {planned} tokens, in {checkpoint} after {state['tokens']}; set these back to what "
        "they were, or choose "
        f"another paths.run_dir{_or_branch(config.paths.run_dir)}"
    ]


def _or_branch(run_dir: Path) -> str:
    return f", with train.init_from = {run_dir} to begin from its newest checkpoint"


def _settings_to_record(config: RunConfig, before: Mapping[str, Json]) -> dict[str, Json]:
    """Return the settings, with what was recorded of that from which the run began where it has
    been moved away since."""
    moved = [name for name, content in inventory(config).items() if content is None]
    return settings_of(config) | {name: before[name] for name in moved if name in before}


def settings_of(config: RunConfig) -> dict[str, Json]:
    """Return everything that makes this run what it is, flat."""
    settings: dict[str, Json] = {order.VERSION_RECORD: order.VERSION}
    settings["sources"] = list(config.sources)  # the order of samples also depends on theirs
    for dotted in (*FIXED, LENGTH):
        value: Any = config.model_dump()
        for part in dotted.split("."):
            value = value[part]
        settings |= flatten(value, dotted)
    settings |= inventory(config)
    data = data_folder(config)
    for name, path in (("tokenizer", data.tokenizer_manifest), ("tokens", data.tokens_manifest)):
        manifest = read_manifest(path)
        settings[f"output of {name}"] = manifest["output"] if manifest else None
    return json.loads(json.dumps(settings))  # as it will be read back: tuples are lists
