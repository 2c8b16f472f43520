"""events.jsonl: what happened to a run, written by its ranks and by the supervisor."""

import json
import os
import time
from pathlib import Path
from typing import Any, NotRequired, TypedDict, TypeGuard, Unpack

from pipeline.store.counts import LineageEntry
from pipeline.store.environment import environment
from pipeline.store.files import FILE_MODE
from pipeline.store.layout import RunFolder
from pipeline.store.records import Environment

FIRST_STEP = "first step"
"""Kind of the event that each start of the ranks writes when its first step is complete."""
BRANCH = "branch"
"""Kind of the event of a run that begins from another one's checkpoint."""
ROLLBACK = "rollback"
"""Kind of the event of a run that goes on from an earlier checkpoint, without some samples."""


class ScaledLearningRate(TypedDict):
    """What `optimizer.learning_rate_scaling` makes of the peak learning rate."""

    peak: float
    """As the run file has it."""
    factor: float
    scaled_peak: float


class EventDetails(TypedDict, total=False):
    """What the kinds of events may say; each says some of it."""

    message: str
    """What the supervisor shows of it."""
    step: int
    """Completed optimizer steps, or the step that the event is about."""
    seconds: float
    checkpoint: str
    """Folder of a checkpoint."""
    reason: str
    ranks: int
    epochs: dict[str, float]
    """Start: source -> times that the run reads its text."""
    mfu_formula: str
    hfu_formula: str
    peak_flops: float | None
    """Start: floating-point operations per second of one device; None where it is not known."""
    learning_rate: ScaledLearningRate
    parameters: int
    embedding_parameters: int
    non_embedding_parameters: int
    attention: str
    """Start: transformers' name of the kernel."""
    config: str
    """Start: the resolved settings, in YAML."""
    phases: dict[str, float]
    """First step: stretch of the start-up -> seconds."""
    take: str
    """Branch: `train.init_take`."""
    lineage: list[LineageEntry]
    """Branch: what led to this run, oldest first."""
    changed: list[str]
    """Branch: the settings that differ from the other run's."""
    train_tokens_before: int
    train_tokens: int
    rate_before: float
    """Lengthened: learning rate at `step`."""
    rate_after: float
    """Lengthened: learning rate at the step after it."""
    step_before_decay: int | None
    """Lengthened: the newest checkpoint from which the run would not have to jump."""
    stalled_seconds: float
    """Save: time that training waited for the copies."""
    bytes: int
    """Save: size of the checkpoint."""
    loss: float | None
    """Update not made: nats per token; None where it was not finite."""
    to_step: int
    """Rollback: the step that the run goes on from."""
    samples: list[int]
    """Rollback: first and end of the samples that are skipped."""
    documents: list[str]
    """Rollback: identities of the first documents of these samples."""
    file: str
    """Rollback: the file of all documents, below the run folder."""
    damage: list[str]
    """Damaged checkpoint: what is wrong with its files."""
    named: str | None
    """Pointer mended: what `latest` named."""
    from_zero_stage: int
    to_zero_stage: int
    from_ranks: int
    to_ranks: int
    operator: str
    """Build: the operator of DeepSpeed that is compiled."""
    tracker: str
    error: str
    number: int
    """Restart: which one it is, from 1."""
    jobs: int
    """Given up: jobs in a row that ran out of time."""
    stacks: str
    """Stall: folder of the ranks' stacks, below `logs`."""
    without: list[int]
    """Stall: ranks that have not written theirs."""


class Event(TypedDict):
    """A line of events.jsonl."""

    time: str
    """Local time with its zone, `2000-01-31T23:59:59+0000`."""
    event: str
    """Its kind."""
    message: NotRequired[str]
    """What the supervisor shows of it."""


class StartEvent(Event):
    """The ranks have started."""

    step: int
    """Completed optimizer steps that they go on from."""
    ranks: int
    environment: Environment


class SaveEvent(Event):
    """A checkpoint is complete."""

    step: int
    """Its completed optimizer steps."""
    seconds: float
    """From the beginning of the copies to the end of all writing."""


class RollbackEvent(Event):
    """The run goes on from an earlier checkpoint."""

    samples: list[int]
    """First and end of the samples that are skipped."""


class BranchEvent(Event):
    """The run has begun from another run's checkpoint."""

    take: str
    """`train.init_take`."""
    lineage: list[LineageEntry]
    """What led to this run, oldest first."""


def write_event(run_dir: Path, kind: str, **details: Unpack[EventDetails]) -> None:
    """Append one event with its time; a start also carries the environment. The run folder may be
    yet to be made."""
    record: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "event": kind,
        **details,
    }
    if kind == "start":
        record["environment"] = environment()
    run_dir.mkdir(parents=True, exist_ok=True)
    line = (json.dumps(record) + "\n").encode()
    descriptor = os.open(RunFolder(run_dir).events, os.O_RDWR | os.O_CREAT | os.O_APPEND, FILE_MODE)
    try:
        size = os.fstat(descriptor).st_size
        is_torn = size and os.pread(descriptor, 1, size - 1) != b"\n"  # by a crash or a full disk
        os.write(
            descriptor, b"\n" + line if is_torn else line
        )  # at once: others write to the file, too
    finally:
        os.close(descriptor)


def all_events(run_dir: Path) -> list[Event]:
    """Return all events, oldest first, without lines that a crash has torn: no run is held up by
    what is said of it."""
    try:
        lines = RunFolder(run_dir).events.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [event for event in map(whole_record, lines) if event is not None]


def read_events(run_dir: Path, kind: str) -> list[Any]:
    """Return the events of one kind, oldest first.

    The caller names their type: `saves: list[SaveEvent] = read_events(run_dir, "save")`.
    """
    return [event for event in all_events(run_dir) if event.get("event") == kind]


def is_start(event: Event) -> TypeGuard[StartEvent]:
    """Tell whether an event is a start of the ranks."""
    return event["event"] == "start"


def is_save(event: Event) -> TypeGuard[SaveEvent]:
    """Tell whether an event is a complete checkpoint."""
    return event["event"] == "save"


def whole_record(line: bytes) -> Any | None:
    """Return the JSON object of a line, None where it is torn."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
