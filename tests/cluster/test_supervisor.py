"""`pipeline train` from the command line with the real deepspeed launcher: signals, kills, leases, nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.cluster.launch import dividing_ranks, gpu_count, plan_launch
from pipeline.cluster.supervisor import scaled_learning_rate
from pipeline.errors import ConfigError, UserError
from pipeline.run_file import load

LONG = ["train.train_tokens=25600000", "checkpoint.save_every_steps=20", "train.validate_every_steps=100000"]
"""A run that outlasts the test."""
END_SECONDS = 30


def start(run_file: Path, *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipeline", "train", str(run_file), *overrides]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def processes_of(run_file: Path) -> list[psutil.Process]:
    """All launchers and ranks of a run, by the resolved run file on their command lines."""
    marker, found = str(run_file.parent / "run" / "config.yaml"), []
    for process in psutil.process_iter():
        try:
            if any(marker in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def ranks_of(run_file: Path) -> list[psutil.Process]:
    return [p for p in processes_of(run_file) if any("local_rank" in part for part in p.cmdline())]


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.2)


def steps(run_file: Path) -> int:
    path = run_file.parent / "run" / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def wait_for_steps(process: subprocess.Popen[str], run_file: Path, count: int) -> None:
    wait_for(lambda: steps(run_file) >= count or process.poll() is not None, 120, f"step {count}")
    assert process.poll() is None, process.communicate()[0]


def shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("deepspeed_*")}


@pytest.fixture
def run_file(make_run: Callable[..., Path]) -> Iterator[Path]:
    path = make_run()
    yield path
    for process in processes_of(path):
        process.kill()


def test_a_run_survives_signals_and_kills_and_leaves_nothing_behind(run_file: Path) -> None:
    before = shared_memory()
    job = start(run_file, *LONG)
    wait_for_steps(job, run_file, 3)

    code, output = finish(start(run_file, *LONG))
    assert code == 2
    assert f"process {job.pid} on {os.uname().nodename}" in output
    assert "is in use by `pipeline train`" in output

    job.send_signal(signal.SIGTERM)
    code, output = finish(job)
    assert code == 75, output
    saved = json.loads((run_file.parent / "run" / "outcome.json").read_text())["step"]
    assert f"stopped: saved at step {saved} of 100000" in output
    assert saved == steps(run_file)
    assert processes_of(run_file) == []

    job = start(run_file, *LONG)
    wait_for_steps(job, run_file, saved + 3)
    ranks_of(run_file)[1].send_signal(signal.SIGKILL)
    code, output = finish(job)
    assert code == 1, output
    assert "Run the same command again to go on from the newest checkpoint" in output
    assert "Traceback" not in output.split("The end of")[0]
    assert processes_of(run_file) == []

    job = start(run_file, *LONG)
    wait_for(lambda: len(ranks_of(run_file)) == 2, 60, "two ranks")
    wait_for_steps(job, run_file, saved + 3)
    job.send_signal(signal.SIGKILL)
    wait_for(lambda: not processes_of(run_file), END_SECONDS, "the end of orphaned ranks")

    steps_seen = [
        json.loads(line)["step"] for line in (run_file.parent / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert steps_seen == list(range(1, len(steps_seen) + 1))
    assert shared_memory() == before


def test_a_stop_before_there_are_ranks_is_not_lost(run_file: Path) -> None:
    job = start(run_file, *LONG)
    wait_for(lambda: processes_of(run_file), 30, "the launcher")
    job.send_signal(signal.SIGINT)
    code, output = finish(job)
    assert code == 75, output
    assert processes_of(run_file) == []


def test_a_finished_run_is_recognised_and_can_be_lengthened(run_file: Path) -> None:
    code, output = finish(start(run_file, "train.train_tokens=1024", "schedule.warmup_tokens=512"))
    assert code == 0, output
    assert "starting 2 CPU ranks" in output
    code, output = finish(start(run_file, "train.train_tokens=1024", "schedule.warmup_tokens=512"))
    assert (code, output) == (0, "train: done already\n")
    code, output = finish(start(run_file, "train.train_tokens=1024", "schedule.warmup_tokens=256"))
    assert code == 2
    assert "schedule.warmup_tokens: 512 -> 256; the run in" in output
    assert "set it back, or choose another paths.run_dir" in output
    code, output = finish(start(run_file, "train.train_tokens=512", "schedule.warmup_tokens=512"))
    assert code == 2
    assert "train.train_tokens = 512: may only grow on resume; the run has 1024" in output
    code, output = finish(start(run_file, "train.train_tokens=2048", "schedule.warmup_tokens=512"))
    assert code == 0, output
    assert steps(run_file) == 8
    code, output = finish(
        start(run_file, "train.train_tokens=4096", "schedule.warmup_tokens=512", "train.resume=never")
    )
    assert code == 2
    assert "train.resume = never:" in output


def test_resume_required_needs_a_checkpoint(run_file: Path) -> None:
    code, output = finish(start(run_file, "train.resume=required"))
    assert code == 2
    assert "train.resume = required:" in output


def test_ranks_are_as_many_as_divide_the_batch(run_file: Path) -> None:
    config = load(run_file)  # 8 sequences in micro-batches of 2
    assert [dividing_ranks(config, available) for available in (1, 2, 3, 4, 8)] == [1, 2, 2, 4, 4]
    ramped = load(run_file, ["batch.ramp=[{until_tokens: 512, global_batch_tokens: 384}]"])  # 12 sequences: 6 portions
    assert [dividing_ranks(ramped, available) for available in (1, 2, 3, 4, 8)] == [1, 2, 2, 2, 2]


def test_visible_devices_are_counted_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for visible, count in (("", 0), ("0", 1), ("0,3", 2), ("-1", 0), ("GPU-8f,GPU-9a", 2)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert gpu_count() == count


def test_slurm_needs_an_allocation_and_no_step(run_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(run_file, ["launch.kind=slurm"])
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(ConfigError, match=r"there is no allocation .* use jobs/slurm/train\.sbatch"):
        plan_launch(config, run_file)
    for name, value in (("SLURM_JOB_ID", "1"), ("SLURM_STEP_ID", "0"), ("SLURM_PROCID", "1"), ("SLURM_NTASKS", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="from the batch script, not inside srun"):
        plan_launch(config, run_file)


@pytest.mark.parametrize("command", ["train", "run"])
def test_no_task_of_an_srun_step_does_the_whole(run_file: Path, command: str) -> None:
    step = {"SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", command, str(run_file)],
        capture_output=True,
        text=True,
        env={**os.environ, **step},
    )
    assert ended.returncode == 2
    assert f"each would do the whole of `pipeline {command}`" in ended.stderr
    assert "Only prepare and tokenize share the tasks of a step" in ended.stderr


def test_a_scaled_learning_rate_is_told(run_file: Path) -> None:
    assert scaled_learning_rate(load(run_file)) is None
    batch = ["batch.global_batch_tokens=2097152", "train.train_tokens=2097152", "optimizer.peak_learning_rate=6e-4"]
    linear, root = (
        f"optimizer.learning_rate_scaling={{rule: {rule}, reference_batch_tokens: 524288}}"
        for rule in ("linear", "square-root")
    )
    assert scaled_learning_rate(load(run_file, [*batch, linear])) == (
        "learning rate 0.0006 x 4 (linear, batch 2,097,152 of reference 524,288 tokens) = 0.0024"
    )
    assert scaled_learning_rate(load(run_file, [*batch, root])) == (
        "learning rate 0.0006 x 2 (square-root, batch 2,097,152 of reference 524,288 tokens) = 0.0012"
    )
