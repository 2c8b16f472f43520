"""Kills of the stage at chosen steps, and the bytes that it leaves."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path


def contents(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.parent.name != ".tasks" and p.name != "manifest.json"
    }


def in_forking_process(work: Callable[[Path], None], run_file: Path) -> None:
    """Do work that forks in a process of its own, which runs no other Python thread."""
    forking = multiprocessing.get_context("spawn").Process(
        target=work, args=(run_file,), daemon=True
    )
    forking.start()
    forking.join(600)
    assert forking.exitcode == 0


def survives(work: Callable[[], object], steps: int) -> bool:
    """Do `work` in a child that is killed after `steps` file-system steps below `data`; return
    whether it ended."""
    child = os.fork()
    if child == 0:
        left = steps

        def step(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in ("open", "os.rename", "os.remove") and "/data/" in str(arguments[0]):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(step)
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL)
    return status == 0
