"""The batch script of a submitted job: a shipped one, with what the site decides put before it.

The shipped scripts in `batch_scripts/` (a link to `jobs/slurm/`) hold what a job does, and sbatch's
options for a job that is sent by hand.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.config.sites import Nodes, Site
from pipeline.store.jobs.submitted_jobs import JobKind

BATCH_SCRIPTS = Path(__file__).parent / "batch_scripts"
OPTION = "#SBATCH --"
"""Beginning of a line with an option of sbatch."""
DECIDED_BY_SITE = ("mem-per-cpu", "gpus-per-node")
"""Options of the shipped scripts that a site keeps only by giving them itself."""
WITHOUT_NETWORK = {"WANDB_MODE": "offline"}
"""Environment of jobs on nodes without network: trackers write to disk. The shipped scripts keep
libraries from asking for the network everywhere."""


@dataclass(frozen=True)
class PlannedJob:
    """A job to submit."""

    kind: JobKind
    name: str
    """Name within the submission: the kind, with a number in a chain of several."""
    place: Nodes
    """The nodes on which it runs."""
    nodes: int
    tasks_per_node: int
    cores_per_task: int
    gpus_per_node: int
    time_limit: str
    """As Slurm writes it."""
    seconds: int
    """The time limit in seconds."""
    most_jobs: int | None = None
    """How often it may run, first start and requeues together; None: until its work is done."""
    after: tuple[str, ...] = ()
    """Names of the jobs that must have ended well before this one starts."""
    next_job: str | None = None
    """Name of the job that goes on with this one's work."""
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    """Further options of sbatch for this job alone, such as `array`."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Further environment variables of this job alone."""
    arguments: tuple[str, ...] = ()
    """Arguments of its command, after the file with the settings."""

    @property
    def gpu_hours(self) -> float:
        """GPU-hours of one run of the job up to its time limit."""
        return self.nodes * self.gpus_per_node * self.seconds / 3600

    @property
    def core_hours(self) -> float:
        """Core-hours of one run of the job up to its time limit."""
        return self.nodes * self.tasks_per_node * self.cores_per_task * self.seconds / 3600


@dataclass(frozen=True)
class JobPaths:
    """Files of this machine that a job uses, at the same paths on its nodes."""

    settings: Path
    """The run file that the job reads."""
    output: Path
    """Where it prints."""
    folder: Path
    """The folder in which it runs."""
    command: Path
    """The `pipeline` command."""


def batch_script(job: PlannedJob, site: Site, title: str, paths: JobPaths) -> str:
    """Return the text of a job's script.

    `title`: Slurm's name of the job.
    """
    shipped = (BATCH_SCRIPTS / f"{job.kind}.sbatch").resolve()
    options = sbatch_options(shipped.read_text()) | _options(job, site, title, paths)
    if not site.may_requeue:
        options = _without_requeue(options)
    lines = ["#!/bin/bash", "# Written by `pipeline submit`. What the job does: the last line."]
    lines += [f"{OPTION}{name}={value}" for name, value in options.items() if value is not None]
    lines += [f"{OPTION}{name}" for name, value in options.items() if value is None]
    lines += [f"#SBATCH {option}" for option in (*site.options, *job.place.options)]
    lines += [f"module load {shlex.quote(module)} || exit 1" for module in site.modules]
    lines += _exports(_environment(job, site, paths))
    lines.append(shlex.join(["exec", "bash", str(shipped), str(paths.settings), *job.arguments]))
    return "\n".join(lines) + "\n"


def sbatch_options(script: str) -> dict[str, str | None]:
    """Return the options of sbatch in a script, None for one without value."""
    options: dict[str, str | None] = {}
    for line in script.splitlines():
        if line.startswith(OPTION):
            name, separator, value = line.removeprefix(OPTION).partition("=")
            options[name] = value if separator else None
    return {name: value for name, value in options.items() if name not in DECIDED_BY_SITE}


def _options(job: PlannedJob, site: Site, title: str, paths: JobPaths) -> dict[str, str | None]:
    """Return the options that the site and this job decide."""
    options: dict[str, str | None] = {
        "job-name": title,
        "nodes": str(job.nodes),
        "ntasks-per-node": str(job.tasks_per_node),
        "cpus-per-task": str(job.cores_per_task),
        "time": job.time_limit,
        "output": str(paths.output),
        "chdir": str(paths.folder),
    }
    if job.gpus_per_node:
        options["gpus-per-node"] = str(job.gpus_per_node)
    by_name = {"partition": job.place.partition, "qos": job.place.qos, "account": site.account}
    options |= {name: value for name, value in by_name.items() if value is not None}
    options |= job.options
    return options


def _without_requeue(options: dict[str, str | None]) -> dict[str, str | None]:
    """Return options under which Slurm never puts the job back into the queue."""
    kept = {name: value for name, value in options.items() if name != "requeue"}
    return kept | {"no-requeue": None}


def _environment(job: PlannedJob, site: Site, paths: JobPaths) -> dict[str, str]:
    environment: dict[str, str] = {"PIPELINE": str(paths.command)}
    if site.network_interfaces:
        environment["NCCL_SOCKET_IFNAME"] = ",".join(site.network_interfaces)
    if not site.nodes_have_network:
        environment |= WITHOUT_NETWORK
    environment |= site.environment
    if job.next_job is not None:
        environment["PIPELINE_NEXT_JOB"] = job.next_job
    if job.most_jobs is not None:
        environment["PIPELINE_MOST_REQUEUES"] = str(job.most_jobs - 1)
    return {**environment, **job.environment}


def _exports(environment: Mapping[str, str]) -> Sequence[str]:
    return [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
