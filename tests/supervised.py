"""`pipeline train` as a process of its own, and what is seen of it from outside."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from forks import CommandInFork, start_command

from pipeline.cluster.gpus import gpu_count
from pipeline.store.events import read_events

LONG = [
    "train.train_tokens=25600000",
    "checkpoint.save_every_steps=20",
    "train.validate_every_steps=100000",
]
"""A run that outlasts the test."""
END_SECONDS = 30

Job = subprocess.Popen[str] | CommandInFork
"""`pipeline train`."""


def start(
    run_file: Path,
    *overrides: str,
    prefix: Sequence[str] = (),
    program: Sequence[str] = ("-m", "pipeline"),
) -> subprocess.Popen[str]:
    command = [*prefix, sys.executable, *program, "train", str(run_file), *overrides]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def start_forked(run_file: Path, *overrides: str) -> Job:
    """Start `pipeline train` in a fork: the same command without its imports. It forks no ranks from a
    server of its own, and on GPUs it is started like any other."""
    if gpu_count():
        return start(run_file, *overrides)
    log = run_file.with_name(f"{run_file.stem}-{time.monotonic_ns()}.log")
    return start_command("train", run_file, *overrides, log=log)


def finish(process: Job, seconds: float = 1200) -> tuple[int, str]:
    output, _ = process.communicate(timeout=seconds)
    assert process.returncode is not None
    return process.returncode, output


def processes_of(run_file: Path, run: str = "run") -> list[psutil.Process]:
    """All launchers and ranks of a run, by the resolved run file on their command lines."""
    marker = str(run_file.parent / run / "config.yaml")
    return [
        p for p in psutil.process_iter(["cmdline"]) if any(marker in part for part in arguments(p))
    ]


def ranks_of(run_file: Path) -> list[psutil.Process]:
    return [p for p in processes_of(run_file) if any("local_rank" in part for part in arguments(p))]


@contextmanager
def killed_at_the_end(run_file: Path) -> Iterator[Path]:
    """Leave no process of a run behind, whatever became of the test."""
    try:
        yield run_file
    finally:
        for process in processes_of(run_file):
            process.kill()


def arguments(process: psutil.Process) -> list[str]:
    """Return a command line as `process_iter(["cmdline"])` saw it; of one that has ended,
    nothing."""
    return process.info["cmdline"] or []


def wait_for(
    condition: Callable[[], object], seconds: float, what: str, every: float = 0.2
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(every)


def steps(run_file: Path) -> int:
    path = run_file.parent / "run" / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def wait_for_steps(process: Job, run_file: Path, count: int) -> None:
    wait_for(lambda: steps(run_file) >= count or process.poll() is not None, 600, f"step {count}")
    assert process.poll() is None, process.communicate()[0]


def abandoned_memory() -> set[str]:
    """Return the names of DeepSpeed's shared memory that no living process has mapped.

    Runs of other tests may live at the same time.
    """
    names = {path.name for path in Path("/dev/shm").glob("deepspeed_*")}
    mapped: set[str] = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):  # of a process that has ended, or of somebody else
            mapped |= set(re.findall(r"/dev/shm/(deepspeed_\S+)", maps.read_text()))
    return names - mapped


def steps_seen(run_file: Path) -> list[int]:
    lines = (run_file.parent / "run" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def events(run_file: Path, kind: str) -> list[dict[str, Any]]:
    return read_events(run_file.parent / "run", kind)
