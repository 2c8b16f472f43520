"""How many jobs of limited length a training takes. Pure arithmetic."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class JobChain:
    """Jobs that follow each other, each of which goes on from the checkpoint of the one before."""

    jobs: int
    """Number of jobs."""
    job_seconds: float
    """Time limit of each job."""
    overhead_seconds: float
    """Part of each job that makes no progress: start-up, and the margin with the save at its end."""
    last_job_seconds: float
    """Time that the last job needs, its overhead included."""


def chain_of_jobs(
    training_seconds: float,
    job_seconds: float,
    start_up_seconds: float,
    margin_seconds: float,
) -> JobChain:
    """Return the jobs that a training takes.

    `training_seconds`: steps, validations and saves on the way. `start_up_seconds`: from the job's
    start to the first step. `margin_seconds`: from the last step to the job's end, the save
    included. Raises ValueError where a job is over before it has made a step.
    """
    overhead = start_up_seconds + margin_seconds
    useful = job_seconds - overhead
    if useful <= 0:
        raise ValueError(
            f"a job of {job_seconds:,.0f} s ends before its first step: start-up takes "
            f"{start_up_seconds:,.0f} s, and margin and save {margin_seconds:,.0f} s"
        )
    jobs = max(1, math.ceil(training_seconds / useful))
    last = training_seconds - (jobs - 1) * useful + overhead
    return JobChain(jobs, job_seconds, overhead, last)
