"""Reads and writes events.jsonl: what happened to a run. Ranks and supervisor append to it."""

import json
import os
import time
from pathlib import Path
from typing import Any, NotRequired, TypedDict, TypeGuard, Unpack

from pipeline.store.counts import LineageEntry
from pipeline.store.environment import environment
from pipeline.store.files import FILE_MODE
from pipeline.store.layout import RunFolder
from pipeline.store.records import Environment, Json

FIRST_STEP = "first step"
"""Kind of the event that each start of the ranks writes after its first step."""
BRANCH = "branch"
"""Kind of the event of a run that begins from another run's checkpoint."""
ROLLBACK = "rollback"
"""Kind of the event of a run that rolls back to an earlier checkpoint and skips some samples."""
OUT_OF_TIME = "out of time"
"""Kind of the event when the ranks are asked to stop; the job may not live until they have."""
LAUNCH = "launch"
"""Kind of the event that the supervisor writes just before it starts the ranks."""
RANKS_ENDED = "ranks ended"
"""Kind of the event that the supervisor writes when all ranks of a start have ended, whatever ended
them. Missing where the supervisor was killed."""
ENERGY = "energy"
"""Kind of the event with the energy that the devices have used since this start of the ranks. The
supervisor writes it now and then, and when the ranks have ended; the last one of a start counts."""

COMMUNICATION = "communication"
"""Kind of the event with the time of communication, measured after the last step where the run file
asks for it (`train.communication_steps`)."""


class ScaledLearningRate(TypedDict):
    """Effect of `optimizer.learning_rate_scaling` on the peak learning rate."""

    peak: float
    """Peak learning rate in the run file."""
    factor: float
    """`scaled_peak` divided by `peak`."""
    scaled_peak: float
    """Peak learning rate that the run uses."""


class EventDetails(TypedDict, total=False):
    """Fields of events; each kind of event has some of them. A docstring begins with the kind."""

    message: str
    """Text that the supervisor prints."""
    step: int
    """Completed optimizer steps, or the step that the event is about."""
    seconds: float
    """Time that the event took."""
    checkpoint: str
    """Folder of a checkpoint."""
    reason: str
    """Why the event happened."""
    ranks: int
    """Number of ranks."""
    abandoned_steps: int
    """Start: recorded steps that this start moved to `RunFolder.abandoned_metrics`."""
    device: str
    """Start: name of rank 0's GPU, or `CPU`."""
    epochs: dict[str, float]
    """Start: source -> number of times that the run reads its text."""
    mfu_formula: str
    """Start: how model FLOPs utilisation is computed, for people."""
    hfu_formula: str
    """Start: how hardware FLOPs utilisation is computed, for people."""
    peak_flops: float | None
    """Start: floating-point operations per second of one device; None where it is not known."""
    learning_rate: ScaledLearningRate
    parameters: int
    """Start: parameters of the model, each tensor counted once."""
    embedding_parameters: int
    """Start: parameters of embedding and head."""
    non_embedding_parameters: int
    """Start: all other parameters."""
    attention: str
    """Start: transformers' name of the attention kernel."""
    config: str
    """Start: the resolved settings, in YAML."""
    phases: dict[str, float]
    """First step: part of the start-up -> seconds."""
    cpu_phases: dict[str, float]
    """First step: part of rank 0's start-up -> CPU seconds."""
    take: str
    """Branch: `train.init_take`."""
    lineage: list[LineageEntry]
    """Branch: the checkpoints and models that this run descends from, oldest first."""
    changed: list[str]
    """Branch: settings that differ from the run from which it begins."""
    train_tokens_before: int
    """Lengthened: `train.train_tokens` so far."""
    train_tokens: int
    """Lengthened: `train.train_tokens` from now on."""
    rate_before: float
    """Lengthened: learning rate at `step`."""
    rate_after: float
    """Lengthened: learning rate at the next step."""
    step_before_decay: int | None
    """Lengthened: step of the newest checkpoint from which the learning rate would not jump."""
    stalled_seconds: float
    """Save: time for which training waited while tensors were copied."""
    bytes: int
    """Save: size of the checkpoint."""
    loss: float | None
    """Update not made: nats per token; None where it was not finite."""
    to_step: int
    """Rollback: the step from which the run continues."""
    samples: list[int]
    """Rollback: the first skipped sample, and the first one after it that is not skipped."""
    documents: list[str]
    """Rollback: ids of the first documents of these samples."""
    file: str
    """Rollback: the file of all documents, below the run folder."""
    damage: list[str]
    """Damaged checkpoint: what is wrong with its files."""
    nodes: int
    """Communication: machines that the ranks run on."""
    cores: int
    """Communication: cores that the ranks of a machine share."""
    backend: str
    """Communication: nccl or gloo."""
    network: str
    """Communication: the links of rank 0's machine to others, in words."""
    seconds_with: list[float]
    """Communication: seconds of each step of the slowest rank."""
    seconds_without: list[float]
    """Communication: the same of steps without reduction, in turns with the others; empty at ZeRO
    stage 3, where no step can do without."""
    bytes_per_second: float
    """Communication: bus bandwidth of all-reduces among all ranks."""
    named: str | None
    """Pointer mended: the checkpoint that `latest` named."""
    from_zero_stage: int
    """Convert: ZeRO stage of the checkpoint."""
    to_zero_stage: int
    """Convert: ZeRO stage of the run."""
    from_ranks: int
    """Convert: ranks that wrote the checkpoint."""
    to_ranks: int
    """Convert: ranks of the run."""
    operator: str
    """Build: the DeepSpeed operator that is compiled."""
    tracker: str
    """Tracker failed: its name."""
    error: str
    """Tracker failed: its exception."""
    launcher_began: float
    """Launch: when the launcher began, or the imports that its ranks are forked from, in seconds of
    the epoch."""
    command_began: float
    """Launch: when the command began, in seconds of the epoch; the same for all starts of a job."""
    submitted: float | None
    """Launch: when the Slurm job was submitted, in seconds of the epoch; None where not known."""
    joules: float
    """Energy: energy used by the devices of all ranks, in joules, for `seconds`."""
    number: int
    """Restart: number of the restart, from 1."""
    jobs: int
    """Given up: number of consecutive jobs that ran out of time."""
    stacks: str
    """Stall: folder of the ranks' stacks, below `logs`."""
    without: list[int]
    """Stall: ranks that have written no stacks."""


