"""`pipeline run` and `pipeline <stage>`: run the stages that are not done.

A stage writes its output and its manifest; the terminal shows what was made.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from pipeline.cli.stage_notes import (
    changed_input_lines,
    missing_file_lines,
    note_not_asked,
    note_result,
    shown_reasons,
    stale_lines,
    warn_of_readers,
)
from pipeline.cli.start_checks import (
    checks_ahead,
    refuse_impossible_folders,
    refuse_mistakes,
    refuse_srun_step,
    refuse_unwritable,
    stages_described,
    undescribed_line,
)
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.errors import DataError
from pipeline.logs import human_seconds, note
from pipeline.store import artifacts
from pipeline.store.artifacts import StageState
from pipeline.store.data_readers import marked_as_reader
from pipeline.store.files import fingerprint
from pipeline.store.lease import Lease
from pipeline.store.table.stage_row import Stage
from pipeline.work.dask_workers import is_first_task, srun_step_roles
from pipeline.work.stage_clock import StageClock
from pipeline.work.workers import kept_workers


def run_all(stages: Sequence[Stage], run_file: Path, overrides: Sequence[str]) -> None:
    """Run every stage that is not done, print the summary, check the required results.

    A run file without the sections of later stages ends with the stages that it describes. Raises
    ConfigError where it has some of the sections that a stage reads, but not all.
    """
    config = load(run_file, overrides, needs=())
    refuse_srun_step(stages, "run")
    refuse_impossible_folders(config)
    described = stages_described(stages, config)

    # Find all mistakes before the first stage starts.
    table = {stage.name: stage for stage in stages}
    states = artifacts.stage_states(table, config, look_at=table)
    waiting = [stage for stage in described if states[stage.name].kind != "done"]
    refuse_unwritable(config, waiting)
    refuse_mistakes((check for stage in waiting for check in stage.checks), config)

    # Those that make the data work on the same workers; training needs their cores and memory.
    with kept_workers():
        for stage in described:
            if stage.shared:
                run_stage(stage, config, table, rebuild_inputs=True)
    for stage in described:
        if not stage.shared:
            run_stage(stage, config, table, rebuild_inputs=True)
    line = undescribed_line(stages, config)
    if line is not None:
        note(f"run: {line}")
        return
    artifacts.import_function("pipeline.reporting.summary:print_summary")(config)


def run_one(
    stages: Sequence[Stage],
    stage: Stage,
    run_file: Path,
    overrides: Sequence[str],
    if_described: bool = False,
) -> None:
    """Run one stage; its inputs must be done, and the run file has to have the sections it reads.

    `if_described`: a stage that the run file does not describe is left out, as `pipeline run` does.
    """
    table = {each.name: each for each in stages}
    if if_described and not _is_described(stages, stage, run_file, overrides):
        return
    needs = stage.sections_read(table)
    config = load(run_file, overrides, needs=needs, reader=f"`{stage.command}`")
    if not (stage.on_workers and config.executor.uses_slurm):
        refuse_srun_step(stages, stage.name)
    refuse_impossible_folders(config)
    if stage.is_left_out(config):
        if is_first_task():
            note_not_asked(stage)
        return
    with srun_step_roles(config.executor, stage.folder(config)):
        run_stage(stage, config, table, rebuild_inputs=False)


def _is_described(
    stages: Sequence[Stage], stage: Stage, run_file: Path, overrides: Sequence[str]
) -> bool:
    """Tell whether the run file describes a stage, and print it where it does not."""
    config = load(run_file, overrides, needs=())
    up_to_this = stages[: stages.index(stage) + 1]
    if stage in stages_described(up_to_this, config):
        return True
    if is_first_task():
        absent = stage.absent_sections(config, {each.name: each for each in stages})
        note(f"{stage.name}: not described by this run file, which lacks {', '.join(absent)}")
    return False


def export_chosen_steps(run_file: Path, overrides: Sequence[str], steps: str) -> None:
    """Write the transformers folders of some checkpoints; `steps` as in `100,200`."""
    from pipeline.cli.checkpoint_commands import step_numbers

    config = load(run_file, overrides)
    chosen = step_numbers("--steps", steps)
    with Lease(config.paths.run_dir, "pipeline export --steps"):
        artifacts.import_function("pipeline.evaluation.export:export_steps")(config, chosen)


def watch_run(stages: Sequence[Stage], run_file: Path, overrides: Sequence[str]) -> None:
    """Score each new checkpoint of a run while it trains in another process."""
    config = load(run_file, overrides)
    refuse_srun_step(stages, "evaluate --watch")
    refuse_impossible_folders(config)
    # A mistake is found now, and not when the first checkpoint is there.
    evaluate = next(stage for stage in stages if stage.name == "evaluate")
    refuse_mistakes(evaluate.checks, config)
    artifacts.import_function("pipeline.evaluation.watch:watch")(config)


def run_stage(
    stage: Stage, config: RunConfig, table: Mapping[str, Stage], rebuild_inputs: bool
) -> None:
    """Run a stage unless it is done, holding its root folder; write its manifest last."""
    states = artifacts.stage_states(table, config, look_at={stage.name})

    # An input that the run file does not ask for is made in passing: it has no content.
    for name in stage.inputs_made(config, table):
        if states[name].kind == "missing" and not table[name].is_asked(config):
            run_stage(table[name], config, table, rebuild_inputs)

    # A stage that is done takes no lease: finished data may be read-only, and shared.
    state = states[stage.name]
    if state.kind == "done":
        note_result(stage, config, "done already", state.manifest)
        for line in missing_file_lines(stage, config, state):
            note(line)
        for line in changed_input_lines(stage, config, table, state.manifest):
            note(line)
        return

    with Lease(stage.root(config), stage.command):
        _run_holding_lease(stage, config, table, rebuild_inputs)


def _run_holding_lease(
    stage: Stage, config: RunConfig, table: Mapping[str, Stage], rebuild_inputs: bool
) -> None:
    # Another command may have finished the stage before this one got the lease.
    read_stages = (*stage.inputs_made(config, table), *stage.needs)
    look_at = {stage.name}
    if stage.reads_files:
        look_at.update(read_stages)
    states = artifacts.stage_states(table, config, look_at)
    if not rebuild_inputs:
        # A mistake in the settings first: it may be what makes an input stale.
        ahead = [check for check in stage.checks if check.is_ahead and not check.is_heavy]
        refuse_mistakes(ahead, config)
        _refuse_unfinished_inputs(stage, read_stages, states)
    if states[stage.name].kind == "done":
        note_result(stage, config, "done already", states[stage.name].manifest)
        return

    # Check again what may have changed since the checks of `run_all`.
    _refuse_missing_files(read_stages, config, table, states)
    refuse_mistakes([*stage.checks, *checks_ahead(stage, table, states)], config)

    # What the output is made from is recorded before it is made.
    inputs = artifacts.expected_inputs(stage, config, table)
    made_from = artifacts.outputs_of(stage.inputs_made(config, table), config, table)

    # Tell the user what begins, and why.
    for line in stale_lines(stage, states[stage.name]):
        note(line)
    if stage.shared:
        warn_of_readers(stage, config)
    if stage.is_asked(config):
        note(f"{stage.name}: {stage.help}")

    # What the stage refuses leaves the older output and its manifest, which it removes itself.
    clock = StageClock(
        stage.root(config),
        stage.name,
        stage.folder(config),
        fingerprint(inputs),
        grows=stage.grows,
    )
    with _reader_mark(stage, config), clock:
        result = artifacts.import_function(stage.function)(config)

    # The manifest says that the stage is done.
    seconds = clock.finish()
    manifest = artifacts.write_manifest(stage, config, inputs, made_from, result, seconds)
    took = f"done in {human_seconds(clock.job_seconds)}"
    if seconds != clock.job_seconds:
        took += f" ({human_seconds(seconds)} with earlier starts whose work it keeps)"
    note_result(stage, config, took, manifest)


def _reader_mark(stage: Stage, config: RunConfig) -> AbstractContextManager[None]:
    """Return a mark in data_dir for a stage of one run, so that whoever changes the data sees it."""
    if stage.shared:
        return nullcontext()
    return marked_as_reader(config.paths.data_dir, config.paths.run_dir)


def _refuse_unfinished_inputs(
    stage: Stage, read_stages: Sequence[str], states: Mapping[str, StageState]
) -> None:
    for name in read_stages:
        if states[name].kind == "done":
            continue
        reasons = "".join(f"\n  - {reason}" for reason in shown_reasons(states[name]))
        raise DataError(
            f"{stage.name} reads the output of {name}, which is {states[name].kind}{reasons}\n"
            f"Run `pipeline {name}` with the same run file first, or `pipeline run` for all in "
            "order."
        )


def _refuse_missing_files(
    read_stages: Sequence[str],
    config: RunConfig,
    table: Mapping[str, Stage],
    states: Mapping[str, StageState],
) -> None:
    lines = [
        line
        for name in read_stages
        for line in missing_file_lines(table[name], config, states[name])
    ]
    if lines:
        raise DataError("\n".join(lines))
