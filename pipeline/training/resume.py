"""Check whether a run may resume: its checkpoints, and the settings that must not have changed.

Reads and writes the settings recorded in the run folder; reads checkpoints' manifests. Free of
torch.
"""

import json
from collections.abc import Mapping
from pathlib import Path

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
from pipeline.store.artifacts import read_manifest
from pipeline.store.events import SaveEvent, read_events, write_event
from pipeline.store.files import read_json, write_json
from pipeline.store.layout import RunFolder, data_folder, run_folder
from pipeline.store.manifests.recorded_settings import (
    SettingValue,
    differences,
    flatten,
    setting_named,
)
from pipeline.store.records import Json
from pipeline.training.lengthening import (
    LENGTHENED,
    describe_rate_jump,
    find_rate_jump,
    with_length,
)
from pipeline.training.origin import origin_content

LENGTH = "train.train_tokens"
"""The setting that may grow on resume."""

FIXED = (
    "model", "data", "optimizer", "schedule", "batch.global_batch_tokens", "batch.ramp", "precision", "train.seed",
    "train.init_from", "train.init_take",
)  # fmt: skip
"""Settings that must not change on resume, since another value makes it another run.

README.md says which settings may change.
"""

NOT_IN_A_BRANCH = ("model.", "output of tokenizer:", "train.init_")
"""Beginnings of settings for which a branch is no remedy.

A branch needs the same model and tokenizer, and the recorded origin is not the branch's own.
"""


def record_run(config: RunConfig) -> list[Path]:
    """Record the run's settings, and return the checkpoints to resume from, newest first.

    Only one process calls it. Raises ConfigError as `check_resume` does.
    """
    check_resume(config)
    record = run_folder(config).settings
    before = read_json(record) or {}
    jump = find_rate_jump(config, before.get(LENGTH, config.train.train_tokens))
    if jump is not None:
        message = describe_rate_jump(config, jump)
        write_event(config.paths.run_dir, LENGTHENED, **jump.event(message))
    write_json(record, _settings_to_record(config, before))
    record_tokens(config)
    return complete_checkpoints(run_folder(config).checkpoints)[::-1]


def _lost_checkpoints(config: RunConfig) -> list[str]:
    """Report a run that had checkpoints and has no complete one: it must not silently start over."""
    folder = run_folder(config).checkpoints
    traces = [f"{path.name}: {flaw}" for path, flaw in broken_checkpoints(folder).items()]
    latest = read_latest(folder)
    if latest is not None:
        traces.append(f"`latest` names {latest or 'nothing'}")
    saves: list[SaveEvent] = read_events(config.paths.run_dir, "save")
    if saves:
        events_name = run_folder(config).events.name
        traces.append(f"{events_name} records a save at step {saves[-1]['step']}")
    if not traces:
        return []
    return [
        f"paths.run_dir = {config.paths.run_dir}: had checkpoints, and none of them is complete "
        f"({'; '.join(traces)}). Restore one from a copy; or, to start from the beginning, choose "
        "another paths.run_dir"
    ]


def check_resume(config: RunConfig) -> None:
    """Check that the run may begin or resume.

    Raises ConfigError where `train.resume` forbids it, where a fixed setting differs from the
    recorded one, where all checkpoints are broken, or where the newest one has seen another number
    of tokens than the config's steps take.
    """
    # `train.resume` may demand a checkpoint, or demand that there is none.
    run_dir = config.paths.run_dir
    mode = config.train.resume
    checkpoints = complete_checkpoints(RunFolder(run_dir).checkpoints)
    if mode == "required" and not checkpoints:
        raise ConfigError(
            [
                f"train.resume = required: {RunFolder(run_dir).checkpoints} holds no complete "
                "checkpoint; set it to auto to begin a run"
            ]
        )
    if mode == "never" and checkpoints:
        raise ConfigError(
            [
                f"train.resume = never: {run_dir} holds checkpoints up to {checkpoints[-1].name}; "
                "set it to auto to continue from there, or choose another paths.run_dir"
            ]
        )

    # A new run must not hide a lost one; a resumed one must be the run that began.
    if not checkpoints:
        problems = _lost_checkpoints(config)
    else:
        problems = _changed_settings(config) or _changed_batches(config, checkpoints[-1])
    if problems:
        raise ConfigError(problems)


