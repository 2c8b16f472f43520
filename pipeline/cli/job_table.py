"""The jobs that were submitted for a run, as `status` and `submit` print them."""

from collections.abc import Container, Mapping
from pathlib import Path

from pipeline.cluster.slurm_jobs import JobState, has_slurm, states_of_jobs
from pipeline.logs import console, print_wide
from pipeline.store.jobs.submitted_jobs import submitted_jobs

LEAST_WIDTH = 100
"""Columns of the table: a narrower terminal breaks lines rather than words."""


def print_jobs(run_dir: Path) -> None:
    """Print a table of the run's submitted jobs; nothing where none were submitted."""
    from rich.table import Table

    jobs = submitted_jobs(run_dir)
    if not jobs:
        return
    states = states_of_jobs([job["id"] for job in jobs])
    columns = ("job", "id", "state", "since", "nodes", "requeued", "after")
    table = Table(*columns, box=None, pad_edge=False)
    for job in jobs:
        state = states.get(job["id"])
        table.add_row(job["name"], job["id"], *_state_columns(state), ", ".join(job["after"]))
    console.print("")
    print_wide(table, LEAST_WIDTH)
    if not has_slurm():
        console.print("this machine has no Slurm: the ids are those of the record")


def job_lines(run_dir: Path, states: Mapping[str, JobState], only: Container[str]) -> list[str]:
    """Return a line for each job in `only`: its name, id and state."""
    return [
        f"  {job['name']} {job['id']}: {_place(states[job['id']])}"
        for job in submitted_jobs(run_dir)
        if job["id"] in only
    ]


def _place(state: JobState) -> str:
    """Return a job's state and its nodes, in words."""
    if not state.nodes:
        return state.in_words()
    return f"{state.in_words()} on {state.nodes}"


def _state_columns(state: JobState | None) -> tuple[str, str, str, str]:
    """Return state, start, nodes and requeues as text."""
    if state is None:
        return "not known to Slurm here", "", "", ""
    since = state.start.replace("T", " ")
    # A job that was cancelled in the queue has Slurm's time of that, and no nodes.
    if state.has_ended and not state.nodes:
        since = ""
    if state.state == "PENDING" and since:
        since = f"starts {since}"
    requeued = f"{state.requeues} x" if state.requeues else ""
    return state.in_words(), since, state.nodes, requeued
