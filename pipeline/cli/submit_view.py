"""`pipeline submit`: the jobs that a run needs on a site, shown, then sent after a question."""

import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.cli.job_table import job_lines
from pipeline.cli.plan_view import refuse_what_does_not_fit
from pipeline.cli.start_checks import (
    refuse_impossible_folders,
    refuse_mistakes,
    refuse_unwritable,
)
from pipeline.cluster.batch_script import JobPaths, PlannedJob, batch_script
from pipeline.cluster.slurm_jobs import has_slurm, states_of_jobs
from pipeline.cluster.submission import JobSizes, default_train_nodes, plan_jobs, send_jobs
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import dump, load
from pipeline.config.run_sections import SLURM_TIME_PATTERN, seconds_of_slurm_time
from pipeline.config.shipped_files import SITES, shipped_files
from pipeline.config.sites import Site, read_site, split_overrides
from pipeline.errors import ConfigError, UserError
from pipeline.logs import console, counted_noun, note, print_wide, read_line, warn
from pipeline.planning.job_chain import chain_of_jobs
from pipeline.planning.plan import Plan
from pipeline.planning.planner import jobs_of_plan, plan_on_site
from pipeline.planning.rates import Rate
from pipeline.store.artifacts import Stage, import_function, stage_states
from pipeline.store.files import write_atomic
from pipeline.store.jobs.jobs_folder import jobs_folder
from pipeline.store.jobs.submitted_jobs import JobKind, submitted_jobs
from pipeline.store.layout import run_folder
from pipeline.store.lease import Lease

START_UP_SECONDS = 600.0
"""Assumed time from a job's start to its first step, until a run has measured its own."""
MARGIN_SECONDS = 300.0
"""Assumed time from a job's last step to its end, with the save: as train.sbatch is signalled."""
TABLE_WIDTH = 110
JOB_KINDS: tuple[JobKind, ...] = ("data", "train", "evaluate")


@dataclass(frozen=True)
class SubmitOptions:
    """What the command line says beside run file and overrides."""

    site: str | None
    """Name of a shipped site, or a file."""
    nodes: int | None = None
    """Nodes of the training; None: as many as `launch.ranks` fill, else 1."""
    data_nodes: int = 1
    time_limit: str | None = None
    """Time limit of a train job; None: the site's longest."""
    training_hours: float | None = None
    """Hours that the training takes, without start-ups; None: as planned."""
    runs: Sequence[Path] = ()
    """Runs that calibrate the plan."""
    dry_run: bool = False
    yes: bool = False
    """Whether jobs are sent without a question."""


def submit(
    stages: Sequence[Stage], run_file: Path, overrides: Sequence[str], options: SubmitOptions
) -> None:
    """Write the scripts of all jobs that the run still needs, show them, ask, and send them.

    Raises UserError for everything that would keep the jobs from starting or from ending well.
    """
    # What the user wrote.
    of_run, of_site = split_overrides(overrides)
    if options.site is None:
        raise ConfigError(
            ["--site: is required; give --site or PIPELINE_SITE: " + _all_sites() + ", or a file"]
        )
    config = load(run_file, of_run)
    site = read_site(options.site, of_site)
    if not options.dry_run and not has_slurm():
        raise UserError(
            "this machine has no Slurm (no sbatch or scontrol in PATH). Submit from a login node of "
            f"the site, or add --dry-run to see the jobs for {options.site}."
        )

    # What the run needs, and whether it could start.
    waiting = _waiting_stages(stages, config)
    _refuse_jobs_in_queue(config)
    sizes = _sizes(config, site, options)
    needed = {_kind_of(stage) for stage in waiting}
    kinds: list[JobKind] = [kind for kind in JOB_KINDS if kind in needed]
    jobs = plan_jobs(kinds, config, site, options.site, sizes)
    _refuse_what_stages_would(waiting, config)

    # A training whose hours nobody gave takes what is planned.
    plan = None
    if "train" in kinds and options.training_hours is None:
        seconds = _job_seconds(options, site)
        plan = plan_on_site(config, site, sizes.train_nodes, seconds, options.runs)
        refuse_what_does_not_fit(plan)
        if not site.may_requeue:
            sizes = replace(sizes, train_jobs=jobs_of_plan(plan))
            jobs = plan_jobs(kinds, config, site, options.site, sizes)

    # What is sent, and what that asks for.
    scripts = _write_scripts(jobs, config, site)
    _show(jobs, scripts, config, site)
    if plan is not None:
        console.print(_plan_in_words(plan))
    if options.dry_run:
        note("submit: nothing was sent (--dry-run)")
        return
    if not options.yes and not agrees_to_send(len(jobs)):
        note("submit: nothing was sent")
        return

    # Two commands at once would send everything twice.
    with Lease(jobs_folder(config.paths.run_dir).path, "pipeline submit"):
        _refuse_jobs_in_queue(config)
        sent = send_jobs(jobs, scripts, config.paths.run_dir, options.site)
    for job in sent:
        note(f"submit: {job['name']} is job {job['id']}")
    note(f"submit: `pipeline status {run_file}` shows them; `scancel ID` ends one")


