"""Commands in forks of a warm process; `pipeline train` against one with DeepSpeed's launcher."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers import digests
from supervised import (
    END_SECONDS,
    LONG,
    events,
    finish,
    killed_at_the_end,
    processes_of,
    ranks_of,
    start,
    steps,
    steps_seen,
    wait_for,
)
from training_data import write_run

from pipeline.cluster.gpus import gpu_count
from pipeline.cluster.launch import WORKER, launch_kind
from pipeline.cluster.local_launch import LocalLaunch
from pipeline.cluster.warm.forkable_ranks import DEEPSPEED, LAUNCHER_VARIABLE
from pipeline.cluster.warm.forked_launch import ForkedLaunch
from pipeline.cluster.warm.warm_process import ForkedCommand, WarmProcess
from pipeline.config.run_file import load
from pipeline.errors import ConfigError, Interrupted
from pipeline.store.heartbeat import DUMP_SIGNAL, read_stacks
from pipeline.work.warm import warm_python

SHORT = ["train.train_tokens=2560", "schedule.warmup_tokens=512"]
"""10 steps."""
MEASURED = {
    "step_seconds",
    "data_wait_seconds",
    "validation_seconds",
    "tokens_per_second",
    "tflops",
    "unix_time",
    "peak_memory_bytes",
}
"""What of a step differs between any two runs."""
HOLD = """\
import sys
from pathlib import Path
from pipeline.cluster.warm.warm_process import WarmProcess
log = Path(sys.argv[1]).with_suffix(".log")
with WarmProcess() as warm:
    training = warm.start_command(["train", *sys.argv[1:]], log=log, threads=1)
    print(warm.pid, training.program.pid, flush=True)
    try:
        training.wait()
    finally:
        training.request_stop()
        print(training.wait())
