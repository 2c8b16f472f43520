"""`pipeline train` on CPUs forks its ranks from a server of its own; where it cannot, DeepSpeed's
launcher starts them."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from supervised import (
    LONG,
    events,
    finish,
    killed_at_the_end,
    processes_of,
    ranks_of,
    start,
    steps,
    steps_seen,
    wait_for_steps,
)

from pipeline.cluster.warm.forkable_ranks import LAUNCHER_VARIABLE, ForkableRanks, can_fork
from pipeline.config.run_file import load
from pipeline.errors import ConfigError
from pipeline.store.rank_environment import THREADS_VARIABLE
from pipeline.work.warm import warm_python

SERVER = "pipeline.work.warm.fork_server"
SHORT = ["train.train_tokens=2560", "schedule.warmup_tokens=512"]
"""10 steps."""
THREAD_OF_A_LIBRARY = f"""\
import sys, threading, time
if "{SERVER}" in sys.orig_argv:
    threading.Thread(target=time.sleep, args=[600], daemon=True).start()
"""
"""As `sitecustomize.py`: the process that forks the ranks gets a second thread."""


@pytest.fixture
def tiny_run(make_run: Callable[..., Path]) -> Iterator[Path]:
    with killed_at_the_end(make_run()) as path:
        yield path


def server_of(pid: int) -> psutil.Process:
    (server,) = [p for p in psutil.Process(pid).children() if SERVER in p.cmdline()]
    return server


@pytest.mark.ranks
@pytest.mark.fault("kill or stop of processes", tried=1)
def test_a_killed_server_is_started_again(tiny_run: Path) -> None:
    job = start(tiny_run, *LONG)
    wait_for_steps(job, tiny_run, 22)
    server = server_of(job.pid)
    ranks = ranks_of(tiny_run)
    assert {rank.parent().ppid() for rank in ranks} == {server.pid}

    # What is told to stop with all processes of a service leaves the save to the ranks.
    (launcher,) = server.children()
    for process in (server, launcher):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
            process.send_signal(number)
    wait_for_steps(job, tiny_run, steps(tiny_run) + 3)
    assert events(tiny_run, "restart") == []

    server.kill()
    psutil.wait_procs(ranks, timeout=10)
    assert not any(rank.is_running() for rank in ranks)
    wait_for_steps(job, tiny_run, steps(tiny_run) + 3)
    assert server_of(job.pid).pid != server.pid
    (restart,) = events(tiny_run, "restart")
    assert restart["reason"].startswith("a rank ended without a result")

    job.send_signal(signal.SIGINT)
    code, output = finish(job)
    assert code == 75
    assert "train: the process that forks the ranks has ended; starting it again" in output
    assert steps_seen(tiny_run) == list(range(1, steps(tiny_run) + 1))
    assert processes_of(tiny_run) == []
    # Imports belong to the start-up, in which the launch is recorded at their end.
    first, second = events(tiny_run, "launch")
    step = events(tiny_run, "first step")[0]
    assert first["unix_time"] - first["launcher_began"] > 0.5
    assert second["launcher_began"] > step["unix_time"]
    assert step["phases"]["launcher"] > step["phases"]["plan"]
    assert step["cpu_phases"].keys() == step["phases"].keys() - {"before_train", "plan", "launcher"}
    assert 0 < sum(step["cpu_phases"].values()) < step["phases"]["launcher"]


@pytest.mark.ranks
def test_where_the_server_cannot_fork_deepspeeds_launcher_starts_the_ranks(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tiny_run.parent / "sitecustomize.py").write_text(THREAD_OF_A_LIBRARY)
    path = os.pathsep.join([str(tiny_run.parent), *filter(None, sys.path)])
    monkeypatch.setenv("PYTHONPATH", path)
    code, output = finish(start(tiny_run, *SHORT, "launch.ranks=1"))
    assert code == 0, output
    assert "warning: train: ranks cannot be forked, so that each imports for itself" in output
    assert "2 threads run after the imports of" in output
    assert steps(tiny_run) == 10
    launcher_log = tiny_run.parent / "run" / "logs" / "launcher.log"
    assert "deepspeed" in launcher_log.read_text()


def test_which_ranks_are_forked(run_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv(LAUNCHER_VARIABLE, raising=False)
    monkeypatch.setenv(THREADS_VARIABLE, "2")
    config = load(run_file)
    assert can_fork(config)
    hosts = run_file.with_name("hosts")
    hosts.write_text("here slots=2\n")
    assert not can_fork(load(run_file, ["launch.kind=hostfile", f"launch.hostfile={hosts}"]))
    for name, value in (
        ("CUDA_VISIBLE_DEVICES", "0"),
        (THREADS_VARIABLE, "2,1"),
        (THREADS_VARIABLE, "0"),
        (LAUNCHER_VARIABLE, "deepspeed"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert not can_fork(config)
    assert can_fork(config)


def test_an_unknown_launcher_is_refused(run_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LAUNCHER_VARIABLE, "mpirun")
    with pytest.raises(
        ConfigError, match="PIPELINE_LAUNCHER = mpirun: must be deepspeed, or not be set"
    ):
        ForkableRanks(load(run_file))


@pytest.mark.ranks
def test_a_request_to_stop_does_not_wait_for_imports(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv(LAUNCHER_VARIABLE, raising=False)
    asked: list[bool] = []
    # Other tests of this process may have a server of theirs.
    others = psutil.Process().children()
    with ForkableRanks(load(run_file)) as forkable:
        forkable.prepare(lambda: bool(asked.append(True) or True))
        assert asked == [True]
        assert warm_python.parent() is None
        started = [p for p in psutil.Process().children() if p not in others]
        (server,) = [p for p in started if SERVER in p.cmdline()]
    assert not server.is_running()