def _all_sites() -> str:
    return ", ".join(shipped_files(SITES))


def _waiting_stages(stages: Sequence[Stage], config: RunConfig) -> list[Stage]:
    """Return the stages that are not done. Raises UserError for a run that is done."""
    refuse_impossible_folders(config)
    table = {stage.name: stage for stage in stages}
    states = stage_states(table, config, look_at=table)
    waiting = [stage for stage in stages if states[stage.name].kind != "done"]
    if not waiting:
        raise UserError(
            f"{config.paths.run_dir}: every stage of this run is done, there is nothing to submit. "
            "For a new run set another paths.run_dir."
        )
    return waiting


def _refuse_what_stages_would(waiting: Sequence[Stage], config: RunConfig) -> None:
    """Raise UserError for what a stage of the jobs would refuse, as far as it is seen from here."""
    refuse_unwritable(config, waiting)
    # Raw files are looked for now, rather than after a night in the queue.
    if any(stage.name == "prepare" for stage in waiting):
        import_function("pipeline.corpus.source_kind:input_files")(config)
    # Of what trains and evaluates, only checks that need neither data nor the nodes of the job.
    checks = [
        check for stage in waiting for check in stage.checks if stage.shared or check.is_ahead
    ]
    refuse_mistakes(checks, config)
    for stage in waiting:
        if stage.resume_check is not None:
            import_function(stage.resume_check)(config)


def _kind_of(stage: Stage) -> JobKind:
    """Return the kind of the job that runs a stage."""
    if stage.shared:
        return "data"
    if stage.name == "train":
        return "train"
    return "evaluate"


def _refuse_jobs_in_queue(config: RunConfig) -> None:
    """Raise UserError where jobs of this run are queued or running."""
    if not has_slurm():
        return
    run_dir = config.paths.run_dir
    states = states_of_jobs([job["id"] for job in submitted_jobs(run_dir)])
    living = [job for job, state in states.items() if not state.has_ended]
    if not living:
        return
    raise UserError(
        "\n".join(
            [
                f"{run_dir}: jobs of this run are queued or running:",
                *job_lines(run_dir, states, only=living),
                f"Wait for them, or end them with `scancel {' '.join(living)}`, then submit again.",
            ]
        )
    )


def _sizes(config: RunConfig, site: Site, options: SubmitOptions) -> JobSizes:
    nodes = options.nodes
    if nodes is None:
        nodes = default_train_nodes(config, site)
    return JobSizes(
        train_nodes=nodes,
        data_nodes=options.data_nodes,
        time_limit=options.time_limit,
        train_jobs=_train_jobs(options, site),
    )


def _train_jobs(options: SubmitOptions, site: Site) -> int | None:
    """Return the number of jobs that the training takes, None where its hours are not known."""

    if options.time_limit is not None and not re.match(SLURM_TIME_PATTERN, options.time_limit):
        raise ConfigError(
            [f"--time = {options.time_limit}: write it as Slurm does: 30, HH:MM:SS or D-HH:MM:SS"]
        )
    if options.training_hours is None:
        return None
    try:
        chain = chain_of_jobs(
            options.training_hours * 3600,
            _job_seconds(options, site),
            START_UP_SECONDS,
            MARGIN_SECONDS,
        )
    except ValueError as error:
        raise ConfigError([f"--hours = {options.training_hours:g}: {error}"]) from None
    return chain.jobs


def _job_seconds(options: SubmitOptions, site: Site) -> int:
    """Return the time limit of a train job in seconds."""
    if options.time_limit is None:
        return site.gpu_nodes.longest_seconds
    return seconds_of_slurm_time(options.time_limit)


