"""The runs of a study that are to be trained, and what their folders tell of each.

Everything is read from disk, so that several commands, machines and jobs share one study. Imports
no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pipeline.store.layout import RunFolder, manifest_path
from pipeline.store.lease import living_holder
from pipeline.store.metrics import last_step_record


class RunState(Enum):
    """What a run's folders tell."""

    DONE = "done"
    """Every stage has written its manifest."""
    RUNNING = "running"
    """A command holds its lease."""
    STOPPED = "stopped"
    """It has made steps, and nobody trains it now."""
    READY = "to come"
    BLOCKED = "waits for its trunk"
    """The checkpoint from which it begins is not there yet."""


@dataclass(frozen=True)
class QueuedRun:
    """One run of a study, as whoever trains it needs to know it."""

    name: str
    home: Path
    """Its folder, whose lease its trainer holds."""
    run_file: Path
    run_dir: Path
    output: Path
    """Text file of what its commands print."""
    steps: int
    """Steps of the training, those of its trunk included."""
    first_step: int
    """Its first own step."""
    work: float
    """What it takes itself: FLOPs, or tokens where all runs have the same model."""
    sequences: int
    """Sequences of a batch, which the ranks divide."""
    micro_batch: int
    """Largest number of sequences of a micro-batch."""
    ranks: int | None = None
    """Its number of ranks; None where whoever trains it decides."""
    most_ranks: int | None = None
    """The most ranks of any run, where speed is measured: each rank of every run then has the threads
    that it would have among as many. None: the ranks of a run share its part of the machine."""
    trunk: str | None = None
    """Run that has to be started before it."""
    needs: Path | None = None
    """Checkpoint from which it begins, None where it is trained from its beginning."""
    stages: tuple[str, ...] = ("train",)
    """Stages of the pipeline that it runs, in order."""

    @property
    def manifest(self) -> Path:
        """The manifest of its last stage."""
        run = RunFolder(self.run_dir)
        manifests = {
            "train": run.train_manifest,
            "export": run.export_manifest,
            "evaluate": run.evaluation_manifest,
        }
        return manifests[self.stages[-1]]

    @property
    def state(self) -> RunState:
        """What its folders tell now."""
        if self.manifest.is_file():
            return RunState.DONE
        if living_holder(self.home) is not None or living_holder(self.run_dir) is not None:
            return RunState.RUNNING
        if last_step_record(self.run_dir) is not None:
            return RunState.STOPPED
        if self.needs is None or manifest_path(self.needs).is_file():
            return RunState.READY
        return RunState.BLOCKED


@dataclass(frozen=True)
class RunProgress:
    """How far a run that is trained now has come."""

    name: str
    step: int
    steps: int
    loss: float | None
    """Training loss of its last step, in nats a token."""


@dataclass(frozen=True)
class StudyProgress:
    """How far a study has come."""

    done: int
    running: Sequence[RunProgress]
    to_come: int
    failed: Sequence[str]
    """Names of runs that this command could not finish."""
    work_left: float
    work: float
    """The sum over all runs, done or not."""


def progress_of(runs: Sequence[QueuedRun], failed: Sequence[str] = ()) -> StudyProgress:
    """Return how far a study has come, from its folders."""
    states = {run.name: run.state for run in runs}
    running = [step_of_run(run) for run in runs if states[run.name] is RunState.RUNNING]
    left = 0.0
    for run in runs:
        if states[run.name] is not RunState.DONE:
            made = max(0, step_of_run(run).step - run.first_step + 1)
            left += run.work * (1 - made / (run.steps - run.first_step + 1))
    done = sum(state is RunState.DONE for state in states.values())
    return StudyProgress(
        done=done,
        running=running,
        to_come=len(runs) - done - len(running) - len(failed),
        failed=failed,
        work_left=left,
        work=sum(run.work for run in runs),
    )


def step_of_run(run: QueuedRun) -> RunProgress:
    """Return the last step that a run has made; 0 before its first one."""
    record = last_step_record(run.run_dir)
    if record is None:
        return RunProgress(run.name, 0, run.steps, None)
    return RunProgress(run.name, record["step"], run.steps, record["loss"])
