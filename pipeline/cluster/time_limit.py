"""The end of a job's time: when to stop so that a save still fits in, and chains of jobs that never
get on."""

import os
import shutil
import subprocess
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pipeline.config.run_config import RunConfig
from pipeline.store.events import SaveEvent, all_events, read_events

OUT_OF_TIME = "out of time"
GIVEN_UP = "given up"
"""Events. The first is written when the ranks are told to stop, since the job may not live to see
them do it."""
SPARE_SECONDS = 30.0
"""For launcher and ranks to end, beside two steps and two saves."""
RECENT_SAVES = 10
"""Those of earlier starts that are looked at: a slow one long ago is no reason to stop early."""
TOLD = "PIPELINE_OUT_OF_TIME"
"""Environment variable with the file that tells a batch script to put its job back into the
queue."""


class TimeLimit:
    """Asked again and again by the supervisor; times are seconds of the epoch."""

    def __init__(self, config: RunConfig, began: float) -> None:
        """Take when the command began: `launch.time_limit` counts from there. Slurm's limit counts
        too, if it is earlier."""
        ends = (
            []
            if config.launch.time_limit_seconds is None
            else [began + config.launch.time_limit_seconds]
        )
        if (slurm := _end_of_slurm_job()) is not None:
            ends.append(slurm)
        self.end = min(ends, default=None)
        """None: there is no limit."""
        self._most = 0.0 if self.end is None else (self.end - began) / 2
        saves: list[SaveEvent] = read_events(config.paths.run_dir, "save")[-RECENT_SAVES:]
        self._save = max((event["seconds"] for event in saves), default=0.0)
        self._step = self._validation = 0.0

    def saw_step(self, seconds: float, validation_seconds: float) -> None:
        """Take the length of one more step and of the validation after it."""
        self._step = max(self._step, seconds)
        self._validation = max(self._validation, validation_seconds)

    def saw_save(self, seconds: float) -> None:
        """Take the length of one more save."""
        self._save = max(self._save, seconds)

    @property
    def margin(self) -> float:
        """Seconds before the end at which to stop, half the time at most.

        The step that is under way, a validation after it and a save, each twice.
        """
        return min(self._most, SPARE_SECONDS + 2 * (self._step + self._validation + self._save))

    def is_near(self) -> bool:
        """Tell whether it is time to stop and save."""
        return self.end is not None and time.time() >= self.end - self.margin


def _end_of_slurm_job() -> float | None:
    """Return when the Slurm job ends that this runs in, None outside of one or where its time is
    unlimited."""
    if end := os.environ.get("SLURM_JOB_END_TIME"):
        return float(end)
    if (job := os.environ.get("SLURM_JOB_ID")) is None or not shutil.which("squeue"):
        return None
    command = [
        "squeue",
        "--noheader",
        f"--jobs={job}",
        "--format=%e",
    ]  # Slurm before 23.02 sets no variable
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    with suppress(ValueError):
        return datetime.fromisoformat(told).timestamp()
    return None


def tell_batch_script() -> None:
    """Write to the file that the script names, if there is one, that the run has ended for want of
    time."""
    if path := os.environ.get(TOLD):
        Path(path).write_text("out of time\n")


def jobs_without_progress(run_dir: Path) -> int:
    """Return how many jobs, the last ones in a row, have run out of time before a new checkpoint
    was complete."""
    count = 0
    for event in all_events(run_dir):
        if event.get("event") == OUT_OF_TIME:
            count += 1
        elif event.get("event") in ("save", "end", GIVEN_UP):
            count = 0
    return count
