"""What `pipeline plan` prints: a run's cost before it starts, and what each number rests on.

Writes nothing but what the checks keep in data_dir. Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pipeline.cli.planning.corpus_plan_view import show_corpus_plan
from pipeline.cli.planning.plan_lines import (
    print_core_hours,
    print_data_sizes,
    print_figure,
    print_heading,
    print_rates,
)
from pipeline.cli.published_view import show_published
from pipeline.cli.start_checks import refuse_mistakes, undescribed_line
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.errors import ConfigError, UserError
from pipeline.logs import (
    binary_bytes,
    console,
    counted_noun,
    human_bytes,
    print_json,
    print_wide,
    short,
)
from pipeline.planning.laws.fits_file import law_of_all_parameters
from pipeline.planning.laws.loss_law import CHINCHILLA_REFIT
from pipeline.planning.memory_grid import MemoryCase, fastest_that_fits
from pipeline.planning.memory_problems import memory_problems
from pipeline.planning.model_cost import FLOPS_FORMULA
from pipeline.planning.plan import MemoryPlan, Plan
from pipeline.planning.plan_outputs import plan_as_json, rates_by_name
from pipeline.planning.planner import (
    allocation_of,
    job_length_problems,
    on_allocation,
    plan_run,
)
from pipeline.planning.published import PlannedPoint
from pipeline.store.table.stage_row import Stage

TABLE_WIDTH = 96
"""Columns of the memory table: a narrower terminal breaks lines rather than words."""
MEMORY_COLUMNS = (
    "ZeRO",
    "recompute",
    "micro-batch 1",
    "largest micro-batch that fits",
    "memory",
    "step, s",
)
PETAFLOP_DAY = 1e15 * 86_400


@dataclass(frozen=True)
class PlanQuestion:
    """What a plan is asked for."""

    run_file: Path | None
    overrides: Sequence[str]
    hardware: str
    """A name in presets/hardware, or a YAML file."""
    nodes: int | None
    """None: what `launch.ranks` needs, or one."""
    hours_per_job: float
    runs: Sequence[Path]
    """Runs that calibrate the plan."""
    law: Path | None = None
    """A `fits.json` that predicts the loss; None: the law of Chinchilla's runs."""


def show_plan(
    stages: Sequence[Stage], question: PlanQuestion, *, as_json: bool, page: Path | None
) -> None:
    """Check a run file and print what its run costs.

    Raises ConfigError where the run cannot start: by any check that needs no data, or, after the
    plan is printed, because its memory does not fit or a job ends before its first step. Raises
    UserError without a run file.
    """
    if page is not None:
        raise UserError("--page goes with --published: it shows published runs and the planned one")
    if question.run_file is None:
        raise UserError(
            "name a run file, as in `pipeline plan run.yaml`; `pipeline plan --published` needs none"
        )
    corpus = load(question.run_file, question.overrides, needs=())
    undescribed = undescribed_line(stages, corpus)
    if undescribed is not None:
        show_corpus_plan(stages, corpus, question.hardware, undescribed, as_json=as_json)
        return
    plan, config = _checked_plan(stages, question, question.run_file)
    if as_json:
        print_json(plan_as_json(plan))
    else:
        _print_plan(plan, config)
    problems = memory_problems(plan.memory)
    if plan.predicted_time is not None:
        limit = f"--hours-per-job = {question.hours_per_job:g}"
        problems += job_length_problems(plan.time.jobs, plan.rates.start_up_seconds, limit)
    if problems:
        raise ConfigError(problems)


def show_published_runs(
    stages: Sequence[Stage], question: PlanQuestion, *, as_json: bool, page: Path | None
) -> None:
    """Print published runs, with the planned one among them where a run file is given.

    Raises ConfigError where that run cannot start, after the runs are printed where its memory does
    not fit, and UserError for options of a plan without a run file.
    """
    if question.run_file is None and (question.nodes is not None or question.runs):
        raise UserError(
            "--nodes and --from are about a planned run; name its run file, as in `pipeline plan "
            "run.yaml --published`, or leave them out"
        )
    planned = None
    plan = None
    if question.run_file is not None:
        plan, _ = _checked_plan(stages, question, question.run_file)
        today = date.today()
        # A run that cannot start takes no hours.
        hours = None
        if plan.memory.own.fits and plan.predicted_time is not None:
            hours = plan.time.device_hours
        planned = PlannedPoint(
            name=question.run_file.stem,
            flops=plan.model.comparable_flops,
            year=today.year + (today.timetuple().tm_yday - 1) / 365,
            gpu_hours=hours,
        )
    show_published(planned, as_json, page)
    if plan is not None and not plan.memory.own.fits:
        raise ConfigError(memory_problems(plan.memory))


