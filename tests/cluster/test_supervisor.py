"""`pipeline train` from the command line: signals, kills, leases, nothing left behind."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from program_here import pipeline_here
from supervised import (
    END_SECONDS,
    LONG,
    abandoned_memory,
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

from pipeline.cluster import supervisor
from pipeline.cluster.gpus import gpu_count
from pipeline.cluster.hostfile_launch import HostfileLaunch
from pipeline.cluster.launch import LaunchPlan, plan_launch
from pipeline.cluster.local_launch import LocalLaunch
from pipeline.cluster.ranks import Ranks
from pipeline.cluster.slurm_launch import tasks_per_node
from pipeline.cluster.stall import StallWatch
from pipeline.cluster.stop_request import StopRequest
from pipeline.cluster.supervisor import _wait_for_hosts, scaled_learning_rate
from pipeline.cluster.time_limit import TimeLimit
from pipeline.cluster.watch import watch_ranks
from pipeline.config.batch_division import dividing_ranks
from pipeline.config.groups import group_sizes
from pipeline.config.run_file import load
from pipeline.errors import ConfigError, Interrupted, UserError
from pipeline.store.events import read_events, write_event
from pipeline.store.layout import START_ORDER
from pipeline.training.lengthening import LENGTHENED
from pipeline.training.worker import adopt_visible_devices


@pytest.fixture
def run_file(make_run: Callable[..., Path]) -> Iterator[Path]:
    with killed_at_the_end(make_run()) as path:
        yield path


@pytest.mark.ranks
def test_a_run_survives_signals_and_kills_and_leaves_nothing_behind(run_file: Path) -> None:
    before = abandoned_memory()
    job = start(run_file, *LONG)
    wait_for_steps(job, run_file, 3)

    code, output = finish(start_forked(run_file, *LONG))
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
    wait_for(lambda: len(ranks_of(run_file)) == 2, 600, "two ranks")
    wait_for_steps(job, run_file, saved + 3)
    job.send_signal(signal.SIGKILL)
    wait_for(lambda: not processes_of(run_file), END_SECONDS, "the end of orphaned ranks")

    assert steps_seen(run_file) == list(range(1, steps(run_file) + 1))
    assert abandoned_memory() <= before


@pytest.mark.ranks
def test_a_stop_before_there_are_ranks_is_not_lost(run_file: Path) -> None:
    job = start(run_file, *LONG)
    server = "pipeline.work.warm.fork_server"
    wait_for(
        lambda: any(server in child.cmdline() for child in psutil.Process(job.pid).children()),
        600,
        "the process that forks the ranks",
        every=0.02,
    )
    job.send_signal(signal.SIGINT)
    code, output = finish(job)
    assert code == 75, output
    assert processes_of(run_file) == []
    run_dir = run_file.parent / "run"
    written = [name for name in ("outcome.json", "metrics.jsonl") if (run_dir / name).exists()]
    assert written == [], "no step was waited for"


def test_who_stops_before_the_first_step_does_not_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing could be saved; by a time limit there is time for a step and its save."""
    ended: list[bool] = []
    monkeypatch.setattr(Ranks, "_kill", lambda self: ended.append(True))
    for stops, has_stepped, is_killed in (
        (1, False, True),
        (1, True, False),
        (0, False, False),
        (2, True, True),
    ):
        launch = LaunchPlan(LocalLaunch(), [], {}, group_sizes(2), "ranks", 1)
        ranks = Ranks(launch, tmp_path, (0.0, 0.0))
        ranks._start = "a"
        ended.clear()
        ranks.pass_on(stops, has_stepped)
        ranks.pass_on(stops, has_stepped)
        assert ended == [True] * is_killed
        assert (tmp_path / START_ORDER).exists() is (stops == 1 and has_stepped)
        (tmp_path / START_ORDER).unlink(missing_ok=True)


