"""What the commands do: decide which stages have to run, run them, show where things stand."""

import os
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import dump, load
from pipeline.errors import ConfigError, DataError, UserError
from pipeline.logs import console, human_bytes, human_seconds, note, print_wide, warn
from pipeline.store import artifacts
from pipeline.store.artifacts import Check, Stage, State
from pipeline.store.data_readers import live_readers, marked_as_reader
from pipeline.store.files import fingerprint
from pipeline.store.lease import Lease, living_holder
from pipeline.store.records import AnyManifest
from pipeline.work.dask_workers import allocation, in_srun_step, is_first_task
from pipeline.work.stage_clock import StageClock

LEAST_WIDTH = 100
"""Columns of the status table: a narrower terminal breaks lines rather than words."""


def run_all(stages: Sequence[Stage], run_file: Path, overrides: Sequence[str]) -> None:
    """Run every stage that is not done, print the summary, then check what the run file requires of
    the result."""
    config = load(run_file, overrides)
    _refuse_srun_step(stages, "run")
    refuse_impossible_folders(config)
    table = {stage.name: stage for stage in stages}
    states = artifacts.states(table, config, look_at=table)
    waiting = [table[name] for name, state in states.items() if state.kind != "done"]
    refuse_unwritable(config, waiting)
    refuse_mistakes((check for stage in waiting for check in stage.checks), config)
    for stage in stages:
        run_stage(stage, config, table, rebuild_inputs=True)
    artifacts.resolve("pipeline.reporting.summary:print_summary")(config)


def run_one(
    stages: Sequence[Stage], stage: Stage, run_file: Path, overrides: Sequence[str]
) -> None:
    """Run one stage; its inputs must be done."""
    config = load(run_file, overrides)
    if not (stage.on_workers and config.executor.kind == "slurm"):
        _refuse_srun_step(stages, stage.name)
    refuse_impossible_folders(config)
    if stage.is_left_out(config):
        if is_first_task():
            note(f"{stage.name}: not asked for")
        return
    with allocation(config.executor, stage.folder(config)):
        run_stage(stage, config, {s.name: s for s in stages}, rebuild_inputs=False)


def _refuse_srun_step(stages: Sequence[Stage], command: str) -> None:
    if in_srun_step():
        *others, last = [stage.name for stage in stages if stage.on_workers]
        able = f"{', '.join(others)} and {last}"
        raise UserError(
            "this is one of several tasks of an srun step, and each would do the whole of "
            f"`pipeline {command}`. Call it "
            f"once, from the batch script, without srun (jobs/slurm/). Only {able} share the tasks "
            "of a step, with "
            f"executor.kind=slurm."
        )


def run_stage(
    stage: Stage, config: RunConfig, table: dict[str, Stage], rebuild_inputs: bool
) -> None:
    """Run a stage unless it is done, holding its folder, and write its manifest last."""
    earlier = artifacts.states(table, config, look_at={stage.name})
    for name in stage.inputs:
        if earlier[name].kind == "missing" and not table[name].is_asked(config):
            run_stage(table[name], config, table, rebuild_inputs)
    before = earlier[stage.name]
    if before.kind == "done":  # no lease: finished data may be read-only, and shared
        _print_result(stage, config, "done already", before.manifest)
        for line in _missing(stage, config, before):
            note(line)
        for line in _outlived(stage, config, table, before.manifest):
            note(line)
        return
    root = _root(stage, config)
    read = (*stage.inputs, *stage.needs)
    look_at = {stage.name, *(read if stage.reads_files else ())}
    with Lease(root, _purpose(stage)):
        states = artifacts.states(table, config, look_at)
        state = states[stage.name]
        for name in read:
            if states[name].kind != "done" and not rebuild_inputs:
                raise DataError(
                    f"{stage.name} reads the output of {name}, which is {states[name].kind}"
                    + "".join(f"\n  - {reason}" for reason in states[name].reasons)
                    + f"\nRun `pipeline {name}` with the same run file first, or `pipeline run` for all in order."
                )
        if state.kind == "done":
            _print_result(stage, config, "done already", state.manifest)
            return
        lost = [line for name in read for line in _missing(table[name], config, states[name])]
        if lost:
            raise DataError("\n".join(lost))
        refuse_mistakes([*stage.checks, *_checks_ahead(stage, table, states)], config)
        inputs = artifacts.expected_inputs(stage, config, table)
        made_from = artifacts.outputs_of(stage.inputs, config, table)
        for reason in state.reasons:
            note(f"{stage.name}: stale, {reason}")
        if stage.shared:
            _warn_of_readers(stage, config)
        if stage.is_asked(config):
            note(f"{stage.name}: {stage.help}")
        if not stage.grows:
            stage.manifest_path(config).unlink(missing_ok=True)
        made_of = fingerprint(inputs)
        mark = (
            nullcontext()
            if stage.shared
            else marked_as_reader(config.paths.data_dir, config.paths.run_dir)
        )
        with (
            mark,
            StageClock(root, stage.name, stage.folder(config), made_of, grows=stage.grows) as clock,
        ):
            result = artifacts.resolve(stage.function)(config)
        seconds = clock.finish()
        manifest = artifacts.write_manifest(stage, config, inputs, made_from, result, seconds)
        in_all = (
            "" if seconds == clock.job_seconds else f" ({human_seconds(seconds)} in all its jobs)"
        )
        _print_result(
            stage, config, f"done in {human_seconds(clock.job_seconds)}{in_all}", manifest
        )


