"""Signs of life of each rank, in files of the run folder: how far its main thread is, and where it
stands if it hangs.

A rank writes its heartbeat; the supervisor looks at whether the content changes, by its own clock.
When it does not, the supervisor asks for stacks, and every rank that still can writes those of all
its threads into a file of its own.
"""

import faulthandler
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import TypedDict

from pipeline.store.files import FILE_MODE
from pipeline.store.layout import RunFolder

LEAST_SECONDS = 1.0
"""Between two beats, whatever the length of a step."""
DUMP_SIGNAL = signal.SIGUSR2


class Beat(TypedDict):
    """What a rank's file says."""

    beat: int
    """How many beats there have been."""
    doing: str
    """What the main thread does."""


class Heartbeat:
    """One rank's sign of life."""

    def __init__(self, run_dir: Path, rank: int) -> None:
        """Take the run's folder. Raises OSError where it cannot be written."""
        path = RunFolder(run_dir).heartbeat(rank)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
        self._last = 0.0
        self._kind = ""
        self._count = 0

    def beat(self, doing: str) -> None:
        """Say what the main thread does now, if that begins with another word or the last beat is a
        second old."""
        now = time.monotonic()
        kind = doing.partition(" ")[0]
        if now - self._last < LEAST_SECONDS and kind == self._kind:
            return
        self._last = now
        self._kind = kind
        self._count += 1
        text = json.dumps({"beat": self._count, "doing": doing}).ljust(96) + "\n"
        os.pwrite(self._file, text.encode(), 0)


class NoHeartbeat:
    """Where nobody watches."""

    def beat(self, doing: str) -> None:
        """Do nothing."""


NO_HEARTBEAT = NoHeartbeat()


def read_heartbeat(run_dir: Path, rank: int) -> Beat | None:
    """Return a rank's last beat; None where there is none, or it is being written."""
    try:
        return json.loads(RunFolder(run_dir).heartbeat(rank).read_text())
    except (OSError, ValueError):
        return None


def give_stacks_when_asked(run_dir: Path, rank: int, poll_seconds: float) -> None:
    """Have this process write the stacks of all its threads when it gets DUMP_SIGNAL, or when the
    file asks for them.

    The signal's handler needs no lock of Python's, so that it also works in a thread that never
    gives it back.
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
                os.fsync(file.fileno())  # for a supervisor on another machine
                return

    threading.Thread(target=watch, daemon=True).start()


def clear(run_dir: Path) -> None:
    """Forget the beats and stacks of an earlier start; only the supervisor calls it, before there
    are ranks."""
    run = RunFolder(run_dir)
    for path in [*run.heartbeats.glob("*"), *run.stacks.glob("*")]:
        path.unlink(missing_ok=True)


def ask_for_stacks(run_dir: Path) -> None:
    """Ask every rank, on whichever machine, to write its stacks: ranks on other machines get no
    signal from the supervisor."""
    request = RunFolder(run_dir).stacks_request
    request.parent.mkdir(parents=True, exist_ok=True)
    request.touch()


def stacks_of(run_dir: Path) -> dict[int, str]:
    """Return what ranks have written, by rank; those that could not are not in it."""
    found = {
        rank: path.read_text(errors="replace")
        for rank, path in RunFolder(run_dir).written_stacks().items()
    }
    return {rank: text for rank, text in found.items() if text}
