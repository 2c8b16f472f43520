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
from pipeline.errors import ConfigError, UserError, nearest_multiples
from pipeline.logs import console, counted_noun, note
from pipeline.planning.study.axes import Place
from pipeline.store.files import write_atomic
from pipeline.store.jobs.jobs_folder import jobs_folder
from pipeline.store.jobs.submitted_jobs import submitted_jobs

NAME = "study"
"""Name of the array among the jobs of the study's folder."""


def submit_array(opened: OpenedStudy, overrides: Sequence[str], *, is_agreed: bool) -> None:
    """Write the script of each array, show what it asks for, ask, and send them.

    Runs on the same number of nodes are one array. An element trains one run after another that
    nobody else trains, and ends when there is none; it is requeued at its time limit. Raises
    UserError for what would keep it from starting.
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
    places = [run.place for run in opened.runs if run.trunk is None]
    elements = elements_by_nodes(places, opened.study.executor.nodes, site.ranks_per_node)
    jobs = [
        _array(opened, site, overrides, nodes, count, is_only=len(elements) == 1)
        for nodes, count in elements.items()
    ]
    scripts = {job.name: _write_script(opened, site, job) for job in jobs}
    hours = 0.0
    for job, count in zip(jobs, elements.values(), strict=True):
        _print_array(opened, site, job, count, scripts[job.name])
        hours += count * _hours_of_element(job)
    unit = _unit(jobs[0])
    if not is_agreed and not agrees_to_send(sum(elements.values()), f"{hours:,.1f} {unit}"):
        note("study: nothing was sent")
        return

    for sent in send_jobs(jobs, scripts, opened.folder.path, site_name):
        note(f"study: array {sent['id']}; `pipeline study status {opened.file}` shows it")


def elements_by_nodes(places: Sequence[Place], nodes: int, ranks_per_node: int) -> dict[int, int]:
    """Return nodes of an array's elements -> number of elements.

    `places`: those of all runs without a trunk, an element each. `nodes`: those of a run whose ranks
    the executor decides. Raises ConfigError for ranks that do not fill whole nodes.
    """
    elements: dict[int, int] = {}
    problems: list[str] = []
    for place in places:
        own = nodes
        if place.ranks is not None:
            own = max(1, place.ranks // ranks_per_node)
            if own * ranks_per_node != place.ranks:
                problems.append(
                    f"axes.ranks: {place.ranks} ranks do not fill whole nodes of {ranks_per_node}; "
                    f"give {nearest_multiples(place.ranks, ranks_per_node)}"
                )
        elements[own] = elements.get(own, 0) + 1
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return elements


def _print_array(
    opened: OpenedStudy, site: Site, job: PlannedJob, elements: int, script: Path
) -> None:
    """Print what an array asks for."""
    size = ""
    if job.nodes > 1:
        size = f" of {job.nodes} nodes"
    console.print(
        f"{site.description}: an array of {counted_noun(elements, 'element')}{size}, at most "
        f"{opened.study.executor.jobs} at a time, {_hours_of_element(job):,.1f} {_unit(job)} each up to "
        f"its time limit of {job.time_limit}; it is requeued there until its runs are done\nscript "
        f"{script}"
    )


def _hours_of_element(job: PlannedJob) -> float:
    return job.gpu_hours or job.core_hours


def _unit(job: PlannedJob) -> str:
    if job.gpus_per_node:
        return "GPU-hours"
    return "core-hours"


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
    """Return a line for each element of the study's last arrays that Slurm still knows."""
    newest = {job["name"]: job for job in submitted_jobs(opened.folder.path)}
    lines: list[str] = []
    for job in newest.values():
        states = states_of_array(job["id"])
        lines += [f"element {element}: {state.in_words()}" for element, state in states.items()]
    return lines


def _array(
    opened: OpenedStudy,
    site: Site,
    overrides: Sequence[str],
    nodes: int,
    elements: int,
    *,
    is_only: bool,
) -> PlannedJob:
    """Return an array as a job: what each element is. `is_only`: whether the study has no other."""
    executor = opened.study.executor
    name = NAME
    if not is_only:
        name = f"{NAME}-{nodes}-nodes"
    job = replace(
        train_job(site, nodes, executor.time_limit),
        name=name,
        options={"array": f"0-{elements - 1}%{executor.jobs}"},
        environment={"PIPELINE_COMMAND": "study run", "PIPELINE_LAUNCH": "executor.launch=slurm"},
        arguments=(
            *overrides,
            "executor.kind=local",
            "executor.jobs=1",
            f"executor.ranks={nodes * site.ranks_per_node}",
        ),
    )
    return limited(job, site)


def _write_script(opened: OpenedStudy, site: Site, job: PlannedJob) -> Path:
    folder = jobs_folder(opened.folder.path)
    output = folder.output(job.name).with_name(f"{job.name}-%A_%a.out")
    paths = JobPaths(opened.file.absolute(), output, Path.cwd(), own_command())
    script = folder.script(job.name)
    script.parent.mkdir(parents=True, exist_ok=True)
    title = f"{job.name}-{opened.folder.path.name}".replace(" ", "-")
    write_atomic(script, batch_script(job, site, title, paths))
    return script
