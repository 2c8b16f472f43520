"""Heartbeats of the ranks, and the stacks of ranks that hang, in files of the run folder.

A rank writes into its heartbeat what its main thread does. The supervisor watches, by its own
clock, whether the content changes. When it stops changing, the supervisor requests stacks, and
every rank that still can writes the stacks of all its threads into a file.
"""

import faulthandler
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import NotRequired, Protocol, TypedDict

from pipeline.store.files import FILE_MODE
from pipeline.store.layout import RunFolder

LEAST_SECONDS = 1.0
"""Shortest time between two beats about the same kind of work."""
DUMP_SIGNAL = signal.SIGUSR2
"""Signal on which a rank writes its stacks."""


class EnergyReading(TypedDict):
    """Energy that a rank's device has used since the rank began to measure."""

    joules: float
    seconds: float
    """Time for which it was measured."""


class Meter(Protocol):
    """Measures the energy of a rank's device."""

    def read(self) -> EnergyReading:
        """Return the energy since the meter was made."""
        ...


class Beat(TypedDict):
    """Content of a rank's heartbeat file."""

    beat: int
    """Number of beats so far."""
    doing: str
    """What the main thread does."""
    energy: NotRequired[EnergyReading]
    """None is written where the rank's device does not tell its energy."""


class Heartbeat:
    """Writes to the heartbeat file of one rank that the rank is alive, and what it does."""

    def __init__(self, run_dir: Path, rank: int) -> None:
        """Create the file in the run folder. Raises OSError where it cannot be written."""
        path = RunFolder(run_dir).heartbeat(rank)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
        self._last = 0.0
        self._kind = ""
        self._count = 0
        self._meter: Meter | None = None

    def measure_energy(self, meter: Meter | None) -> None:
        """Write with each beat what the meter reads; None where the device does not tell."""
        self._meter = meter

    def beat(self, doing: str) -> None:
        """Write what the main thread does now.

        Nothing is written within LEAST_SECONDS of the last beat if `doing` begins with the same
        word.
        """
        now = time.monotonic()
        kind = doing.partition(" ")[0]
        if now - self._last < LEAST_SECONDS and kind == self._kind:
            return
        self._last = now
        self._kind = kind
        self._count += 1
        beat: Beat = {"beat": self._count, "doing": doing}
        if self._meter is not None:
            beat["energy"] = self._meter.read()
        text = json.dumps(beat).ljust(192) + "\n"
        os.pwrite(self._file, text.encode(), 0)


class NoHeartbeat:
    """Stands for a heartbeat where no supervisor watches."""

    def measure_energy(self, meter: Meter | None) -> None:
        """Do nothing."""

    def beat(self, doing: str) -> None:
        """Do nothing."""


NO_HEARTBEAT = NoHeartbeat()


def read_heartbeat(run_dir: Path, rank: int) -> Beat | None:
    """Return a rank's last beat; None where there is none, or it is being written now."""
    try:
        return json.loads(RunFolder(run_dir).heartbeat(rank).read_text())
    except (OSError, ValueError):
        return None


def energy_of_all_ranks(run_dir: Path) -> EnergyReading | None:
    """Return the energy of all ranks of the last start, None where no device told any.

    The joules are a sum; the seconds are those of the rank that measured longest.
    """
    readings: list[EnergyReading] = []
    for path in RunFolder(run_dir).written_heartbeats():
        # A beat may be being written.
        try:
            beat: Beat = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if "energy" in beat:
            readings.append(beat["energy"])
    if not readings:
        return None
    return {
        "joules": sum(reading["joules"] for reading in readings),
        "seconds": max(reading["seconds"] for reading in readings),
    }


def write_stacks_on_request(run_dir: Path, rank: int, poll_seconds: float) -> None:
    """Make this process write the stacks of all its threads on DUMP_SIGNAL or `request_stacks`.

    The signal's handler does not need Python's global lock, so it works while a thread that hangs
    holds the lock.
    """
    run = RunFolder(run_dir)
    run.stacks.mkdir(parents=True, exist_ok=True)
    file = run.stacks_of_rank(rank).open("w")
    faulthandler.register(DUMP_SIGNAL, file=file, all_threads=True)

    def watch() -> None:
        while True:
            time.sleep(poll_seconds)
            if run.stacks_request.exists():
                faulthandler.dump_traceback(file=file, all_threads=True)
                # The supervisor may read the file on another machine.
                os.fsync(file.fileno())
                return

    threading.Thread(target=watch, daemon=True).start()


def delete_heartbeats(run_dir: Path) -> None:
    """Delete the beats and stacks of an earlier start; for the supervisor, before ranks start."""
    run = RunFolder(run_dir)
    for path in [*run.heartbeats.glob("*"), *run.stacks.glob("*")]:
        path.unlink(missing_ok=True)


def request_stacks(run_dir: Path) -> None:
    """Request the stacks of all ranks by a file: no signal reaches ranks on other machines."""
    request = RunFolder(run_dir).stacks_request
    request.parent.mkdir(parents=True, exist_ok=True)
    request.touch()


def read_stacks(run_dir: Path) -> dict[int, str]:
    """Return rank -> stacks of its threads, for the ranks that have written some."""
    stacks: dict[int, str] = {}
    for rank, path in RunFolder(run_dir).written_stacks().items():
        text = path.read_text(errors="replace")
        if text:
            stacks[rank] = text
    return stacks