def _changed_settings(config: RunConfig) -> list[str]:
    """Report the fixed settings that differ from the recorded ones."""
    # Settings recorded by another version of the sample order cannot be compared.
    run_dir = config.paths.run_dir
    before = read_json(RunFolder(run_dir).settings)
    if before is None:
        return []
    other_version = order.other_version(before, run_dir)
    if other_version is not None:
        return [
            f"{other_version}, so the run cannot continue. Finish it with the version of the "
            f"pipeline that began it, or choose another paths.run_dir{_or_branch(run_dir)}"
        ]

    # Outputs that are yet to be made are not compared now; they are compared before training.
    now = _settings_to_record(config, before)
    for name, digest in now.items():
        if digest is None and name.startswith("output of "):
            before[name] = None

    # All settings but the length have to be the same.
    problems: list[str] = []
    for change in differences(before | {LENGTH: 0}, now | {LENGTH: 0}):
        problem = (
            f"{change}; the run in {run_dir} began with the first value: set it back, or choose "
            "another paths.run_dir"
        )
        if not change.startswith(NOT_IN_A_BRANCH):
            problem += _or_branch(run_dir)
        problems.append(problem)

    # The length may grow, unless stages of the data begin at fractions of it.
    if now[LENGTH] < before[LENGTH]:
        problems.append(
            f"{LENGTH} = {now[LENGTH]}: may only grow on resume; the run has {before[LENGTH]}"
        )
    elif phase_starts(config) != phase_starts(with_length(config, before[LENGTH])):
        problems.append(
            f"{LENGTH} = {now[LENGTH]}: data.stages begin at fractions of the run, so another "
            "length changes which samples the earlier steps read; set it back to "
            f"{before[LENGTH]}, or choose another paths.run_dir{_or_branch(run_dir)}"
        )
    return problems


def _changed_batches(config: RunConfig, checkpoint: Path) -> list[str]:
    """Report a checkpoint that has seen another number of tokens than the config's steps take."""
    state = read_checkpoint_manifest(checkpoint)["state"]
    planned = config.step_plan.tokens_after(state["step"])
    if state["tokens"] == planned:
        return []
    ramp = [(step.until_tokens, step.global_batch_tokens) for step in config.batch.ramp]
    return [
        f"batch.global_batch_tokens = {config.batch.global_batch_tokens}, batch.ramp = {ramp}: "
        f"step {state['step']} ends after {planned} tokens, in {checkpoint} after "
        f"{state['tokens']}; set these back to what they were, or choose another "
        f"paths.run_dir{_or_branch(config.paths.run_dir)}"
    ]


def _or_branch(run_dir: Path) -> str:
    return f", with train.init_from = {run_dir} to begin from its newest checkpoint"


def _settings_to_record(config: RunConfig, before: Mapping[str, Json]) -> dict[str, Json]:
    """Return the settings to record.

    The content of an origin that has been moved away is taken from `before`, where recorded.
    """
    moved = [name for name, content in origin_content(config).items() if content is None]
    return settings_of(config) | {name: before[name] for name in moved if name in before}


def settings_of(config: RunConfig) -> dict[str, Json]:
    """Return everything that defines the run, by dotted name.

    Holds the order's version, the fixed settings, the length, the content of the origin, and the
    outputs of `train-tokenizer` and `tokenize`.
    """
    # The order of samples also depends on the order of the sources.
    settings: dict[str, SettingValue] = {order.VERSION_RECORD: order.VERSION}
    settings["sources"] = list(config.sources)

    # Settings of the run file.
    values = config.model_dump()
    for dotted in (*FIXED, LENGTH):
        settings |= flatten(setting_named(values, dotted), dotted)

    # Content that the settings only name.
    settings |= origin_content(config)
    data = data_folder(config)
    for name, path in (("tokenizer", data.tokenizer_manifest), ("tokens", data.tokens_manifest)):
        manifest = read_manifest(path)
        settings[f"output of {name}"] = manifest["output"] if manifest else None

    # As they will be read back from JSON: tuples become lists.
    return json.loads(json.dumps(settings))