def _root(stage: Stage, config: RunConfig) -> Path:
    """Return the folder that a stage holds while it runs."""
    return config.paths.data_dir if stage.shared else config.paths.run_dir


def _purpose(stage: Stage) -> str:
    """Return what the lease of a running stage says that it is for."""
    return f"pipeline {stage.name}"


def _warn_of_readers(stage: Stage, config: RunConfig) -> None:
    """Say which runs work with the data that a stage is about to change."""
    readers = live_readers(config.paths.data_dir)
    if readers:
        warn(
            f"{stage.name}: {config.paths.data_dir} is in use by {', '.join(map(str, readers))}, "
            "which goes on with the "
            "files that it has open. Started again, a run refuses other tokens than those that it "
            "began with: if this "
            f"changes them, give it a paths.data_dir of its own."
        )


def _print_result(stage: Stage, config: RunConfig, how: str, manifest: AnyManifest | None) -> None:
    """Print the line that a stage ends with, and those that follow it."""
    if not stage.is_asked(config):
        note(f"{stage.name}: not asked for")
        return
    assert manifest is not None, "only a stage that is not asked for is done without one"
    note(f"{stage.name}: {how}: {manifest['counts'].get('headline', '')}")
    for line in manifest.get("closing", []):
        note(f"{stage.name}: {line}")


def _missing(stage: Stage, config: RunConfig, state: State) -> list[str]:
    """Say which files of a stage are missing, and how to get them back, where it is not simply run
    again for them."""
    if state.kind != "done" or not state.missing_files:
        return []
    wrong = "; ".join(state.missing_files)
    remedy = "Restore them from a copy"
    if stage.keeps:
        remedy += (
            f", or delete {stage.manifest_path(config)} and run `pipeline {stage.name}`: it makes "
            "all files of the stage "
            f"again, the same ones if no text was added since"
        )
    else:  # checkpoints: training them again costs too much to be done unasked
        remedy += (
            f", or delete {stage.manifest_path(config)} and run `pipeline {stage.name}`: it goes "
            "on from the newest sound "
            f"checkpoint"
        )
    return [f"{stage.name}: {stage.folder(config)}: {wrong}. {remedy}."]


def _checks_ahead(stage: Stage, table: dict[str, Stage], states: dict[str, State]) -> list[Check]:
    """Return what can be asked now of the stages that come after this one and have to run."""
    names = list(table)
    later = [
        table[name] for name in names[names.index(stage.name) + 1 :] if states[name].kind != "done"
    ]
    return [check for stage in later for check in stage.checks if check.is_ahead]


def refuse_mistakes(checks: Iterable[Check], config: RunConfig) -> None:
    """Run checks, those first that answer at once; raise what all of these refuse as one
    UserError."""
    asked = list(checks)
    for is_heavy in (False, True):
        errors: list[UserError] = []
        for check in asked:
            if check.is_heavy != is_heavy:
                continue
            try:
                artifacts.resolve(check.function)(config)
            except UserError as error:
                errors.append(error)
        _raise_together(errors)


def _raise_together(errors: Sequence[UserError]) -> None:
    """Raise what some checks refuse as one error: a list of settings where all of it is about
    settings."""
    texts = dict.fromkeys(str(error) for error in errors)
    of_settings = [error for error in errors if type(error) is ConfigError]
    bugs = [error for error in errors if error.exit_code != UserError.exit_code]
    if bugs or len(texts) == 1:
        raise (bugs or errors)[0]
    if errors and len(of_settings) == len(errors):
        raise ConfigError(
            list(dict.fromkeys(problem for error in of_settings for problem in error.problems))
        )
    if errors:
        raise UserError("\n".join(texts))


