"""How many jobs of limited length a training takes. Pure arithmetic."""

import math
from dataclasses import dataclass

from pipeline.config.run_sections import job_margin_seconds

SIGNAL_SECONDS = 300.0
"""Time before its limit at which train.sbatch has Slurm tell the job to save (`--signal=B:USR1@300`)."""
EARLY_SECONDS = 60.0
"""Slurm sends that signal up to a minute early (sbatch's manual, `--signal`)."""
LEAST_SIGNALLED_SECONDS = 900.0
"""Time limit of a job below which train.sbatch leaves it to the supervisor when to save."""


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


def lost_margin_seconds(job_seconds: float, step: float, validation: float, save: float) -> float:
    """Return the time at a job's end in which it trains no more.

    That which the supervisor needs (`job_margin_seconds`), or the earliest signal of train.sbatch
    if that is earlier.
    """
    own = job_margin_seconds(step, validation, save)
    if job_seconds < LEAST_SIGNALLED_SECONDS:
        return own
    return max(own, SIGNAL_SECONDS + EARLY_SECONDS)


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


@dataclass(frozen=True)
class JobTimes:
    """The time limit of a job, and the parts of it that make no progress."""

    limit_seconds: float
    start_up_seconds: float
    """From the job's start to its first step."""
    margin_seconds: float
    """From the last step to the job's end, the save included (`lost_margin_seconds`)."""
    save_seconds: float
    """One save, while training goes on or waits for it."""

    def chain(self, training_seconds: float) -> JobChain | None:
        """Return the jobs that a training takes, None where a job is over before its first step."""
        if self.limit_seconds <= self.start_up_seconds + self.margin_seconds:
            return None
        return chain_of_jobs(
            training_seconds, self.limit_seconds, self.start_up_seconds, self.margin_seconds
        )

    def held_seconds(self, training_seconds: float) -> float:
        """Return the time for which all jobs of a training hold their devices.

        A job ends after its last save, before its time limit.
        """
        chain = self.chain(training_seconds)
        if chain is None:
            return training_seconds
        return training_seconds + chain.jobs * (self.start_up_seconds + self.save_seconds)
