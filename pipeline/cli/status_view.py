"""What `pipeline status` prints: the stages and why some will refuse, jobs, where time went."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.cli.account_lines import print_account
from pipeline.cli.job_table import print_jobs
from pipeline.cli.stage_notes import (
    changed_input_lines,
    missing_file_lines,
    uncovered_task_lines,
)
from pipeline.cli.start_checks import refuse_impossible_folders, undescribed_line
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.errors import ConfigError
from pipeline.logs import console, human_bytes, print_wide
from pipeline.store.artifacts import StageState, import_function, stage_states
from pipeline.store.lease import living_holder
from pipeline.store.records import AnyManifest
from pipeline.store.table.stage_row import Stage

LEAST_WIDTH = 100
"""Columns of the table: a narrower terminal breaks lines rather than words."""


def show_status(stages: Sequence[Stage], run_file: Path, overrides: Sequence[str]) -> None:
    """Print the stages, the submitted jobs, what is wrong with each stage, where time went."""
    from rich.table import Table

    config = load(run_file, overrides, needs=())
    refuse_impossible_folders(config)
    stage_of = {stage.name: stage for stage in stages}
    states = stage_states(stage_of, config, look_at=stage_of)
    refusals = {stage.name: _refusals(stage, states[stage.name], config) for stage in stages}

    # One row a stage.
    roots = (config.paths.data_dir, config.paths.run_dir)
    running = {root: _running_command(root) for root in roots}
    table = Table("stage", "state", "made", "size", "seconds", box=None, pad_edge=False)
    for stage in stages:
        state = states[stage.name]
        if state.absent_sections:
            word = "not described"
        elif not stage.is_asked(config):
            word = "not asked for"
        elif refusals[stage.name]:
            word = "refused"
        elif state.kind != "done" and running[stage.root(config)] == stage.command:
            word = "running"
        else:
            word = _state_word(stage, state)
        table.add_row(stage.name, word, *_output_columns(state.manifest))
    print_wide(table, LEAST_WIDTH)
    print_jobs(config.paths.run_dir)

    # What the table has no room for.
    line = undescribed_line(stages, config)
    if line is not None:
        console.print(line)
    for stage in stages:
        state = states[stage.name]
        for problem in refusals[stage.name]:
            console.print(f"{stage.name} will refuse: {problem}")
        if not refusals[stage.name]:
            for reason in state.reasons:
                console.print(f"{stage.name} is stale: {reason}")
        for line in missing_file_lines(stage, config, state):
            console.print(line)
        for line in changed_input_lines(stage, config, stage_of, state.manifest):
            console.print(line)
        for line in uncovered_task_lines(stage, config):
            console.print(line)
    print_account(config.paths.run_dir)
    console.print(f"data_dir {config.paths.data_dir}\nrun_dir  {config.paths.run_dir}")


def _running_command(root: Path) -> str | None:
    """Return the command that holds data_dir or run_dir now, None where nobody does."""
    holder = living_holder(root)
    if holder is None:
        return None
    return holder.get("purpose")


def _output_columns(manifest: AnyManifest | None) -> tuple[str, str, str]:
    """Return the headline, size and seconds of a stage's output as text; empty without one."""
    if manifest is None:
        return "", "", ""
    size = sum(record["bytes"] for record in manifest["files"].values())
    headline = str(manifest["counts"].get("headline", ""))
    seconds = manifest["seconds"]
    if seconds is None:
        return headline, human_bytes(size), ""
    return headline, human_bytes(size), f"{seconds:.1f}"


def _refusals(stage: Stage, state: StageState, config: RunConfig) -> list[str]:
    """Return the reasons why an unfinished stage could not resume; empty if it could, or is done."""
    if stage.resume_check is None or state.kind == "done" or state.absent_sections:
        return []
    try:
        import_function(stage.resume_check)(config)
    except ConfigError as error:
        return list(error.problems)
    return []


def _state_word(stage: Stage, state: StageState) -> str:
    # A stale stage that does not rebuild its files writes others, so missing ones do not matter.
    if state.missing_files and (state.kind == "done" or stage.rebuilds):
        return "missing file"
    return state.kind