def refuse_impossible_folders(config: RunConfig) -> None:
    """Raise ConfigError where data_dir or run_dir cannot be a folder: something else lies there, or
    above."""
    problems = []
    for name in ("data_dir", "run_dir"):
        folder: Path = getattr(config.paths, name)
        there = _nearest(folder)
        if not there.is_dir():
            problems.append(f"paths.{name} = {folder}: {there} is no folder; name another place")
    if problems:
        raise ConfigError(problems)


def refuse_unwritable(config: RunConfig, waiting: Sequence[Stage]) -> None:
    """Raise ConfigError where a folder that waiting stages write to, or the one it would be made
    in, is read-only."""
    problems = []
    for name in sorted({"data_dir" if stage.shared else "run_dir" for stage in waiting}):
        folder: Path = getattr(config.paths, name)
        there = _nearest(folder)
        if not os.access(there, os.W_OK | os.X_OK):
            problems.append(
                f"paths.{name} = {folder}: {there} may not be written; name another place"
            )
    if problems:
        raise ConfigError(problems)


def _nearest(folder: Path) -> Path:
    """Return the folder, or what there is of the path to it."""
    return next(path for path in (folder, *folder.parents) if os.path.lexists(path))


def show_status(stages: Sequence[Stage], run_file: Path, overrides: Sequence[str]) -> None:
    """Print a table of the stages."""
    from rich.table import Table

    config = load(run_file, overrides)
    refuse_impossible_folders(config)
    table = {stage.name: stage for stage in stages}
    states = artifacts.states(table, config, look_at=table)
    running = {
        root: (living_holder(root) or {}).get("purpose")
        for root in (config.paths.data_dir, config.paths.run_dir)
    }
    refusals = {stage.name: _refusals(stage, states[stage.name], config) for stage in stages}
    shown = Table("stage", "state", "made", "size", "seconds", box=None, pad_edge=False)
    for stage in stages:
        state = states[stage.name]
        made, size, seconds = _made(state.manifest)
        shown.add_row(
            stage.name,
            _shown_state(
                stage,
                state,
                config,
                refusals[stage.name],
                is_running=running[_root(stage, config)] == _purpose(stage),
            ),
            made,
            size,
            seconds,
        )
    print_wide(shown, LEAST_WIDTH)
    for stage in stages:
        for reason in states[stage.name].reasons if not refusals[stage.name] else ():
            console.print(f"{stage.name} is stale: {reason}")
        for problem in refusals[stage.name]:
            console.print(f"{stage.name} will refuse: {problem}")
        for line in _missing(stage, config, states[stage.name]):
            console.print(line)
        for line in _outlived(stage, config, table, states[stage.name].manifest):
            console.print(line)
    console.print(f"data_dir {config.paths.data_dir}\nrun_dir  {config.paths.run_dir}")


def _made(manifest: AnyManifest | None) -> tuple[str, str, str]:
    """Return what a stage made, its size and its seconds in words; nothing without a manifest."""
    if manifest is None:
        return "", "", ""
    size = sum(record["bytes"] for record in manifest["files"].values())
    headline = str(manifest["counts"].get("headline", ""))
    return headline, human_bytes(size), f"{manifest['seconds']:.1f}"


def _refusals(stage: Stage, state: State, config: RunConfig) -> list[str]:
    """Return why a stage that is not done will not go on."""
    if stage.goes_on is None or state.kind == "done":
        return []
    try:
        artifacts.resolve(stage.goes_on)(config)
    except ConfigError as error:
        return list(error.problems)
    return []


def _shown_state(
    stage: Stage, state: State, config: RunConfig, refusals: Sequence[str], *, is_running: bool
) -> str:
    if not stage.is_asked(config):
        return "not asked for"
    if refusals:
        return "refused"
    if is_running and state.kind != "done":
        return "running"
    is_lacking = state.missing_files and (
        state.kind == "done" or stage.rebuilds
    )  # else it goes on, and writes others
    return "missing file" if is_lacking else state.kind


def _outlived(
    stage: Stage, config: RunConfig, table: dict[str, Stage], manifest: AnyManifest | None
) -> list[str]:
    """Say which inputs have changed since a stage that is kept was made."""
    if not stage.keeps or manifest is None:
        return []
    now = artifacts.outputs_of(stage.inputs, config, table)
    made_from = manifest.get("made_from", {})
    return [
        f"{stage.name} was made from an earlier output of {name} and is kept: a new one would make "
        "all that follows "
        f"stale. To make it anew, delete {stage.manifest_path(config)}"
        for name in stage.inputs
        if None not in (now[name], made_from.get(name)) and now[name] != made_from[name]
    ]


def show_config(run_file: Path, overrides: Sequence[str]) -> None:
    """Print the resolved settings."""
    console.print(dump(load(run_file, overrides)), end="")