class Event(TypedDict):
    """A line of events.jsonl."""

    time: str
    """Local time with its zone, `2000-01-31T23:59:59+0000`."""
    unix_time: NotRequired[float]
    """The same in seconds of the epoch, to the millisecond; older runs have none."""
    event: str
    """Kind of the event."""
    message: NotRequired[str]
    """Text that the supervisor prints."""


class StartEvent(Event):
    """The ranks have started."""

    step: int
    """Completed optimizer steps from which the ranks continue."""
    ranks: int
    """Number of ranks."""
    environment: Environment
    """Library versions, commit, command and machine."""
    device: NotRequired[str]
    """Name of the ranks' device, `CPU` where there is no GPU."""


class FirstStepEvent(Event):
    """The ranks have made their first step after a start."""

    seconds: float
    """Time since the command began."""
    phases: dict[str, float]
    """Part of the start-up -> seconds; `before_train` is what came before the stage."""
    cpu_phases: NotRequired[dict[str, float]]
    """Part of rank 0's start-up -> CPU seconds of its process, user and system, from its imports on."""


class SaveEvent(Event):
    """A checkpoint is complete."""

    step: int
    """Completed optimizer steps."""
    seconds: float
    """Time from the first copy of a tensor to the end of all writing."""
    bytes: int
    """Size of the checkpoint."""


class CommunicationEvent(Event):
    """The time of communication was measured."""

    ranks: int
    nodes: int
    """Machines that the ranks run on."""
    cores: int
    """Cores that the ranks of a machine share."""
    backend: str
    """nccl or gloo."""
    network: str
    """The links of rank 0's machine to others, in words."""
    seconds_with: list[float]
    """Seconds of each step of the slowest rank."""
    seconds_without: list[float]
    """The same without reduction; empty at ZeRO stage 3."""
    bytes_per_second: float
    """Bus bandwidth of all-reduces among all ranks."""


class RollbackEvent(Event):
    """The run rolls back to an earlier checkpoint."""

    samples: list[int]
    """The first skipped sample, and the first one after it that is not skipped."""


class BranchEvent(Event):
    """The run has begun from another run's checkpoint."""

    take: str
    """`train.init_take`."""
    lineage: list[LineageEntry]
    """The checkpoints and models that this run descends from, oldest first."""


def write_event(run_dir: Path, kind: str, **details: Unpack[EventDetails]) -> None:
    """Append one event with its time, a start also with the environment.

    Makes the run folder if there is none.
    """
    now = time.time()
    local_time = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(now))
    event: Event = {"time": local_time, "unix_time": round(now, 3), "event": kind}
    made_by: dict[str, Environment] = {}
    if kind == "start":
        made_by["environment"] = environment()
    run_dir.mkdir(parents=True, exist_ok=True)
    line = (json.dumps({**event, **details, **made_by}) + "\n").encode()
    descriptor = os.open(RunFolder(run_dir).events, os.O_RDWR | os.O_CREAT | os.O_APPEND, FILE_MODE)
    try:
        # A crash or a full disk may have torn the last line.
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        # One call, because other processes append to the file, too.
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def all_events(run_dir: Path) -> list[Event]:
    """Return all events, oldest first; lines that a crash has torn are left out."""
    try:
        lines = RunFolder(run_dir).events.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [event for event in map(parse_record, lines) if event is not None]


def read_events(run_dir: Path, kind: str) -> list[Any]:
    """Return the events of one kind, oldest first.

    The caller declares their type: `saves: list[SaveEvent] = read_events(run_dir, "save")`.
    """
    return [event for event in all_events(run_dir) if event.get("event") == kind]


def is_start(event: Event) -> TypeGuard[StartEvent]:
    """Tell whether an event is a start of the ranks."""
    return event["event"] == "start"


def is_save(event: Event) -> TypeGuard[SaveEvent]:
    """Tell whether an event is a complete checkpoint."""
    return event["event"] == "save"


def parse_record(line: bytes) -> Any | None:
    """Return the JSON object in a line of an event or metrics file, None where it is torn.

    The caller declares its type.
    """
    try:
        record: Json = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict):
        return None
    return record