@pytest.mark.ranks
def test_a_finished_run_is_recognised_and_can_be_lengthened(run_file: Path) -> None:
    code, output = finish(
        start_forked(run_file, "train.train_tokens=1024", "schedule.warmup_tokens=512")
    )
    assert code == 0, output
    assert "starting 2 CPU ranks" in output
    code, output = finish(
        start_forked(run_file, "train.train_tokens=1024", "schedule.warmup_tokens=512")
    )
    assert code == 0
    assert output.startswith("train: done already: step ") and output.count("\n") == 1
    code, output = finish(
        start_forked(run_file, "train.train_tokens=1024", "schedule.warmup_tokens=256")
    )
    assert code == 2
    assert "schedule.warmup_tokens: 512 -> 256; the run in" in output
    assert "set it back, or choose another paths.run_dir" in output
    code, output = finish(
        start_forked(run_file, "train.train_tokens=512", "schedule.warmup_tokens=512")
    )
    assert code == 2
    assert "train.train_tokens = 512: may only grow on resume; the run has 1024" in output
    code, output = finish(
        start_forked(run_file, "train.train_tokens=2048", "schedule.warmup_tokens=512")
    )
    assert code == 0, output
    assert steps(run_file) == 8
    (event,) = read_events(load(run_file).paths.run_dir, LENGTHENED)
    assert (event["step"], event["rate_before"]) == (4, 0)
    assert f"train: {event['message']}\n" in output
    code, output = finish(
        start_forked(
            run_file, "train.train_tokens=4096", "schedule.warmup_tokens=512", "train.resume=never"
        )
    )
    assert code == 2
    assert "train.resume = never:" in output


@pytest.mark.ranks
def test_resume_required_needs_a_checkpoint(run_file: Path) -> None:
    code, output = finish(start_forked(run_file, "train.resume=required"))
    assert code == 2
    assert "train.resume = required:" in output


@pytest.mark.ranks
def test_ranks_are_as_many_as_divide_the_batch(run_file: Path) -> None:
    config = load(run_file)  # 8 sequences in micro-batches of 2
    assert [dividing_ranks(config, available) for available in (1, 2, 3, 4, 8)] == [1, 2, 2, 4, 4]
    ramped = load(
        run_file, ["batch.ramp=[{until_tokens: 512, global_batch_tokens: 384}]"]
    )  # 12 sequences: 6 portions
    assert [dividing_ranks(ramped, available) for available in (1, 2, 3, 4, 8)] == [1, 2, 2, 2, 2]