def _checked_plan(
    stages: Sequence[Stage], question: PlanQuestion, run_file: Path
) -> tuple[Plan, RunConfig]:
    """Return a run file's plan and settings, after every check that needs no data."""
    config = load(run_file, question.overrides)
    law = CHINCHILLA_REFIT
    if question.law is not None:
        law = law_of_all_parameters(question.law)
    allocation = allocation_of(config, question.hardware, question.nodes, question.hours_per_job)
    config = on_allocation(config, allocation)
    asked = [stage for stage in stages if stage.is_asked(config)]
    refuse_mistakes((check for stage in asked for check in stage.checks if check.is_ahead), config)
    return plan_run(config, allocation, question.runs, law), config


def _print_plan(plan: Plan, config: RunConfig) -> None:
    allocation = plan.allocation
    console.print(
        f"{allocation.devices:,} x {allocation.hardware.description}, "
        f"{counted_noun(allocation.nodes, 'node')}, ZeRO {plan.memory.own.zero_stage}, "
        f"{config.precision.dtype}"
    )
    if allocation.devices_left_out:
        console.print(
            f"{allocation.devices} of the node's {allocation.hardware.devices_per_node} devices: "
            "more do not divide the batch (launch.ranks, --nodes)"
        )
    _print_model(plan)
    _print_memory(plan.memory)
    _print_time(plan)
    _print_disk(plan)
    _print_batch(plan)
    print_rates(rates_by_name(plan))


def _print_model(plan: Plan) -> None:
    # Parameters.
    model = plan.model
    facts = model.facts
    print_heading("model")
    print_figure(
        "parameters",
        f"{facts.parameters:,} = {facts.embedding_parameters:,} embedding + "
        f"{facts.parameters - facts.embedding_parameters:,} others",
    )
    if facts.is_mixture:
        print_figure("multiplying", f"{facts.size.parameters:,}")
        print_figure("active for a token (N)", f"{facts.active_parameters:,}")
    else:
        print_figure("multiplying (N)", f"{facts.size.parameters:,}")

    # Compute, and what it buys.
    print_figure("FLOPs a token", f"{model.flops_per_token:.4g} = {FLOPS_FORMULA}")
    days = model.total_flops / PETAFLOP_DAY
    print_figure(
        "FLOPs",
        f"{model.total_flops:.4g} ({short(days)} petaFLOP/s-days) for {model.train_tokens:,} tokens",
    )
    print_figure(
        "tokens a parameter",
        f"{model.tokens_per_parameter:.3g}; {model.optimal_tokens_per_parameter:.3g} at the "
        "compute's optimum",
    )
    loss = "not predicted: the fit's runs were larger"
    if model.loss is not None:
        loss = f"{model.loss:.3f} nats a token"
    print_figure("predicted loss", f"{loss}; {model.fit.name}")


