"""`pipeline submit`: the jobs that a run needs on a site, shown, then sent after a question."""

import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.cli.job_table import job_lines
from pipeline.cli.start_checks import (
    note_undescribed,
    refuse_impossible_folders,
    refuse_mistakes,
    refuse_unwritable,
    stages_described,
)
from pipeline.cluster.batch_script import JobPaths, PlannedJob, batch_script
from pipeline.cluster.slurm_jobs import has_slurm, states_of_jobs
from pipeline.cluster.submission import JobSizes, default_train_nodes, plan_jobs, send_jobs
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import dump, load
from pipeline.config.run_sections import SLURM_TIME_PATTERN, seconds_of_slurm_time
from pipeline.config.shipped_files import SITES, shipped_files
from pipeline.config.sites import PREFIX, Site, read_site, split_overrides
from pipeline.errors import ConfigError, UserError
from pipeline.logs import console, counted_noun, note, print_wide, read_line, warn
from pipeline.planning.memory_problems import memory_problems
from pipeline.planning.plan import JobsPlan, Plan
from pipeline.planning.planner import (
    job_length_problems,
    jobs_of_plan,
    plan_on_site,
    training_jobs,
)
from pipeline.planning.rates import Rate
from pipeline.store.artifacts import import_function, stage_states
from pipeline.store.files import write_atomic
from pipeline.store.jobs.jobs_folder import jobs_folder
from pipeline.store.jobs.submitted_jobs import JobKind, submitted_jobs
from pipeline.store.layout import run_folder
from pipeline.store.lease import Lease
from pipeline.store.table.stage_row import Stage

MOST_JOBS = 500
"""Maximum number of train jobs that are sent as a chain."""
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
        sites = ", ".join(shipped_files(SITES))
        raise ConfigError(
            [f"--site: is required; give --site or PIPELINE_SITE: {sites}, or a file"]
        )
    config = load(run_file, of_run, needs=())
    if not options.dry_run and not has_slurm():
        raise UserError(
            "this machine has no Slurm (no sbatch or scontrol in PATH). Submit from a login node of "
            f"the site, or add --dry-run to see the jobs for {options.site}."
        )

    # What the run needs, and whether it could start.
    note_undescribed("submit", stages, config)
    waiting = _waiting_stages(stages, config)
    needed = {_kind_of(stage) for stage in waiting}
    kinds: list[JobKind] = [kind for kind in JOB_KINDS if kind in needed]
    site = read_site(options.site, of_site, with_cpu_nodes="data" in kinds)
    _refuse_jobs_in_queue(config)
    sizes = _sizes(config, site, options)
    jobs = plan_jobs(kinds, config, site, options.site, sizes)
    _refuse_what_stages_would(waiting, config)

    # How many jobs the training takes: a chain has a script for each of them.
    training = None
    if "train" in kinds:
        training = _planned_training(config, site, sizes.train_nodes, options)
    if training is not None and (not site.may_requeue or options.training_hours is not None):
        sizes = replace(sizes, train_jobs=jobs_of_plan(training.jobs))
        jobs = plan_jobs(kinds, config, site, options.site, sizes)

    # What is sent, and what that asks for.
    scripts = _write_scripts(jobs, config, site)
    _show(jobs, scripts, config, site)
    hours = _hours_together(jobs, training)
    for line in _demand_lines(jobs, training, options.training_hours, hours):
        console.print(line)
    if options.dry_run:
        note("submit: nothing was sent (--dry-run)")
        return
    if not options.yes and not agrees_to_send(len(jobs), hours):
        note("submit: nothing was sent")
        return

    # Two commands at once would send everything twice.
    with Lease(jobs_folder(config.paths.run_dir).path, "pipeline submit"):
        _refuse_jobs_in_queue(config)
        sent = send_jobs(jobs, scripts, config.paths.run_dir, options.site)
    for job in sent:
        note(f"submit: {job['name']} is job {job['id']}")
    note(f"submit: `pipeline status {run_file}` shows them; `scancel ID` ends one")


def _waiting_stages(stages: Sequence[Stage], config: RunConfig) -> list[Stage]:
    """Return the stages that the run file describes and that are not done.

    Raises UserError for a run that is done, ConfigError where a stage is described in part.
    """
    refuse_impossible_folders(config)
    described = stages_described(stages, config)
    table = {stage.name: stage for stage in stages}
    states = stage_states(table, config, look_at=table)
    waiting = [stage for stage in described if states[stage.name].kind != "done"]
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
    """Return what is asked of the jobs. Raises ConfigError for a time limit that is no time."""
    if options.time_limit is not None and not re.match(SLURM_TIME_PATTERN, options.time_limit):
        raise ConfigError(
            [f"--time = {options.time_limit}: write it as Slurm does: 30, HH:MM:SS or D-HH:MM:SS"]
        )
    nodes = options.nodes
    if nodes is None:
        nodes = default_train_nodes(config, site)
    return JobSizes(
        train_nodes=nodes,
        data_nodes=options.data_nodes,
        time_limit=options.time_limit,
    )


@dataclass(frozen=True)
class _PlannedTraining:
    """The plan of the training, and the jobs that it takes: as planned, or of the hours given."""

    plan: Plan
    jobs: JobsPlan


