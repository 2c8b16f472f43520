"""One start of a tiny training on two CPU ranks, and one restart, measured from outside.

Trains the run of `small_run.py`; reads the CPU times of all processes in /proc, and the
phases that rank 0 tells in events.jsonl. A killed rank is what makes the restart.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.benchmarks.starting.process_times import (
    COMMAND,
    LAUNCHERS,
    cpu_seconds_of_parts,
    read_process_times,
    total,
)
from pipeline.cluster.warm.forkable_ranks import LAUNCHER_VARIABLE
from pipeline.errors import UserError
from pipeline.store.events import FIRST_STEP, FirstStepEvent, read_events
from pipeline.training.stop import POLL_SECONDS

RANKS = 2
ENDLESS_TOKENS = 100_000_000
"""Tokens of a run that outlasts every measurement."""
BATCH_TOKENS = 256
SETTINGS = (
    f"train.train_tokens={ENDLESS_TOKENS // BATCH_TOKENS * BATCH_TOKENS}",
    f"batch.global_batch_tokens={BATCH_TOKENS}",
    "batch.micro_batch_sequences=2",
    f"launch.ranks={RANKS}",
    "train.validate_every_steps=1000000",
    "checkpoint.save_every_steps=1000000",
)
"""What the small run is trained with: two ranks that never validate and never save."""
LOOK_SECONDS = 0.02
"""Time between two looks for the first step."""
MOST_SECONDS = 1800.0
"""Time after which a start counts as failed."""
END_SECONDS = 60.0
"""Time that the ranks of a killed command have to end by themselves."""
KILLED_RANK = "rank 1"
COMMAND_PHASES = ("before_train", "plan")
TOGETHER = "together"


@dataclass(frozen=True)
class PartTimes:
    """What one part of a start took."""

    cpu_seconds: float | None
    """User and system time; None where it is not known for this part alone."""
    seconds: float | None
    """Time on the clock; None where parts run side by side."""


Parts = dict[str, PartTimes]
"""Part of a start -> what it took, in the order in which they are listed."""


@dataclass(frozen=True)
class MeasuredStart:
    """One round."""

    start: Parts
    """From the command to the first step."""
    restart: Parts
    """From the kill of a rank to the first step of the next start."""


def measure_start(run_file: Path, run_dir: Path, variables: Mapping[str, str]) -> MeasuredStart:
    """Train in a new run folder until the first step; kill a rank, and wait for the next first step.

    `variables` are added to the environment. Raises UserError with the output where the training ends before.
    """
    with _training(run_file, run_dir, variables) as (command, log):

        def first_steps(count: int) -> Sequence[FirstStepEvent]:
            return _wait_for_first_steps(run_dir, count, command, log)

        # The first start.
        (event,) = first_steps(1)
        times = read_process_times(command)
        start = parts_of_start(cpu_seconds_of_parts(times), event, event["seconds"])

        # The next one. CPU times of a rank that was killed end here.
        (victim,) = [pid for pid, process in times.items() if process.part == KILLED_RANK]
        before = read_process_times(command)
        killed = time.time()
        os.kill(victim, signal.SIGKILL)
        event = first_steps(2)[-1]
        seconds = cpu_seconds_of_parts(read_process_times(command), before)
        restart = parts_of_start(
            seconds, event, event.get("unix_time", killed) - killed, has_command=False
        )
    return MeasuredStart(start, restart)


@contextmanager
def _training(
    run_file: Path, run_dir: Path, variables: Mapping[str, str]
) -> Generator[tuple[psutil.Process, Path]]:
    """Run `pipeline train` in a session of its own; end it, and all that it has started, at last."""
    log = run_dir.with_suffix(".log")
    inherited = {name: text for name, text in os.environ.items() if name != LAUNCHER_VARIABLE}
    overrides = [*SETTINGS, f"paths.run_dir={run_dir}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "train", str(run_file), *overrides],
            env=inherited | dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield psutil.Process(process.pid), log
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        # Ranks see within POLL_SECONDS that their supervisor is gone.
        _, left = psutil.wait_procs(family, timeout=END_SECONDS + POLL_SECONDS)
        for straggler in left:
            straggler.kill()


def _wait_for_first_steps(
    run_dir: Path, count: int, command: psutil.Process, log: Path
) -> Sequence[FirstStepEvent]:
    """Return the events of the first `count` starts once they have all made a step."""
    deadline = time.monotonic() + MOST_SECONDS
    while time.monotonic() < deadline:
        events: list[FirstStepEvent] = []
        if run_dir.exists():
            events = read_events(run_dir, FIRST_STEP)
        if len(events) >= count:
            return events
        if command.status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(LOOK_SECONDS)
    tail = log.read_text(errors="replace")[-3000:]
    raise UserError(f"benchmark: the training made no first step:\n{tail}")


def parts_of_start(
    cpu: dict[str, float], event: FirstStepEvent, seconds: float, *, has_command: bool = True
) -> Parts:
    """Return all parts of a start: processes, the phases of rank 0, and all together."""
    phases = event["phases"]
    parts: Parts = {}

    # Processes, the ranks last. Of the command's own phases a restart has none.
    clocks = {LAUNCHERS: phases["launcher"]}
    if has_command:
        clocks[COMMAND] = sum(phases[name] for name in COMMAND_PHASES)
    for name, spent in sorted(cpu.items(), key=lambda item: item[0].startswith("rank")):
        parts[name] = PartTimes(spent, clocks.get(name))

    # The phases of rank 0.
    for name, clock in phases.items():
        if name not in (*COMMAND_PHASES, "launcher"):
            spent_in_phase = event.get("cpu_phases", {}).get(name)
            parts[f"rank 0: {name.replace('_', ' ')}"] = PartTimes(spent_in_phase, clock)
    parts[TOGETHER] = PartTimes(total(cpu), seconds)
    return parts
