"""`pipeline study run` with the executor `slurm`: one job array, shown, then sent after a question."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.cli.study.opened_study import OpenedStudy
from pipeline.cli.submit_view import agrees_to_send, own_command
from pipeline.cluster.batch_script import JobPaths, PlannedJob, batch_script
from pipeline.cluster.slurm_jobs import has_slurm, states_of_array
from pipeline.config.run_sections import seconds_of_slurm_time
from pipeline.config.sites import Site, read_site
from pipeline.errors import ConfigError, UserError
from pipeline.logs import console, counted_noun, note
from pipeline.store.files import write_atomic
from pipeline.store.jobs.jobs_folder import jobs_folder
from pipeline.store.jobs.submitted_jobs import SubmittedJob, record_job, submitted_jobs

NAME = "study"
"""Name of the array among the jobs of the study's folder."""


def submit_array(opened: OpenedStudy, overrides: Sequence[str], *, is_agreed: bool) -> None:
    """Write the script of the array, show what it asks for, ask, and send it.

    An element trains one run after another that nobody else trains, and ends when there is none; it
    is requeued at its time limit. Raises UserError for what would keep it from starting.
    """
    # Where it is sent.
    site_name = opened.study.executor.site
    if site_name is None:
        raise ConfigError(
            ["executor.site: is required for executor.kind = slurm; set it to a site or a file"],
            str(opened.file),
        )
    if not has_slurm():
        raise UserError(
            "this machine has no Slurm (no sbatch or scontrol in PATH). Start the study from a login "
            "node, or set executor.kind to local or none"
        )

    # What is sent, and what that asks for.
    site = read_site(site_name)
    refuse_array_in_queue(opened)
    job = _array(opened, site, overrides)
    script = _write_script(opened, site, job)
    elements = len([run for run in opened.runs if run.trunk is None])
    hours = job.gpu_hours or job.core_hours
    unit = "GPU-hours" if job.gpus_per_node else "core-hours"
    console.print(
        f"{site.description}: an array of {counted_noun(elements, 'element')}, at most "
        f"{opened.study.executor.jobs} at a time, {hours:,.1f} {unit} each up to its time limit of "
        f"{job.time_limit}; it is requeued there until its runs are done\nscript {script}"
    )
    if not is_agreed and not agrees_to_send(elements, f"{elements * hours:,.1f} {unit}"):
        note("study: nothing was sent")
        return

    # Its id is kept for `study status`.
    number = _send(script)
    record: SubmittedJob = {
        "id": number,
        "kind": "train",
        "name": NAME,
        "after": [],
        "site": site_name,
        "nodes": job.nodes,
        "time_limit": job.time_limit,
        "most_jobs": job.most_jobs,
        "submitted": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    record_job(opened.folder.path, record)
    note(f"study: array {number}; `pipeline study status {opened.file}` shows it")


def refuse_array_in_queue(opened: OpenedStudy) -> None:
    """Raise UserError where an array of this study has not ended."""
    for job in submitted_jobs(opened.folder.path):
        open_elements = [
            element for element, state in states_of_array(job["id"]).items() if not state.has_ended
        ]
        if open_elements:
            raise UserError(
                f"{opened.folder.path}: the array {job['id']} of this study is queued or running "
                f"({len(open_elements)} elements); wait for it, or `scancel {job['id']}`"
            )


def array_lines(opened: OpenedStudy) -> list[str]:
    """Return a line for each element of the study's last array that Slurm still knows."""
    jobs = submitted_jobs(opened.folder.path)
    if not jobs:
        return []
    states = states_of_array(jobs[-1]["id"])
    return [f"element {element}: {state.in_words()}" for element, state in states.items()]


def _array(opened: OpenedStudy, site: Site, overrides: Sequence[str]) -> PlannedJob:
    """Return the array as a job: what each element is."""
    executor = opened.study.executor
    place = site.gpu_nodes
    time_limit = executor.time_limit or place.longest_time
    elements = len([run for run in opened.runs if run.trunk is None])
    ranks = executor.nodes * site.ranks_per_node
    return PlannedJob(
        kind="train",
        name=NAME,
        place=place,
        nodes=executor.nodes,
        tasks_per_node=site.ranks_per_node,
        cores_per_task=max(1, place.cores // site.ranks_per_node),
        gpus_per_node=place.gpus,
        time_limit=time_limit,
        seconds=seconds_of_slurm_time(time_limit),
        most_jobs=None if site.may_requeue else 1,
        options={"array": f"0-{elements - 1}%{executor.jobs}"},
        environment={"PIPELINE_COMMAND": "study run", "PIPELINE_LAUNCH": "executor.launch=slurm"},
        arguments=(
            *overrides,
            "executor.kind=local",
            "executor.jobs=1",
            f"executor.ranks={ranks}",
        ),
    )


def _write_script(opened: OpenedStudy, site: Site, job: PlannedJob) -> Path:
    folder = jobs_folder(opened.folder.path)
    output = folder.output(NAME).with_name(f"{NAME}-%A_%a.out")
    paths = JobPaths(opened.file.absolute(), output, Path.cwd(), own_command())
    script = folder.script(NAME)
    script.parent.mkdir(parents=True, exist_ok=True)
    title = f"{NAME}-{opened.folder.path.name}".replace(" ", "-")
    write_atomic(script, batch_script(job, site, title, paths))
    return script


def _send(script: Path) -> str:
    """Return the id that Slurm gives the array. Raises UserError where sbatch refuses it."""
    answer = subprocess.run(
        ["sbatch", "--parsable", str(script)], capture_output=True, text=True, check=False
    )
    if answer.returncode:
        raise UserError(
            f"sbatch refuses {script}: {' '.join(answer.stderr.split())}. Correct the site, then run "
            "the same command again"
        )
    return answer.stdout.strip().partition(";")[0]