def _print_memory(memory: MemoryPlan) -> None:
    """Print each part of the run's own memory, and what fits by ZeRO stage and recomputation."""
    from rich.table import Table

    own = memory.own
    print_heading("memory of a device")
    for part in own.parts:
        text = binary_bytes(part.device)
        if part.host:
            text = f"{binary_bytes(part.host)} on the host"
        print_figure(part.name, text)
    verdict = "fits" if own.fits else "does not fit"
    print_figure(
        "sum",
        f"{binary_bytes(memory.needed(own))} of {binary_bytes(memory.free.device)}, as the run "
        f"file has it: {verdict}",
    )

    # The largest micro-batch that fits, for each way to execute the run.
    table = Table(*MEMORY_COLUMNS, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    fastest = fastest_that_fits(memory.cases)
    for group in _groups(memory.cases):
        row = [str(group[0].zero_stage), "yes" if group[0].recomputes else "no"]
        row.append(binary_bytes(memory.needed(group[0])))
        best = fastest_that_fits(group)
        if best is None:
            row += ["none", "", ""]
        else:
            row += [
                str(best.micro_batch_sequences),
                binary_bytes(memory.needed(best)),
                _step_text(best, best is fastest),
            ]
        table.add_row(*row)
    console.print()
    print_wide(table, TABLE_WIDTH)


def _step_text(case: MemoryCase, is_fastest: bool) -> str:
    if case.step_seconds is None:
        return "not predicted"
    if is_fastest:
        return f"{case.step_seconds:.3g} (fastest)"
    return f"{case.step_seconds:.3g}"


def _groups(cases: Sequence[MemoryCase]) -> list[list[MemoryCase]]:
    """Return the cases of each ZeRO stage without and with recomputation."""
    groups: dict[tuple[int, bool], list[MemoryCase]] = {}
    for case in cases:
        groups.setdefault((case.zero_stage, case.recomputes), []).append(case)
    return list(groups.values())


def _print_time(plan: Plan) -> None:
    # Steps.
    print_heading("time")
    time = plan.predicted_time
    if time is None:
        print_figure(
            "step",
            "not predicted: states are in host memory, and no rate tells how long they take to "
            "move; --from RUN takes that of a run that does so",
        )
        return
    step = time.step
    waiting = ""
    if step.host:
        waiting = f"{step.host:.3g} waiting for the host + "
    print_figure(
        "step",
        f"{step.total:.3g} s = {step.compute:.3g} computing + {waiting}{step.communication:.3g} "
        f"communication + {step.per_device:.3g} growing with devices",
    )
    print_figure("tokens a second", f"{short(time.tokens_per_second)} in {time.steps:,} steps")
    parts = [f"{_hours(time.steps_seconds)} of steps"]
    if time.validation_seconds:
        parts.append(f"{_hours(time.validation_seconds)} validation")
    if time.saves_seconds:
        parts.append(f"{_hours(time.saves_seconds)} waiting for saves")
    print_figure("training", ", ".join(parts))
    print_figure(
        "wall time",
        f"{_hours(time.wall_seconds)} with time lost (x {plan.rates.lost_time.value:g})",
    )

    # Jobs.
    hours = plan.allocation.hours_per_job
    if time.chain is None:
        print_figure("jobs", f"a job of {hours:g} h ends before its first step")
    else:
        print_figure(
            "jobs",
            f"{time.chain.jobs:,} of {hours:g} h, each with "
            f"{time.chain.overhead_seconds / 60:.1f} min for start-up, margin and save; each waits "
            f"for {counted_noun(plan.allocation.nodes, 'node')}",
        )
    kind = "device" if plan.allocation.hardware.is_cpu else "GPU"
    device_hours = f"{time.device_hours:,.4g}"
    if time.chain is None:
        device_hours += " without start-ups"
    print_figure(f"{kind}-hours", device_hours)


def _print_disk(plan: Plan) -> None:
    disk = plan.disk
    print_heading("disk")
    print_data_sizes(disk.data)
    print_figure(
        "checkpoints",
        f"{disk.most_checkpoints:,} of {human_bytes(disk.checkpoint)} at a time, "
        f"{disk.kept_checkpoints:,} at the end",
    )
    print_figure("export", human_bytes(disk.export))
    print_figure("at most", human_bytes(disk.most))
    print_figure("host memory", f"{binary_bytes(plan.memory.own.host_bytes)} for each device")
    print_core_hours(plan.data)


def _print_batch(plan: Plan) -> None:
    batch = plan.batch
    print_heading("batch")
    if batch.critical is None:
        print_figure("tokens", f"{batch.tokens:,}; the critical batch is not known ({batch.basis})")
        return
    print_figure(
        "tokens",
        f"{batch.tokens:,}; {batch.tokens / batch.critical:.2g} of the critical batch, "
        f"{batch.critical:,.0f} ({batch.basis})",
    )


def _hours(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.3g} s"
    if seconds < 3600:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:,.4g} h"
