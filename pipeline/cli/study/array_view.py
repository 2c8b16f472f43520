"""`pipeline study run` with the executor `slurm`: one job array, shown, then sent after a question."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.cli.study.opened_study import OpenedStudy
from pipeline.cli.submit_view import agrees_to_send, own_command
from pipeline.cluster.batch_script import JobPaths, PlannedJob, batch_script
from pipeline.cluster.slurm_jobs import has_slurm, states_of_array
from pipeline.cluster.submission import limited, send_jobs, train_job
from pipeline.config.sites import Site, read_site
from pipeline.errors import ConfigError, UserError
from pipeline.logs import console, counted_noun, note
from pipeline.store.files import write_atomic
from pipeline.store.jobs.jobs_folder import jobs_folder
from pipeline.store.jobs.submitted_jobs import submitted_jobs

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
    elements = len([run for run in opened.runs if run.trunk is None])
    job = _array(opened, site, overrides, elements)
    script = _write_script(opened, site, job)
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

    (sent,) = send_jobs([job], {NAME: script}, opened.folder.path, site_name)
    note(f"study: array {sent['id']}; `pipeline study status {opened.file}` shows it")


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


def _array(opened: OpenedStudy, site: Site, overrides: Sequence[str], elements: int) -> PlannedJob:
    """Return the array as a job: what each element is."""
    executor = opened.study.executor
    ranks = executor.nodes * site.ranks_per_node
    job = replace(
        train_job(site, executor.nodes, executor.time_limit),
        name=NAME,
        options={"array": f"0-{elements - 1}%{executor.jobs}"},
        environment={"PIPELINE_COMMAND": "study run", "PIPELINE_LAUNCH": "executor.launch=slurm"},
        arguments=(
            *overrides,
            "executor.kind=local",
            "executor.jobs=1",
            f"executor.ranks={ranks}",
        ),
    )
    return limited(job, site)


def _write_script(opened: OpenedStudy, site: Site, job: PlannedJob) -> Path:
    folder = jobs_folder(opened.folder.path)
    output = folder.output(NAME).with_name(f"{NAME}-%A_%a.out")
    paths = JobPaths(opened.file.absolute(), output, Path.cwd(), own_command())
    script = folder.script(NAME)
    script.parent.mkdir(parents=True, exist_ok=True)
    title = f"{NAME}-{opened.folder.path.name}".replace(" ", "-")
    write_atomic(script, batch_script(job, site, title, paths))
    return script