def _write_scripts(jobs: Sequence[PlannedJob], config: RunConfig, site: Site) -> dict[str, Path]:
    """Write the settings and a script for each job; return the scripts by the jobs' names."""
    folder = jobs_folder(config.paths.run_dir)
    write_atomic(folder.settings, dump(config))
    scripts: dict[str, Path] = {}
    for job in jobs:
        paths = JobPaths(folder.settings, folder.output(job.name), Path.cwd(), own_command())
        title = f"{job.name}-{run_folder(config).name}".replace(" ", "-")
        scripts[job.name] = folder.script(job.name)
        write_atomic(scripts[job.name], batch_script(job, site, title, paths))
    return scripts


def own_command() -> Path:
    """Return the `pipeline` command of this installation."""
    beside = Path(sys.executable).with_name("pipeline")
    found = shutil.which("pipeline")
    if beside.exists() or found is None:
        return beside
    return Path(found)


def _show(
    jobs: Sequence[PlannedJob], scripts: dict[str, Path], config: RunConfig, site: Site
) -> None:
    """Print the jobs, what they ask for, and what is assumed about the site."""
    from rich.table import Table

    # A row for each job.
    columns = ("job", "after", "nodes", "tasks a node", "cores a task", "GPUs a node", "time limit")
    table = Table(*columns, "script", box=None, pad_edge=False)
    for job in jobs:
        sizes = (job.nodes, job.tasks_per_node, job.cores_per_task, job.gpus_per_node)
        after = ", ".join(job.after)
        table.add_row(job.name, after, *map(str, sizes), job.time_limit, scripts[job.name].name)
    console.print(
        f"{site.description}: {counted_noun(len(jobs), 'job')}, scripts in {scripts[jobs[0].name].parent}"
    )
    print_wide(table, TABLE_WIDTH)

    # What they ask for.
    for job in jobs:
        console.print(f"{job.name}: {_demand(job)}")
    on_gpus = [job for job in jobs if job.gpus_per_node]
    if len(on_gpus) > 1:
        console.print(_total_demand(on_gpus))

    # What this machine cannot know.
    console.print(
        "assumed: every node sees these at the same paths: "
        f"{config.paths.data_dir}, {config.paths.run_dir}, {own_command()}"
    )
    for folder in (config.paths.data_dir, config.paths.run_dir):
        if site.sees(folder) is False:
            known = ", ".join(site.shared_folders)
            warn(f"{folder} is below none of the site's shared folders: {known}")


def _demand(job: PlannedJob) -> str:
    """Return what a job asks for, up to its time limit, in words."""
    hours = f"{job.core_hours:,.1f} core-hours"
    if job.gpus_per_node:
        hours = f"{job.gpu_hours:,.1f} GPU-hours"
    if job.most_jobs == 1:
        return hours
    if job.most_jobs is None:
        return f"{hours}, again each time that its time limit is reached"
    return f"{hours}, {job.most_jobs} times at most: it is requeued at its time limit"


def _plan_in_words(plan: Plan) -> str:
    """Return what a training is expected to take, and what that rests on."""
    mfu: Rate = plan.rates.mfu
    unit = "rank" if plan.allocation.hardware.is_cpu else "GPU"
    return (
        f"planned: {plan.time.device_hours:,.4g} {unit}-hours of training in "
        f"{counted_noun(jobs_of_plan(plan), 'job')}, {100 * mfu.value:.0f} % MFU {mfu.kind} "
        f"({mfu.source}); `pipeline plan` shows all of it"
    )


def _total_demand(jobs: Sequence[PlannedJob]) -> str:
    total = sum(job.gpu_hours * (job.most_jobs or 1) for job in jobs)
    open_ended = [job.name for job in jobs if job.most_jobs is None]
    line = f"together: {total:,.1f} GPU-hours at most"
    if open_ended:
        line += f", and more where {' or '.join(open_ended)} is requeued"
    return line


def agrees_to_send(jobs: int) -> bool:
    """Ask whether to send. Raises UserError where nobody can answer."""
    answer = read_line(f"send {counted_noun(jobs, 'job')}? [y/N] ")
    if answer is None:
        raise UserError("nothing was sent: nobody answered; add --yes to send without a question")
    return answer.strip().lower() in ("y", "yes")