def test_visible_devices_are_counted_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for visible, count in (("", 0), ("0", 1), ("0,3", 2), ("-1", 0), ("GPU-8f,GPU-9a", 2)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert gpu_count() == count


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("visible", "ranks", "shown"),
    [
        ("0,3", 2, None),
        ("5, 3", 1, None),
        ("GPU-8f0c,GPU-9a", 2, "GPU-8f0c,GPU-9a"),
        (" GPU-8f0c , GPU-9a", 1, "GPU-8f0c"),
        ("MIG-1a2b-3c", 1, "MIG-1a2b-3c"),
        ("MIG-GPU-1a2b/7/0,MIG-GPU-1a2b/8/0", 1, "MIG-GPU-1a2b/7/0"),
    ],
)
def test_gpus_are_taken_by_number_or_by_name(
    run_file: Path, monkeypatch: pytest.MonkeyPatch, visible: str, ranks: int, shown: str | None
) -> None:
    """The launcher takes numbers; of names it is told how many, and ranks put them in the place of
    its numbers."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.delenv("PIPELINE_VISIBLE_DEVICES", raising=False)
    launch = plan_launch(load(run_file, [f"launch.ranks={ranks}"]), run_file)
    assert launch.groups == group_sizes(ranks)
    assert launch.environment.get("PIPELINE_VISIBLE_DEVICES") == shown
    numbers = "localhost:" + ",".join(name.strip() for name in visible.split(",")[:ranks])
    assert (numbers in launch.command) is (shown is None)
    assert ("--num_gpus" in launch.command) is (shown is not None)
    monkeypatch.setenv("PIPELINE_VISIBLE_DEVICES", shown or "")
    adopt_visible_devices()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == (shown or visible)


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("visible", "ranks"), [("cuda:0", 1), ("0,GPU-8f", 1), ("MIG-1,MIG-2", 2), ("GPU-8f;rm", 1)]
)
def test_gpus_named_otherwise_are_refused(
    run_file: Path, monkeypatch: pytest.MonkeyPatch, visible: str, ranks: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(ConfigError):
        plan_launch(load(run_file, [f"launch.ranks={ranks}"]), run_file)


def test_tasks_of_a_slurm_node(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_NTASKS_PER_NODE", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    assert tasks_per_node(2) == 1
    monkeypatch.setenv("SLURM_NTASKS", "8")
    assert (tasks_per_node(1), tasks_per_node(2)) == (8, 4)
    with pytest.raises(ConfigError, match="8 tasks on 3 nodes: request equally many on each"):
        tasks_per_node(3)
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "3(x2)")
    assert tasks_per_node(2) == 3


@pytest.mark.ranks
def test_what_ranks_say_as_they_end_is_shown(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load(run_file)

    class Ending:
        def has_ended(self) -> bool:
            write_event(config.paths.run_dir, "save failed", message="the disk is full")
            return True

        def pass_on(self, stops: int, has_stepped: bool) -> None: ...

        def refuse_if_taken_over(self) -> None: ...

    watch, limit = StallWatch(config.paths.run_dir, 2, config.guard), TimeLimit(config, time.time())
    assert watch_ranks(config, Ending(), watch, limit, StopRequest()) is None
    assert "train: the disk is full\n" in "".join(capsys.readouterr())


@pytest.mark.ranks
def test_hosts_that_do_not_answer_are_named_at_once_or_waited_for(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch, limit, stop = (
        LaunchPlan(HostfileLaunch(), [], {}, group_sizes(2), "ranks", 1, ("a", "b")),
        TimeLimit(load(run_file), time.time()),
        StopRequest(),
    )
    answers = iter(["no answer by ssh from b", None, *["no answer by ssh from b"] * 2])
    monkeypatch.setattr(HostfileLaunch, "hosts_out_of_reach", lambda *_: next(answers))
    monkeypatch.setattr(supervisor, "ASK_AGAIN_SECONDS", 0.0)
    _wait_for_hosts(launch, limit, stop, 60.0)
    with pytest.raises(
        UserError, match="from b\nRepair this, or remove the host from the hostfile"
    ):
        _wait_for_hosts(launch, limit, stop, -1.0)
    stop.count = 1
    with pytest.raises(
        Interrupted, match="stopped while waiting for hosts: no answer by ssh from b"
    ):
        _wait_for_hosts(launch, limit, stop, 60.0)


@pytest.mark.ranks
def test_slurm_needs_an_allocation_and_no_step(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(run_file, ["launch.kind=slurm"])
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(
        ConfigError, match=r"this process is in no Slurm job .* submit jobs/slurm/train\.sbatch"
    ):
        plan_launch(config, run_file)
    for name, value in (
        ("SLURM_JOB_ID", "1"),
        ("SLURM_STEP_ID", "0"),
        ("SLURM_PROCID", "1"),
        ("SLURM_NTASKS", "2"),
    ):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="from the batch script, not inside srun"):
        plan_launch(config, run_file)


@pytest.mark.ranks
@pytest.mark.parametrize("command", ["train", "run", "evaluate --watch"])
def test_no_task_of_an_srun_step_does_the_whole(
    run_file: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    step = {
        "SLURM_JOB_ID": "1",
        "SLURM_STEP_ID": "0",
        "SLURM_PROCID": "1",
        "SLURM_STEP_NUM_TASKS": "2",
    }
    for name, value in step.items():
        monkeypatch.setenv(name, value)
    ended = pipeline_here(*command.split(), run_file)
    assert ended.returncode == 2
    assert f"each would do the whole of `pipeline {command}`" in ended.stderr
    assert (
        "Only prepare, annotate, select, tokenize, pack and evaluate share the tasks of a step"
        in ended.stderr
    )


@pytest.mark.ranks
def test_a_scaled_learning_rate_is_told(run_file: Path) -> None:
    assert scaled_learning_rate(load(run_file)) is None
    batch = [
        "batch.global_batch_tokens=2097152",
        "train.train_tokens=2097152",
        "optimizer.peak_learning_rate=6e-4",
    ]
    linear, root = (
        f"optimizer.learning_rate_scaling={{rule: {rule}, reference_batch_tokens: 524288}}"
        for rule in ("linear", "square-root")
    )
    assert scaled_learning_rate(load(run_file, [*batch, linear])) == (
        "learning rate 0.0006 x 4 (linear, batch 2,097,152 of reference 524,288 tokens) = 0.0024"
    )
    assert scaled_learning_rate(load(run_file, [*batch, root])) == (
        "learning rate 0.0006 x 2 (square-root, batch 2,097,152 of reference 524,288 tokens) = "
        "0.0012"
    )