def _planned_training(
    config: RunConfig, site: Site, nodes: int, options: SubmitOptions
) -> _PlannedTraining | None:
    """Return the plan of the training, with the hours that the user gave in place of planned ones.

    None, after a warning, where jobs seem too short and their number need not be known: the
    start-up is assumed, and the job is requeued until the training is done. Raises ConfigError where
    memory or the time limit is too small, or a chain would be too long.
    """
    plan = plan_on_site(config, site, nodes, _job_seconds(options, site), options.runs)
    jobs = training_jobs(plan, config, options.training_hours)

    # What is too small.
    limit = f"{PREFIX}gpu_nodes.longest_time = {site.gpu_nodes.longest_time}"
    if options.time_limit is not None:
        limit = f"--time = {options.time_limit}"
    too_large = memory_problems(plan.memory)
    too_short = job_length_problems(jobs, plan.rates.start_up_seconds, limit)
    is_open_ended = site.may_requeue and options.training_hours is None
    if too_short and not too_large and is_open_ended and not options.runs:
        warn(too_short[0])
        return None
    if too_large or too_short:
        raise ConfigError([*too_large, *too_short])
    count = jobs_of_plan(jobs)
    if count > MOST_JOBS and not site.may_requeue:
        raise ConfigError(
            [
                f"{limit}: the training takes {count:,} jobs of this length, and at most {MOST_JOBS} "
                "are sent as a chain; give jobs more time, or train on more nodes"
            ]
        )
    return _PlannedTraining(plan, jobs)


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
    # Those of an earlier, longer chain would not be sent, but look as if they were.
    for script in folder.scripts():
        if script not in scripts.values():
            script.unlink()
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

    # What each kind of job is told; those of a chain differ in their names only.
    for kind in dict.fromkeys(job.kind for job in jobs):
        first = next(job for job in jobs if job.kind == kind)
        console.print(f"\n{scripts[first.name].name}", style="bold")
        console.print(scripts[first.name].read_text())

    # What this machine cannot know.
    console.print(
        "assumed: every node sees these at the same paths: "
        f"{config.paths.data_dir}, {config.paths.run_dir}, {own_command()}"
    )
    for folder in (config.paths.data_dir, config.paths.run_dir):
        if site.sees(folder) is False:
            known = ", ".join(site.shared_folders)
            warn(f"{folder} is below none of the site's shared folders: {known}")


def _demand_lines(
    jobs: Sequence[PlannedJob],
    training: _PlannedTraining | None,
    training_hours: float | None,
    hours: str,
) -> list[str]:
    """Return what each job asks for, and what all of them are expected to take."""
    lines = [f"{job.name}: {_demand(job)}" for job in jobs]
    if training is not None:
        lines.append(_plan_in_words(training, training_hours))
    if hours:
        lines.append(f"together: {hours}{_beyond(jobs)}")
    return lines


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


def _plan_in_words(training: _PlannedTraining, training_hours: float | None) -> str:
    """Return what a training is expected to take, and what that rests on."""
    mfu: Rate = training.plan.rates.mfu
    basis = f"{100 * mfu.value:.0f} % MFU {mfu.kind} ({mfu.source})"
    if training_hours is not None:
        basis = f"--hours {training_hours:g}"
    return (
        f"planned: {training.jobs.device_hours:,.1f} {_unit(training.plan)}-hours of training in "
        f"{counted_noun(jobs_of_plan(training.jobs), 'job')}, {basis}; `pipeline plan` shows all of it"
    )


def _unit(plan: Plan) -> str:
    if plan.allocation.hardware.is_cpu:
        return "device"
    return "GPU"


def _hours_together(jobs: Sequence[PlannedJob], training: _PlannedTraining | None) -> str:
    """Return what all jobs on GPUs take: the training as planned, others one time limit each.

    Empty where no job is on GPUs.
    """
    on_gpus = [job for job in jobs if job.gpus_per_node]
    if not on_gpus:
        return ""
    hours = sum(job.gpu_hours for job in on_gpus if job.kind != "train" or training is None)
    if training is not None:
        hours += training.jobs.device_hours
    return f"{hours:,.1f} GPU-hours planned"


def _beyond(jobs: Sequence[PlannedJob]) -> str:
    """Return how much more than planned the jobs may take, in words that follow the plan."""
    on_gpus = [job for job in jobs if job.gpus_per_node]
    open_ended = [job.name for job in on_gpus if job.most_jobs is None]
    if open_ended:
        return f", more where {' or '.join(open_ended)} is requeued more often"
    most = sum(job.gpu_hours * (job.most_jobs or 1) for job in on_gpus)
    return f", {most:,.1f} at most"


def agrees_to_send(jobs: int, hours: str) -> bool:
    """Ask whether to send. Raises UserError where nobody can answer."""
    what = counted_noun(jobs, "job")
    if hours:
        what += f", {hours}"
    answer = read_line(f"send {what}? [y/N] ")
    if answer is None:
        raise UserError("nothing was sent: nobody answered; add --yes to send without a question")
    return answer.strip().lower() in ("y", "yes")
