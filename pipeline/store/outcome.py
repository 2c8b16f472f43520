"""The outcome of a start of the ranks: written by a rank, read by the supervisor.

Reads and writes `RunFolder.outcome`, JSON. A start that leaves no outcome has crashed.
"""

from pathlib import Path
from typing import Literal, TypedDict

from pipeline.store.counts import ResultOfRun
from pipeline.store.files import read_json, write_json
from pipeline.store.layout import RunFolder


class NoCounts(TypedDict):
    """Counts of a run that is not done, and of a rank that does not count: none."""


class Done(TypedDict):
    """The run has completed its last step."""

    status: Literal["done"]
    step: int
    """Completed optimizer steps."""
    counts: ResultOfRun | NoCounts
    """Counts for the manifest of the stage; empty on ranks other than rank 0."""


class Stopped(TypedDict):
    """The ranks were asked to stop, and have saved a checkpoint."""

    status: Literal["interrupted"]
    step: int
    """Completed optimizer steps."""
    counts: NoCounts
    """Empty."""


class RolledBack(TypedDict):
    """The ranks ended so that the next start rolls back, and skips the samples that failed."""

    status: Literal["rolled back"]
    step: int
    """Completed optimizer steps of the checkpoint that the next start resumes from; 0 without a
    checkpoint."""


class Refused(TypedDict):
    """The ranks found a mistake of the user: starting again would not help."""

    status: Literal["refused"]
    message: str
    """Message to the user: setting or file, value, rule and remedy."""


Outcome = Done | Stopped | RolledBack | Refused
"""The ways in which a start of the ranks may end, other than by a crash."""


def write_outcome(run_dir: Path, outcome: Outcome) -> None:
    """Write the outcome of this start of the ranks."""
    write_json(RunFolder(run_dir).outcome, outcome)


def read_outcome(run_dir: Path) -> Outcome | None:
    """Return the outcome of the last start of the ranks, None where no rank has written one."""
    return read_json(RunFolder(run_dir).outcome)


def has_outcome(run_dir: Path) -> bool:
    """Tell whether a rank has written the run's outcome since the ranks were last started."""
    return RunFolder(run_dir).outcome.exists()


def delete_outcome(run_dir: Path) -> None:
    """Delete the outcome of an earlier start; for the supervisor, before ranks start."""
    RunFolder(run_dir).outcome.unlink(missing_ok=True)
