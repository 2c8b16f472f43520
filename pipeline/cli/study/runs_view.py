"""`pipeline study run` and `status`: train the runs that are not done; tell how far they are."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from pipeline.cli.study.opened_study import OpenedStudy, open_study, refuse_missing_data
from pipeline.cluster.stop_request import stop_signals
from pipeline.cluster.study.local_runs import LocalRuns, command_starter, rank_overrides, ranks_of
from pipeline.cluster.study.queue import QueuedRun, StudyProgress, progress_of, step_of_run
from pipeline.config.hardware import read_hardware
from pipeline.config.study_file import StudyFile
from pipeline.errors import Interrupted, RequirementError, UserError
from pipeline.logs import console, counted_noun, note, print_wide, progress, short
from pipeline.planning.plan import Plan
from pipeline.planning.planner import allocation_of, plan_run
from pipeline.planning.study.points import points_of_study, write_points
from pipeline.planning.study.study_run import StudyRun

GIGA = 1e9
MOST_NAMED = 3
"""Running runs that the line of progress names."""


@dataclass(frozen=True)
class RunOptions:
    """Options of `pipeline study run`."""

    dry_run: bool
    hardware: str
    """On which a dry run plans: a name in presets/hardware, or a file."""
    calibrating: Sequence[Path]
    """Runs by whose rates a dry run plans."""
    yes: bool = False
    """Whether an array is sent without a question."""


def run_study(file: Path, overrides: Sequence[str], options: RunOptions) -> None:
    """Train the runs that are not done, as the study's executor says.

    Raises RequirementError where a dry run finds that the grid cannot answer the study's question,
    UserError where runs failed, Interrupted after a request to stop.
    """
    opened = open_study(file, overrides)
    if options.dry_run:
        _show_grid(opened, options)
        return
    for problem in opened.grid_problems():
        note(f"study: {problem}")
    refuse_missing_data(opened)
    opened.write_run_files()
    kind = opened.study.executor.kind
    if kind == "none":
        _print_commands(opened)
    elif kind == "slurm":
        from pipeline.cli.study.array_view import submit_array

        submit_array(opened, overrides, is_agreed=options.yes)
    else:
        _train_here(opened)


def show_status(file: Path, overrides: Sequence[str]) -> None:
    """Print a line for every run: its state, how far it is, its loss; and for every queued job."""
    from pipeline.cli.study.array_view import array_lines

    # A row for each run.
    opened = open_study(file, overrides)
    queued = {run.name: run for run in opened.queued()}
    points = {point.name: point for point in points_of_study(opened.folder, opened.runs)}
    table = _table("run", "state", "N", "D", "step", "validation loss", "left out of fits")
    for run in opened.runs:
        point = points.get(run.name)
        state = queued[run.name].state
        loss = point.loss if point else None
        step = step_of_run(queued[run.name]).step
        table.add_row(
            run.name,
            state.value,
            short(run.facts.active_parameters),
            short(run.tokens),
            f"{step:,}/{run.steps:,}",
            "" if loss is None else f"{loss:.4f}",
            point.left_out if point else "",
        )
    print_wide(table, 110)

    # The array, and how far all of it is.
    for line in array_lines(opened):
        console.print(line)
    console.print(f"\n{_in_words(progress_of(list(queued.values())))}")
    _note_other_runs(opened)
    console.print(f"folder {opened.folder.path}")


def _note_other_runs(opened: OpenedStudy) -> None:
    """Print how many finished runs in the folder are not the study's, as after changed settings."""
    others = opened.words_on_other_runs()
    if others is not None:
        note(f"study: {others}")


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(names):
        is_number = name in ("N", "D", "C", "D/N", "step", "steps", "batch", "epochs", "device-h")
        table.add_column(name, justify="right" if is_number and number else "left")
    return table


def _show_grid(opened: OpenedStudy, options: RunOptions) -> None:
    """Print every run with its size, and what all of them cost."""
    from pipeline.planning.study.study_epochs import expected_epochs

    # A row for each run.
    epochs = expected_epochs(opened.runs)
    plans = [
        _plan(run, queued, opened.study, options)
        for run, queued in zip(opened.runs, opened.queued(), strict=True)
    ]
    table = _table("run", "N", "D", "D/N", "C", "steps", "batch", "epochs", "device-h", "")
    for run, plan in zip(opened.runs, plans, strict=True):
        begins = "" if run.trunk is None else f"branches at step {run.first_step - 1:,}"
        repeated = epochs.get(run.name)
        table.add_row(
            run.name,
            short(run.facts.active_parameters),
            short(run.tokens),
            f"{run.tokens / run.facts.active_parameters:.3g}",
            f"{run.flops:.3g}",
            f"{run.steps:,}",
            f"{run.config.batch.global_batch_tokens:,}",
            "" if repeated is None else f"{repeated:.2g}",
            f"{_own_hours(run, plan):.3g}",
            begins,
        )
    print_wide(table, 130)

    # What all of them cost, and whether they can answer the question.
    _show_sum(opened, plans)
    problems = opened.grid_problems()
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise RequirementError(f"The grid cannot answer the question of the study:\n{lines}")


