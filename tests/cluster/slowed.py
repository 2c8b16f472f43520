"""A node made slow: the process that measures on it is stopped for most of the time."""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import psutil

PERIOD_SECONDS = 0.05


@contextmanager
def slowed(roots: Sequence[int], program: str, share: float) -> Iterator[None]:
    """Let processes below some process ids run for a share of the time, those with `program` on
    their command line."""
    ended = threading.Event()

    def stop_and_go() -> None:
        while not ended.is_set():
            found = [p for root in roots for p in _below(root) if program in _command(p)]
            _send(found, signal.SIGSTOP)
            time.sleep(PERIOD_SECONDS * (1 - share))
            _send(found, signal.SIGCONT)
            time.sleep(PERIOD_SECONDS * share)

    thread = threading.Thread(target=stop_and_go)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _below(root: int) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return psutil.Process(root).children(recursive=True)
    return []


def _command(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def _send(processes: Sequence[psutil.Process], number: int) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)
