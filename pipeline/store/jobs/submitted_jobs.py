"""The record of the jobs that were submitted for a run, read and written."""

from pathlib import Path
from typing import Literal, TypeAlias, TypedDict

from pipeline.store.files import read_json, write_json
from pipeline.store.jobs.jobs_folder import jobs_folder

JobKind: TypeAlias = Literal["data", "train", "evaluate"]
"""Which of the shipped batch scripts a job runs."""


class SubmittedJob(TypedDict):
    """A job that Slurm has accepted."""

    id: str
    """Number that Slurm gave it."""
    kind: JobKind
    name: str
    """Name within the submission: the kind, with a number in a chain of several."""
    after: list[str]
    """Ids of the jobs that must have ended well before this one starts."""
    site: str
    """Name or file of the site."""
    nodes: int
    time_limit: str
    """As Slurm writes it."""
    most_jobs: int | None
    """How often it may run, first start and requeues together; None: until its work is done."""
    submitted: str
    """Local time with its zone, `2000-01-31T23:59:59+0000`."""


def submitted_jobs(run_dir: Path) -> list[SubmittedJob]:
    """Return the jobs that were submitted for a run, oldest first."""
    return read_json(jobs_folder(run_dir).record) or []


def record_job(run_dir: Path, job: SubmittedJob) -> None:
    """Add a job to the record of its run."""
    write_json(jobs_folder(run_dir).record, [*submitted_jobs(run_dir), job])
