"""Seconds that a stage took over all jobs that worked on it, including stopped and killed ones.

Reads and writes a JSON file in data_dir or run_dir; the sum goes into the stage's manifest.
"""

import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TypedDict

from pipeline.errors import DataError
from pipeline.store.files import read_json, write_json
from pipeline.store.layout import stage_seconds_path
from pipeline.store.periodic import Periodic
from pipeline.work.kept_tasks import forget_kept, kept_tasks

SAVE_SECONDS = 5.0
"""Time between two saves: a job that is killed loses at most this much of its time."""


class JobSeconds(TypedDict):
    """Content of the file."""

    inputs: str
    """Fingerprint of the stage's inputs in the newest job."""
    seconds: float
    """Seconds of all jobs with these inputs."""
    with_other_inputs: float
    """Seconds of earlier jobs with other inputs."""


class StageClock:
    """Context manager that measures a job's work on a stage and adds it to that of earlier jobs.

    Jobs with the same inputs are added up. Jobs with other inputs are added where their work
    remains in the output: in a stage that only grows, or where a finished task of theirs was kept,
    as when text is added.
    """

    job_seconds = 0.0
    """Seconds of this job, once it has ended."""

    def __init__(self, root: Path, stage: str, folder: Path, inputs: str, *, grows: bool) -> None:
        """Read the seconds of earlier jobs.

        `root` is data_dir or run_dir, `folder` the stage's folder below it, `inputs` the
        fingerprint of its inputs. `grows` says that the stage only adds to its output.
        """
        below_the_stage = folder.relative_to(root).parts[1:]
        self._path = stage_seconds_path(root, "-".join((stage, *below_the_stage)))
        self._folder = folder
        # Without the folder, the work of earlier jobs is gone.
        saved = None
        if folder.is_dir():
            saved = _read_seconds(self._path)
        self._spent = _seconds_before(saved, inputs, grows)
        self._seconds_before = self._spent["seconds"]
        self._grows = grows
        self._saving = Periodic(SAVE_SECONDS, self._save)

    def __enter__(self) -> "StageClock":
        forget_kept(self._folder)
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
        """Return the seconds of all jobs whose work is in the output; forget those of the others."""
        if self._grows or kept_tasks(self._folder):
            self._spent["seconds"] += self._spent["with_other_inputs"]
        self._spent["with_other_inputs"] = 0.0
        self._write()
        return self._spent["seconds"]

    def _save(self) -> None:
        self._spent["seconds"] = self._seconds_before + round(time.monotonic() - self._started, 3)
        self._write()

    def _write(self) -> None:
        # A disk that is full for a moment must not end the stage.
        with suppress(OSError):
            write_json(self._path, self._spent)


def _read_seconds(path: Path) -> JobSeconds | None:
    """Return the file's content; None where it is missing or damaged, which must not end a stage."""
    with suppress(DataError, KeyError, TypeError, ValueError):
        content = read_json(path)
        return {
            "inputs": str(content["inputs"]),
            "seconds": float(content["seconds"]),
            "with_other_inputs": float(content["with_other_inputs"]),
        }
    return None


def _seconds_before(saved: JobSeconds | None, inputs: str, grows: bool) -> JobSeconds:
    """Return the seconds of earlier jobs, seen from a job with these inputs."""
    if saved is None:
        return {"inputs": inputs, "seconds": 0.0, "with_other_inputs": 0.0}
    if saved["inputs"] == inputs or grows:
        return {**saved, "inputs": inputs}
    return {
        "inputs": inputs,
        "seconds": 0.0,
        "with_other_inputs": saved["seconds"] + saved["with_other_inputs"],
    }
