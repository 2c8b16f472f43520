"""Signs of life of each rank, in files of the run folder: how far its main thread is, and where it
stands if it hangs.

A rank writes `heartbeat/rank_N`; the supervisor looks at whether the content changes, by its own
clock. When it does not, the supervisor asks for stacks, and every rank that still can writes those
of all its threads into its file of `stacks`.
"""

import faulthandler
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from pipeline.store.files import FILE_MODE

FOLDER = "heartbeat"
STACKS = "stacks"
WANTED = "wanted"
"""File in `stacks` that asks for them: ranks on other machines get no signal from the
supervisor."""
LEAST_SECONDS = 1.0
"""Between two beats, whatever the length of a step."""
DUMP_SIGNAL = signal.SIGUSR2


class Heartbeat:
    """One rank's sign of life."""

    def __init__(self, run_dir: Path, rank: int) -> None:
        """Take the run's folder. Raises OSError where it cannot be written."""
        folder = run_dir / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(
            folder / f"rank_{rank:05d}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE
        )
        self._last, self._kind, self._count = 0.0, "", 0

    def beat(self, doing: str) -> None:
        """Say what the main thread does now, if that begins with another word or the last beat is a
        second old."""
        now, kind = time.monotonic(), doing.partition(" ")[0]
        if now - self._last < LEAST_SECONDS and kind == self._kind:
            return
        self._last, self._kind = now, kind
        self._count += 1
        text = json.dumps({"beat": self._count, "doing": doing}).ljust(96) + "\n"
        os.pwrite(self._file, text.encode(), 0)


class NoHeartbeat:
    """Where nobody watches."""

    def beat(self, doing: str) -> None:
        """Do nothing."""


NO_HEARTBEAT = NoHeartbeat()


def read_heartbeat(run_dir: Path, rank: int) -> dict[str, Any] | None:
    """Return a rank's last beat; None where there is none, or it is being written."""
    try:
        return json.loads((run_dir / FOLDER / f"rank_{rank:05d}").read_text())
    except (OSError, ValueError):
        return None


def give_stacks_when_asked(run_dir: Path, rank: int, poll_seconds: float) -> None:
    """Have this process write the stacks of all its threads when it gets DUMP_SIGNAL, or when the
    file asks for them.

    The signal's handler needs no lock of Python's, so that it also works in a thread that never
    gives it back.
    """
    folder = run_dir / STACKS
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / f"rank_{rank:05d}.txt").open("w")
    faulthandler.register(DUMP_SIGNAL, file=file, all_threads=True)

    def watch() -> None:
        while True:
            time.sleep(poll_seconds)
            if (folder / WANTED).exists():
                faulthandler.dump_traceback(file=file, all_threads=True)
                os.fsync(file.fileno())  # for a supervisor on another machine
                return

    threading.Thread(target=watch, daemon=True).start()


def clear(run_dir: Path) -> None:
    """Forget the beats and stacks of an earlier start; only the supervisor calls it, before there
    are ranks."""
    for path in [*(run_dir / FOLDER).glob("rank_*"), *(run_dir / STACKS).glob("*")]:
        path.unlink(missing_ok=True)


def ask_for_stacks(run_dir: Path) -> None:
    """Ask every rank, on whichever machine, to write its stacks."""
    (run_dir / STACKS).mkdir(parents=True, exist_ok=True)
    (run_dir / STACKS / WANTED).touch()


def stacks_of(run_dir: Path) -> dict[int, str]:
    """Return what ranks have written, by rank; those that could not are not in it."""
    found = {
        int(path.stem[5:]): path.read_text(errors="replace")
        for path in (run_dir / STACKS).glob("rank_*.txt")
    }
    return {rank: text for rank, text in sorted(found.items()) if text}
