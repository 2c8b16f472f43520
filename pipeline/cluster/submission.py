"""Which jobs a run needs on a site, how large they are, and sending them. Free of torch.

A training that outlives a job's time limit is one job that goes back into the queue where the site
allows that: its number of restarts need not be known before, it keeps its id, and a dead node costs
no more than a requeue. Elsewhere it is a chain of jobs, each of which waits for the one before.
"""

import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.cluster.batch_script import BATCH_SCRIPTS, PlannedJob, sbatch_options
from pipeline.config.batch_division import batches_that_nodes_do_not_divide
from pipeline.config.run_config import RunConfig
from pipeline.config.run_sections import seconds_of_slurm_time
from pipeline.config.sites import PREFIX, Nodes, Site, cpu_nodes_of
from pipeline.errors import ConfigError, UserError, nearest_multiples
from pipeline.store.jobs.submitted_jobs import JobKind, SubmittedJob, record_job
from pipeline.work.dask_workers import FIRST_WORKER, LEAST_STEP_TASKS


@dataclass(frozen=True)
class JobSizes:
    """What is asked of the jobs of a run."""

    train_nodes: int
    """Nodes of the training."""
    data_nodes: int = 1
    """Nodes of the job that prepares the data."""
    time_limit: str | None = None
    """Time limit of a train job, as Slurm writes it; None: the site's longest."""
    train_jobs: int | None = None
    """Number of jobs of that length that the training takes; None where that is not known."""


def default_train_nodes(config: RunConfig, site: Site) -> int:
    """Return the nodes for `launch.ranks`, or 1 where that is `auto`.

    Raises ConfigError where the ranks do not fill whole nodes.
    """
    ranks = config.launch.ranks
    if ranks == "auto":
        return 1
    if ranks % site.ranks_per_node:
        raise ConfigError(
            [
                f"launch.ranks = {ranks}: the site has {site.ranks_per_node} ranks on a node; set "
                f"{nearest_multiples(ranks, site.ranks_per_node)}, or leave it out and give --nodes"
            ]
        )
    return ranks // site.ranks_per_node


def plan_jobs(
    kinds: Sequence[JobKind], config: RunConfig, site: Site, site_name: str, sizes: JobSizes
) -> list[PlannedJob]:
    """Return the jobs of some kinds, in the order in which they depend on each other.

    Raises ConfigError with every problem of the sizes: more nodes or a longer time than the site
    allows, too few cores, ranks that do not divide the batch.
    """
    problems: list[str] = []
    jobs: list[PlannedJob] = []
    if "data" in kinds:
        nodes = cpu_nodes_of(site, site_name)
        problems += _size_problems("--data-nodes", sizes.data_nodes, nodes, "cpu_nodes")
        problems += _data_problems(sizes, nodes)
        jobs.append(_data_job(site, nodes, sizes))
    if "train" in kinds:
        problems += _size_problems("--nodes", sizes.train_nodes, site.gpu_nodes, "gpu_nodes")
        problems += _time_problems(sizes, site)
        problems += _rank_problems(config, site, sizes.train_nodes)
        jobs += _train_jobs(site, sizes, after=tuple(job.name for job in jobs))
    if "evaluate" in kinds:
        problems += _evaluation_problems(site)
        jobs.append(_evaluate_job(site, after=tuple(job.name for job in jobs[-1:])))
    if problems:
        raise ConfigError(problems, f"the jobs for {site_name}")
    return jobs


def _data_job(site: Site, nodes: Nodes, sizes: JobSizes) -> PlannedJob:
    time_limit = _shipped_time("data", nodes)
    job = PlannedJob(
        kind="data",
        name="data",
        place=nodes,
        nodes=sizes.data_nodes,
        tasks_per_node=nodes.cores,
        cores_per_task=1,
        gpus_per_node=0,
        time_limit=time_limit,
        seconds=seconds_of_slurm_time(time_limit),
    )
    return limited(job, site)


