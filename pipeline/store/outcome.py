"""How a start of the ranks ended: written by a rank, read by the supervisor.

Reads and writes `RunFolder.outcome`, JSON. A start that leaves no outcome has crashed.
"""

from pathlib import Path
from typing import Literal, TypedDict

from pipeline.store.counts import TrainCounts
from pipeline.store.files import read_json, write_json
from pipeline.store.layout import RunFolder


class NoCounts(TypedDict):
    """What is counted of a run that is not done: nothing."""


class Done(TypedDict):
    """The run has made its last step."""

    status: Literal["done"]
    step: int
    """Completed optimizer steps."""
    counts: TrainCounts | None
    """What the stage's manifest says of the run; None but on rank 0."""


class Stopped(TypedDict):
    """The ranks were asked to stop, and have saved."""

    status: Literal["interrupted"]
    step: int
    """Completed optimizer steps."""
    counts: NoCounts
    """Empty."""


class RolledBack(TypedDict):
    """The ranks ended in order to start again from a checkpoint, without the samples that broke
    the run."""

    status: Literal["rolled back"]
    step: int
    """Completed optimizer steps of the checkpoint that the next start resumes from; 0 where there
    is none."""


class Refused(TypedDict):
    """A mistake of the user: starting again would not help."""

    status: Literal["refused"]
    message: str


Outcome = Done | Stopped | RolledBack | Refused


def write_outcome(run_dir: Path, outcome: Outcome) -> None:
    """Write how this start of the ranks ended."""
    write_json(RunFolder(run_dir).outcome, outcome)


def read_outcome(run_dir: Path) -> Outcome | None:
    """Return how the last start of the ranks ended, None where no rank has written it."""
    return read_json(RunFolder(run_dir).outcome)


def has_outcome(run_dir: Path) -> bool:
    """Tell whether a rank of the present start has written how it ended."""
    return RunFolder(run_dir).outcome.exists()


def forget_outcome(run_dir: Path) -> None:
    """Delete the outcome of an earlier start; only the supervisor calls it, before there are
    ranks."""
    RunFolder(run_dir).outcome.unlink(missing_ok=True)
