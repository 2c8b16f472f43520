"""Ranks that die or hang are started again by the supervisor, and the run is the one that was never
disturbed."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from supervised import (
    arguments,
    events,
    finish,
    killed_at_the_end,
    processes_of,
    ranks_of,
    start,
    start_forked,
    steps,
    steps_seen,
    wait_for,
    wait_for_steps,
)

from pipeline.cluster.warm.forkable_ranks import DEEPSPEED, LAUNCHER_VARIABLE
from pipeline.cluster.warm.forked_launch import LAUNCHER
from pipeline.store.metrics import read_metrics

pytestmark = pytest.mark.ranks

MakeRun = Callable[..., Path]
STEPS = 240
"""As many as outlast three faults."""
SETTINGS = [
    f"train.train_tokens={STEPS * 256}",
    "batch.micro_batch_sequences=4",
    "checkpoint.save_every_steps=10",
    "train.validate_every_steps=1000",
]


@pytest.fixture
def run_file(make_run: MakeRun) -> Iterator[Path]:
    with killed_at_the_end(make_run()) as path:
        yield path


def losses(run_file: Path) -> list[float]:
    return [record["loss"] for record in read_metrics(run_file.parent / "run")]


def launchers_of(run_file: Path) -> list[psutil.Process]:
    return [p for p in processes_of(run_file) if LAUNCHER in arguments(p)]


@pytest.mark.fault("kill or stop of processes", tried=3)
def test_a_killed_rank_a_killed_launcher_and_a_hung_rank_cost_steps_and_nothing_else(
    run_file: Path, make_run: MakeRun
) -> None:
    job = start(run_file, *SETTINGS, "guard.stall_seconds=8", "train.resume=never")

    def strike(victim: Callable[[], psutil.Process], number: signal.Signals) -> None:
        restarts, starts = len(events(run_file, "restart")), len(events(run_file, "first step"))
        wait_for(lambda: len(ranks_of(run_file)) == 2, 600, "two ranks")
        victim().send_signal(number)
        wait_for(
            lambda: len(events(run_file, "restart")) > restarts or job.poll() is not None,
            600,
            "a restart",
        )
        wait_for(
            lambda: len(events(run_file, "first step")) > starts or job.poll() is not None,
            600,
            "a first step",
        )

    wait_for_steps(job, run_file, 12)
    strike(lambda: ranks_of(run_file)[1], signal.SIGKILL)
    strike(lambda: launchers_of(run_file)[0], signal.SIGKILL)
    strike(lambda: ranks_of(run_file)[0], signal.SIGSTOP)
    code, output = finish(job)
    assert code == 0, output
    assert len(events(run_file, "restart")) >= 3
    stall = next(event for event in events(run_file, "stall") if event["without"])
    assert "no rank has made progress for" in stall["reason"]
    assert len(stall["without"]) == 1
    (silent,) = stall["without"]
    told = run_file.parent / "run" / "logs" / stall["stacks"] / f"rank_{1 - silent:05d}.txt"
    assert "training/loop.py" in told.read_text()
    assert steps_seen(run_file) == list(range(1, STEPS + 1))
    assert processes_of(run_file) == []
    whole = make_run(name="whole")
    code, output = finish(start_forked(whole, *SETTINGS))
    assert code == 0, output
    assert losses(run_file) == [record["loss"] for record in read_metrics(whole.parent / "whole")]


def test_a_run_that_dies_at_once_again_and_again_is_given_up(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at every start, before any checkpoint; with DeepSpeed's launcher."""
    monkeypatch.setenv(LAUNCHER_VARIABLE, DEEPSPEED)
    job = start(run_file, *SETTINGS, "guard.max_restarts=1", "launch.ranks=1")
    seen: set[int] = set()

    def kill_new() -> bool:
        for process in ranks_of(run_file):
            if process.pid not in seen and steps(run_file) >= 0:
                seen.add(process.pid)
                try:
                    process.send_signal(signal.SIGKILL)
                except psutil.Error:
                    continue
        return job.poll() is not None

    wait_for(kill_new, 1200, "the end")
    code, output = finish(job)
    assert code == 1, output
    assert "started again 1 times without a new checkpoint (guard.max_restarts)" in output
    assert "run the same command again to resume from the newest checkpoint" in output
    assert processes_of(run_file) == []
