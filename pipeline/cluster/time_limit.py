"""Time limits of a job: when it has to stop for a last save, and how many jobs saved nothing new.

Reads events.jsonl, Slurm's environment variables, and the job's end and submit times from `squeue`.
"""

import os
import shutil
import subprocess
import time
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from pipeline.config.run_config import RunConfig
from pipeline.config.run_sections import job_margin_seconds
from pipeline.store.environment import user_variable
from pipeline.store.events import OUT_OF_TIME, SaveEvent, all_events, read_events

GIVEN_UP = "given up"
"""Kind of the event when a chain of jobs without progress is ended."""
RECENT_SAVES = 10
"""Number of last saves of earlier starts that count: a slow one long ago is no reason to stop."""
BATCH_SCRIPT_VARIABLE = "PIPELINE_OUT_OF_TIME"
"""Environment variable with a file; if it is written, the batch script requeues its job."""


class TimeLimit:
    """The time at which a job has to stop; times are seconds of the epoch."""

    def __init__(self, config: RunConfig, began: float) -> None:
        """Take when the command began, from which `launch.time_limit` counts.

        The limit of a Slurm job counts if it is earlier.
        """
        ends: list[float] = []
        if config.launch.time_limit_seconds is not None:
            ends.append(began + config.launch.time_limit_seconds)
        slurm = end_of_slurm_job()
        if slurm is not None:
            ends.append(slurm)
        self.end = min(ends, default=None)
        """End of the job's time; None if there is no limit."""
        self._largest_margin = 0.0
        if self.end is not None:
            self._largest_margin = (self.end - began) / 2
        saves: list[SaveEvent] = read_events(config.paths.run_dir, "save")[-RECENT_SAVES:]
        self._save = max((event["seconds"] for event in saves), default=0.0)
        self._step = 0.0
        self._validation = 0.0

    def saw_step(self, seconds: float, validation_seconds: float) -> None:
        """Take the duration of another step and of the validation after it."""
        self._step = max(self._step, seconds)
        self._validation = max(self._validation, validation_seconds)

    def saw_save(self, seconds: float) -> None:
        """Take the duration of another save."""
        self._save = max(self._save, seconds)

    @property
    def margin(self) -> float:
        """Seconds before the end at which to stop, at most half of the job's time."""
        return min(
            self._largest_margin, job_margin_seconds(self._step, self._validation, self._save)
        )

    def is_near(self) -> bool:
        """Tell whether it is time to stop and save."""
        return self.end is not None and time.time() >= self.end - self.margin


def end_of_slurm_job() -> float | None:
    """Return when the Slurm job of this process ends, None without a job or a limit."""
    end = os.environ.get("SLURM_JOB_END_TIME")
    if end:
        return float(end)
    # Slurm before 23.02 does not set that variable.
    return _time_from_squeue("%e")


@lru_cache(maxsize=1)
def submit_time_of_slurm_job() -> float | None:
    """Return when the Slurm job of this process was submitted, or was last put back into the queue.

    In seconds of the epoch; None without a job, or where `squeue` does not tell.
    """
    return _time_from_squeue("%V")


def _time_from_squeue(field: str) -> float | None:
    """Return a time of the Slurm job of this process, None where `squeue` does not tell.

    `field`: a field of `squeue --format`.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or not shutil.which("squeue"):
        return None
    command = ["squeue", "--noheader", f"--jobs={job}", f"--format={field}"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    with suppress(ValueError):
        return datetime.fromisoformat(answer).timestamp()
    return None


def tell_batch_script() -> None:
    """Write to the file that the batch script names, if any, that the run is out of time."""
    path = user_variable(BATCH_SCRIPT_VARIABLE)
    if path is not None:
        Path(path).write_text("out of time\n")


def jobs_without_progress(run_dir: Path) -> int:
    """Return the number of last jobs in a row that ran out of time without a new checkpoint."""
    count = 0
    for event in all_events(run_dir):
        if event.get("event") == OUT_OF_TIME:
            count += 1
        elif event.get("event") in ("save", "end", GIVEN_UP):
            count = 0
    return count
