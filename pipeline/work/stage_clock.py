"""How long a stage took, over all jobs that made it: those that were stopped or killed, too.

Keeps a JSON file in data_dir or run_dir; the sum goes into the stage's manifest.
"""

import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TypedDict

from pipeline.errors import DataError
from pipeline.store.files import read_json, write_json
from pipeline.store.layout import stage_seconds_path, task_records
from pipeline.store.periodic import Periodic

SAVE_SECONDS = 5.0
"""A job that is killed loses at most this much of its time."""


class Spent(TypedDict):
    """Content of the file: seconds of the jobs so far."""

    inputs: str
    """Fingerprint of what the newest job makes the stage from."""
    seconds: float
    """Seconds of jobs with these inputs."""
    with_other_inputs: float
    """Seconds of the jobs before, which had others."""


class StageClock:
    """Context manager around a job's work on a stage; afterwards `finish` says what all its jobs
    took.

    Jobs with the same inputs count together. Those with other inputs count where their work is
    still there: in a stage that only grows, or where a finished task was taken over, as when text
    is added.
    """

    job_seconds = 0.0
    """Seconds of this job, once it has ended."""

    def __init__(self, root: Path, stage: str, folder: Path, inputs: str, *, grows: bool) -> None:
        """Take data_dir or run_dir, the stage's folder in it, and the fingerprint of its inputs.
        Nothing is written yet."""
        output = folder.relative_to(root).parts[1:]
        self._path = stage_seconds_path(root, "-".join((stage, *output)))
        self._records = task_records(folder)
        saved = (
            _read(self._path) if folder.is_dir() else None
        )  # with the folder, all that jobs made is gone
        self._spent = _begin(saved, inputs, grows)
        self._seconds_before = self._spent["seconds"]
        self._grows = grows
        self._saving = Periodic(SAVE_SECONDS, self._save)

    def __enter__(self) -> "StageClock":
        self._tasks_before = self._task_records()
        self._started = time.monotonic()
        self._save()
        self._saving.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._saving.stop()
        self._save()
        self.job_seconds = self._spent["seconds"] - self._seconds_before

    def finish(self) -> float:
        """Return the seconds of all jobs whose work is in the stage's output; those of the others
        are dropped."""
        has_kept_tasks = bool(self._tasks_before & self._task_records())
        if self._grows or has_kept_tasks:
            self._spent["seconds"] += self._spent["with_other_inputs"]
        self._spent["with_other_inputs"] = 0.0
        self._write()
        return self._spent["seconds"]

    def _task_records(self) -> set[tuple[str, int]]:
        """Return the records of finished tasks, each with its time: one that was made again has
        another."""
        return {(path.name, path.stat().st_mtime_ns) for path in self._records.glob("*.json")}

    def _save(self) -> None:
        self._spent["seconds"] = self._seconds_before + round(time.monotonic() - self._started, 3)
        self._write()

    def _write(self) -> None:
        with suppress(OSError):  # a disk that is full for a moment ends no stage
            write_json(self._path, self._spent)


def _read(path: Path) -> Spent | None:
    """Return the file's content; None where there is none, or it is damaged: no stage is held up by
    it."""
    with suppress(DataError, KeyError, TypeError, ValueError):
        content = read_json(path)
        return {
            "inputs": str(content["inputs"]),
            "seconds": float(content["seconds"]),
            "with_other_inputs": float(content["with_other_inputs"]),
        }
    return None


def _begin(saved: Spent | None, inputs: str, grows: bool) -> Spent:
    """Return the time of earlier jobs as one with these inputs counts it."""
    if saved is None:
        return {"inputs": inputs, "seconds": 0.0, "with_other_inputs": 0.0}
    if saved["inputs"] == inputs or grows:
        return {**saved, "inputs": inputs}
    return {
        "inputs": inputs,
        "seconds": 0.0,
        "with_other_inputs": saved["seconds"] + saved["with_other_inputs"],
    }