def train_job(site: Site, nodes: int, time_limit: str | None) -> PlannedJob:
    """Return a job that trains on nodes of a site, without limits of its own on requeues.

    `time_limit`: as Slurm writes it; None: the site's longest.
    """
    place = site.gpu_nodes
    limit = time_limit or place.longest_time
    return PlannedJob(
        kind="train",
        name="train",
        place=place,
        nodes=nodes,
        tasks_per_node=site.ranks_per_node,
        cores_per_task=max(1, place.cores // site.ranks_per_node),
        gpus_per_node=place.gpus,
        time_limit=limit,
        seconds=seconds_of_slurm_time(limit),
    )


def _train_jobs(site: Site, sizes: JobSizes, after: tuple[str, ...]) -> list[PlannedJob]:
    """Return one job that is requeued, or a chain of jobs where the site does not requeue."""
    job = replace(
        train_job(site, sizes.train_nodes, sizes.time_limit),
        most_jobs=sizes.train_jobs,
        after=after,
    )
    length = sizes.train_jobs or 1
    if site.may_requeue or length == 1:
        return [limited(job, site)]
    # A link of the chain knows the ones before and after it.
    names = [f"train-{number}" for number in range(1, length + 1)]
    chain: list[PlannedJob] = []
    for position, name in enumerate(names):
        link = replace(limited(job, site), name=name)
        if position > 0:
            link = replace(link, after=(names[position - 1],))
        if position + 1 < length:
            link = replace(link, next_job=names[position + 1])
        chain.append(link)
    return chain


def _evaluate_job(site: Site, after: tuple[str, ...]) -> PlannedJob:
    place = site.gpu_nodes
    tasks = site.ranks_per_node + FIRST_WORKER
    time_limit = _shipped_time("evaluate", place)
    job = PlannedJob(
        kind="evaluate",
        name="evaluate",
        place=place,
        nodes=1,
        tasks_per_node=tasks,
        cores_per_task=max(1, place.cores // tasks),
        gpus_per_node=place.gpus,
        time_limit=time_limit,
        seconds=seconds_of_slurm_time(time_limit),
        after=after,
    )
    return limited(job, site)


def limited(job: PlannedJob, site: Site) -> PlannedJob:
    """Return a job that runs once where the site does not requeue."""
    if site.may_requeue:
        return job
    return replace(job, most_jobs=1)


def _shipped_time(kind: JobKind, nodes: Nodes) -> str:
    """Return the time limit of the shipped script, or the longest of the nodes if that is less."""
    shipped = sbatch_options((BATCH_SCRIPTS / f"{kind}.sbatch").read_text())["time"]
    assert shipped is not None, f"{kind}.sbatch has a time limit"
    if seconds_of_slurm_time(shipped) <= nodes.longest_seconds:
        return shipped
    return nodes.longest_time


def _size_problems(option: str, count: int, nodes: Nodes, section: str) -> list[str]:
    if nodes.most_nodes is None or count <= nodes.most_nodes:
        return []
    return [
        f"{option} = {count}: {nodes.partition or 'the partition'} takes at most "
        f"{nodes.most_nodes} nodes in a job; give fewer, or correct {PREFIX}{section}.most_nodes"
    ]


def _data_problems(sizes: JobSizes, nodes: Nodes) -> list[str]:
    tasks = sizes.data_nodes * nodes.cores
    if tasks >= LEAST_STEP_TASKS:
        return []
    return [
        f"{PREFIX}cpu_nodes.cores = {nodes.cores}: {sizes.data_nodes} x {nodes.cores} tasks are too "
        f"few: one schedules, one directs, the others work; give {LEAST_STEP_TASKS} cores or more"
    ]


def _time_problems(sizes: JobSizes, site: Site) -> list[str]:
    longest = site.gpu_nodes.longest_time
    if sizes.time_limit is None:
        return []
    if seconds_of_slurm_time(sizes.time_limit) <= site.gpu_nodes.longest_seconds:
        return []
    return [
        f"--time = {sizes.time_limit}: a job may take {longest} at most; give {longest} or less, or "
        f"correct {PREFIX}gpu_nodes.longest_time"
    ]


def _rank_problems(config: RunConfig, site: Site, nodes: int) -> list[str]:
    """Return a message for each global batch that the ranks do not divide, and for other ranks."""
    per_node = site.ranks_per_node
    ranks = nodes * per_node
    if config.launch.ranks not in ("auto", ranks):
        return [
            f"launch.ranks = {config.launch.ranks}: must equal {nodes} nodes x {per_node} ranks; set "
            "launch.ranks to auto"
        ]
    return batches_that_nodes_do_not_divide(config, nodes, per_node)


def _evaluation_problems(site: Site) -> list[str]:
    tasks = site.ranks_per_node + FIRST_WORKER
    if site.gpu_nodes.cores >= tasks:
        return []
    return [
        f"{PREFIX}gpu_nodes.cores = {site.gpu_nodes.cores}: an evaluation has {tasks} tasks on a node "
        f"of {site.ranks_per_node} ranks; give {tasks} cores or more"
    ]


def send_jobs(
    jobs: Sequence[PlannedJob], scripts: Mapping[str, Path], run_dir: Path, site_name: str
) -> list[SubmittedJob]:
    """Send jobs by sbatch, each after those that it waits for, and record their ids.

    `scripts`: name of a job -> its batch script. Raises UserError where sbatch refuses one or names
    no id; those before it are queued and recorded.
    """
    sent: dict[str, SubmittedJob] = {}
    for job in jobs:
        after = [sent[name]["id"] for name in job.after]
        command = ["sbatch", "--parsable"]
        if after:
            # Without the second option a job waits for ever after one that failed.
            command += [f"--dependency=afterok:{':'.join(after)}", "--kill-on-invalid-dep=yes"]
        answer = subprocess.run(
            [*command, str(scripts[job.name])], capture_output=True, text=True, check=False
        )
        if answer.returncode:
            raise UserError(_refusal(job, scripts[job.name], answer.stderr, list(sent.values())))
        # `ID;CLUSTER` where there are several clusters.
        number = answer.stdout.strip().partition(";")[0]
        if not number.isdecimal():
            raise UserError(
                f"sbatch accepted {scripts[job.name]}, but printed no job id ({number or 'nothing'}): "
                "the job may be queued, and is not recorded. Look for it with `squeue --me`, end it "
                f"with `scancel ID`, then submit again.{_queued_before(list(sent.values()))}"
            )
        record: SubmittedJob = {
            "id": number,
            "kind": job.kind,
            "name": job.name,
            "after": after,
            "site": site_name,
            "nodes": job.nodes,
            "time_limit": job.time_limit,
            "most_jobs": job.most_jobs,
            "submitted": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        record_job(run_dir, record)
        sent[job.name] = record
    return list(sent.values())


def _refusal(job: PlannedJob, script: Path, said: str, sent: Sequence[SubmittedJob]) -> str:
    message = f"sbatch refuses {script}: {' '.join(said.split())}. Correct the site"
    if not sent:
        return f"{message}, then submit again."
    ids = _ids(sent)
    return (
        f"{message}. The jobs before it are queued: end them with `scancel {ids}`, then submit "
        f"again; or let them run, and submit {job.name} after them."
    )


def _queued_before(sent: Sequence[SubmittedJob]) -> str:
    """Return a sentence about the jobs that are queued, empty where there are none."""
    if not sent:
        return ""
    return f" The jobs before it are queued: end them, too (`scancel {_ids(sent)}`)."


def _ids(sent: Sequence[SubmittedJob]) -> str:
    return " ".join(record["id"] for record in sent)