def _plan(run: StudyRun, queued: QueuedRun, study: StudyFile, options: RunOptions) -> Plan:
    """Return the plan of a run on the ranks that the executor gives it."""
    hardware = read_hardware(options.hardware)
    ranks = study.executor.ranks
    if ranks is None:
        ranks = 1 if hardware.is_cpu else hardware.devices_per_node
    used, micro = ranks_of(queued, queued.ranks or ranks)
    config = run.config.model_copy(
        update={
            "launch": run.config.launch.model_copy(update={"ranks": used}),
            "batch": run.config.batch.model_copy(update={"micro_batch_sequences": micro}),
        }
    )
    return plan_run(
        config, allocation_of(config, options.hardware, None, 24.0), options.calibrating
    )


def _own_hours(run: StudyRun, plan: Plan) -> float:
    """Return the device-hours that a run takes, without those of its trunk."""
    return plan.time.device_hours * run.own_flops / run.flops


def _show_sum(opened: OpenedStudy, plans: Sequence[Plan]) -> None:
    flops = sum(run.own_flops for run in opened.runs)
    alone = sum(run.flops for run in opened.runs)
    hours = sum(_own_hours(run, plan) for run, plan in zip(opened.runs, plans, strict=True))
    disk = sum(plan.disk.checkpoint * plan.disk.kept_checkpoints for plan in plans)
    saved = ""
    if flops < alone:
        saved = f" ({1 - flops / alone:.0%} less than each run from its beginning)"
    first = plans[0]
    console.print(
        f"\n{counted_noun(len(plans), 'run')}, {flops:.3g} FLOPs{saved}, {hours:.3g} device-hours on "
        f"{first.allocation.hardware.description}, {disk / 1e9:.3g} GB of checkpoints kept; "
        f"MFU {first.rates.mfu.value:.3g} {first.rates.mfu.kind}: {first.rates.mfu.source}"
    )


def _print_commands(opened: OpenedStudy) -> None:
    """Print the commands that train the runs, trunks before their branches."""
    ranks = opened.study.executor.ranks or 1
    for run in opened.queued():
        for stage in run.stages:
            more = rank_overrides(run, run.ranks or ranks) if stage == "train" else []
            command = ["pipeline", stage, str(run.run_file), *more]
            console.print(shlex.join(command), soft_wrap=True, highlight=False)


def _train_here(opened: OpenedStudy) -> None:
    """Train on this machine until all runs are done, with a line of progress."""
    # An element of an array leaves what others train to them.
    queued = opened.queued()
    executor = opened.study.executor
    is_element = "SLURM_ARRAY_TASK_ID" in os.environ
    if executor.launch == "slurm":
        # A job's tasks are its ranks: runs on other numbers of ranks are for other jobs.
        queued = [run for run in queued if run.ranks in (None, executor.ranks)]

    # Train, with a line of progress and one for each run that ends.
    begun = progress_of(queued)
    _note_other_runs(opened)
    note(f"study: {_in_words(begun)}")
    reported = {run.name for run in queued if run.manifest.is_file()}
    with (
        stop_signals() as stop,
        command_starter(executor.launch) as start,
        progress("study", begun.work / GIGA, "GFLOPs") as update,
    ):
        local = LocalRuns(
            queued,
            executor.jobs,
            executor.ranks,
            start,
            launch=executor.launch,
            waits_for_others=not is_element,
        )

        def show(now: StudyProgress) -> None:
            update((now.work - now.work_left) / GIGA, _in_words(now))
            _report_ended(opened, queued, reported)

        local.train_all(stop, show)

    # What was reached.
    write_points(opened.folder, points_of_study(opened.folder, opened.runs))
    ended = progress_of(queued, list(local.failed))
    if stop.count:
        raise Interrupted(f"{_in_words(ended)}; the same command goes on")
    note(f"study: {_in_words(ended)}; points in {opened.folder.points}")
    if local.failed:
        raise UserError(
            f"{counted_noun(len(local.failed), 'run')} failed: {', '.join(local.failed)}; repair "
            "what their output names, then run the same command again"
        )


def _report_ended(opened: OpenedStudy, queued: Sequence[QueuedRun], reported: set[str]) -> None:
    """Print a line for each run that has ended since the last look."""
    ended = [run.name for run in queued if run.name not in reported and run.manifest.is_file()]
    if not ended:
        return
    points = points_of_study(
        opened.folder, [run for run in opened.runs if run.name in ended or run.trunk is None]
    )
    for point in points:
        if point.name in ended:
            loss = "not finite" if point.loss is None else f"{point.loss:.4f}"
            note(f"study: {point.name} done: validation loss {loss}")
    reported.update(ended)


def _in_words(now: StudyProgress) -> str:
    """Return how far a study is, in words."""
    words = [f"{now.done} done"]
    if now.running:
        named = ", ".join(
            each.name.rpartition("-")[0] + ("" if each.loss is None else f" {each.loss:.2f}")
            for each in now.running[:MOST_NAMED]
        )
        words.append(f"{len(now.running)} running ({named})")
    words.append(f"{now.to_come} to come")
    if now.failed:
        words.append(f"{len(now.failed)} failed")
    return ", ".join(words)