"""


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmProcess]:
    with WarmProcess() as warm:
        yield warm


def train(warm: WarmProcess, run_file: Path, *overrides: str, threads: int = 1) -> ForkedCommand:
    log = run_file.with_suffix(".log")
    return warm.start_command(["train", str(run_file), *overrides], log=log, threads=threads)


def output_of(training: ForkedCommand) -> str:
    return training.log.read_text()


def losses(run_file: Path) -> list[dict[str, Any]]:
    """Return the steps of a run without their times."""
    lines = (run_file.parent / run_file.stem / "metrics.jsonl").read_text().splitlines()
    return [
        {key: value for key, value in json.loads(line).items() if key not in MEASURED}
        for line in lines
    ]


@pytest.mark.ranks
def test_forked_trainings_equal_those_of_deepspeeds_launcher_bit_for_bit(
    warm: WarmProcess, tokenized: Path, tmp_path: Path
) -> None:
    """Two at once, on one rank with two threads and on two ranks with one each."""
    forked: dict[int, ForkedCommand] = {}
    for ranks, threads in ((1, 2), (2, 1)):
        run_file = write_run(tokenized, tmp_path / "forked", f"ranks{ranks}")
        forked[ranks] = train(warm, run_file, *SHORT, f"launch.ranks={ranks}", threads=threads)
    for training in forked.values():
        assert training.wait() == 0, output_of(training)

    for ranks, threads in ((1, 2), (2, 1)):
        run_file = write_run(tokenized, tmp_path / "plain", f"ranks{ranks}")
        plain = subprocess.run(
            [sys.executable, "-m", "pipeline", "train", run_file, *SHORT, f"launch.ranks={ranks}"],
            env={**os.environ, LAUNCHER_VARIABLE: DEEPSPEED, "OMP_NUM_THREADS": str(threads)},
            check=False,
        )
        assert plain.returncode == 0
        fork_file = tmp_path / "forked" / run_file.name
        assert len(losses(run_file)) == 10
        assert losses(fork_file) == losses(run_file)
        saved = digests(run_file.with_suffix("") / "checkpoints")
        assert any("optim" in name for name in saved)
        assert digests(fork_file.with_suffix("") / "checkpoints") == saved

    # Another command, on the runs that DeepSpeed's launcher has made.
    log = tmp_path / "export.log"
    export = ["export", str(run_file), *SHORT, "launch.ranks=2"]
    assert warm.start_command(export, log=log, threads=1).wait() == 0
    assert "export: done in" in log.read_text()


@pytest.fixture
def tiny_run(tokenized: Path, tmp_path: Path) -> Iterator[Path]:
    with killed_at_the_end(write_run(tokenized, tmp_path)) as path:
        yield path


def wait_for_step(training: ForkedCommand, run_file: Path, count: int) -> None:
    wait_for(lambda: steps(run_file) >= count or training.poll() is not None, 60, f"step {count}")
    assert training.poll() is None, output_of(training)


def has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.ranks
def test_a_forked_training_survives_kills_and_saves_when_asked(
    warm: WarmProcess, tiny_run: Path
) -> None:
    # A killed rank: the launcher ends the other, and both are forked again.
    training = train(warm, tiny_run, *LONG)
    wait_for_step(training, tiny_run, 22)
    ranks = ranks_of(tiny_run)
    assert len(ranks) == 2
    assert all(WORKER in rank.cmdline() and "-m" in rank.cmdline() for rank in ranks)
    ranks[0].send_signal(DUMP_SIGNAL)
    wait_for(lambda: read_stacks(tiny_run.parent / "run"), 10, "the stacks of rank 0")
    assert "run_training_loop" in read_stacks(tiny_run.parent / "run")[0]
    ranks[1].kill()
    wait_for(lambda: events(tiny_run, "restart"), 30, "a restart")
    (restart,) = events(tiny_run, "restart")
    assert restart["reason"] == "a rank ended without a result (launcher's exit code 247)"
    assert all(has_ended(rank) for rank in ranks)
    before = tiny_run.parent / "run" / "logs" / "launcher.previous"
    wait_for(before.exists, 30, "the next start")
    launcher_log = before.read_text()
    assert f"rank 1 (process {ranks[1].pid}) ended with exit code -9: ending the others" in (
        launcher_log
    )
    count = steps(tiny_run)
    wait_for_step(training, tiny_run, count + 3)

    # A killed supervisor: its ranks end by themselves, and the next one ends those that cannot.
    stopped = ranks_of(tiny_run)[0]
    stopped.send_signal(signal.SIGSTOP)
    os.kill(training.program.pid, signal.SIGKILL)
    assert training.wait() == -signal.SIGKILL
    training = train(warm, tiny_run, *LONG)
    wait_for(lambda: has_ended(stopped), 30, "the end of a stopped rank")
    count = steps(tiny_run)
    wait_for_step(training, tiny_run, count + 3)

    # A request to stop: the ranks save, and nothing is left.
    training.request_stop()
    assert training.wait() == Interrupted.exit_code
    saved = json.loads((tiny_run.parent / "run" / "outcome.json").read_text())["step"]
    assert f"stopped: saved at step {saved} of 100000" in output_of(training)
    assert steps_seen(tiny_run) == list(range(1, saved + 1))
    assert processes_of(tiny_run) == []


@pytest.mark.ranks
def test_mistakes_are_refused_as_by_pipeline_train(warm: WarmProcess, tiny_run: Path) -> None:
    training = train(warm, tiny_run, "train.train_tokens=-1", "launch.ranks=0")
    code, output = finish(start(tiny_run, "train.train_tokens=-1", "launch.ranks=0"))
    assert training.wait() == code == 2
    assert output_of(training) == output
    assert "3 problems in" in output and "Traceback" not in output

    # What a check finds that needs transformers, in a fork of its own.
    training.log.unlink()
    training = train(warm, tiny_run, "model.config.num_attention_heads=5")
    assert training.wait() == 2
    assert "num_attention_heads" in output_of(training)
    assert "Traceback" not in output_of(training)


@pytest.mark.ranks
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_holder_that_ends_leaves_no_process(tiny_run: Path, number: int) -> None:
    """After Ctrl-C its runs save first."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tiny_run), *LONG], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    numbers = map(int, holder.stdout.readline().split())
    ours = [psutil.Process(pid) for pid in numbers]
    wait_for(lambda: steps(tiny_run) >= 3, 60, "step 3")
    # Before the supervisor has seen a step, Ctrl-C ends the ranks without a save.
    log = tiny_run.with_suffix(".log")
    wait_for(lambda: "train: first step" in log.read_text(), 60, "the supervisor's look at a step")
    holder.send_signal(number)
    text = holder.stdout.read()
    holder.stdout.close()
    holder.wait()
    wait_for(lambda: not processes_of(tiny_run), END_SECONDS, "the end of the ranks")
    wait_for(lambda: all(map(has_ended, ours)), END_SECONDS, "the end of the forks")
    outcome = tiny_run.parent / "run" / "outcome.json"
    if number == signal.SIGINT:
        assert text == "75\n"
        assert json.loads(outcome.read_text())["step"] == steps(tiny_run)
    else:
        assert not outcome.exists()


def test_on_a_machine_with_gpus_a_warm_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert gpu_count() == 2
    with pytest.raises(
        ConfigError, match=r"2 GPUs, and a process that uses one cannot be forked: start the run"
    ):
        WarmProcess()


def test_only_in_a_fork_the_kind_local_forks(run_file: Path) -> None:
    config = load(run_file)
    assert type(launch_kind(config)) is LocalLaunch
    with socket.socket() as connection:
        warm_python.set_parent(warm_python.WarmPython(connection))
        try:
            kind = launch_kind(config)
            plan = kind.plan(load(run_file, ["launch.ranks=2"]), run_file, 20_001)
        finally:
            warm_python.set_parent(None)
    assert type(kind) is ForkedLaunch
    assert plan.command == [
        "pipeline.cluster.warm.rank_forks",
        "2",
        "20001",
        "pipeline.training.worker",
        str(run_file),
    ]
    assert kind.is_launcher([sys.executable, "-m", *plan.command])
    assert not kind.is_launcher([sys.executable, "-m", *plan.command[3:]])
