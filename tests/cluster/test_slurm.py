"""jobs/slurm/train.sbatch on a real Slurm of two nodes: the same losses as on one machine; saved
and requeued."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from one_host_slurm import job_state as state
from one_host_slurm import kill_node, one_host_slurm, start_node, wait_for
from supervised import processes_of

from pipeline.cli.verify_resume import run_difference
from pipeline.config.run_file import load
from pipeline.store.events import read_events
from pipeline.store.metrics import read_metrics

pytestmark = [pytest.mark.cluster, pytest.mark.ranks]

SBATCH = Path(__file__).parents[2] / "jobs" / "slurm" / "train.sbatch"
NODES = ["--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1", "--gpus-per-node=0"]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with one_host_slurm(tmp_path_factory.mktemp("slurm"), nodes=2) as environment:
        yield {
            **environment,
            "PIPELINE": str(Path(sys.executable).with_name("pipeline")),
            "DS_ACCELERATOR": "cpu",
        }


def submit(slurm: dict[str, str], run_file: Path, *overrides: str, minutes: int = 20) -> str:
    output = run_file.parent / "slurm-%j.out"
    command = [
        "sbatch",
        "--parsable",
        f"--output={output}",
        f"--time={minutes}",
        *NODES,
        str(SBATCH),
        str(run_file),
        *overrides,
    ]
    ended = subprocess.run(command, capture_output=True, text=True, env=slurm, cwd=run_file.parent)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_two_nodes_train_like_two_local_ranks(
    slurm: dict[str, str], make_run: Callable[..., Path]
) -> None:
    on_slurm, local = make_run("on_slurm"), make_run("local")
    job = submit(slurm, on_slurm)
    wait_for(lambda: state(slurm, job) not in ("PENDING", "RUNNING"), 600, on_slurm.parent)
    output = (on_slurm.parent / f"slurm-{job}.out").read_text()
    assert state(slurm, job) == "COMPLETED", output
    assert "starting 2 CPU ranks" in output
    subprocess.run([sys.executable, "-m", "pipeline", "train", local], check=True, timeout=180)
    ours, theirs = (read_metrics(load(path).paths.run_dir) for path in (on_slurm, local))
    assert [r["loss"] for r in ours] == [r["loss"] for r in theirs]


def starts_now(slurm: dict[str, str], job: str) -> bool:
    """Ask for the job's start again and again: Slurm sets it two minutes later when it has cleaned
    up after the requeue.

    Not at once: a node takes no job in the second in which it has killed it.
    """
    time.sleep(2)
    subprocess.run(
        ["scontrol", "update", f"JobId={job}", "StartTime=now"], capture_output=True, env=slurm
    )
    return state(slurm, job) == "RUNNING"


def test_a_job_told_to_stop_saves_and_returns_to_the_queue(
    slurm: dict[str, str], make_run: Callable[..., Path]
) -> None:
    run_file = make_run("long")
    run_dir = load(run_file).paths.run_dir
    job = submit(
        slurm, run_file, "train.train_tokens=25600000", "train.validate_every_steps=100000"
    )
    wait_for(
        lambda: (run_dir / "metrics.jsonl").exists() and len(read_metrics(run_dir)) > 3,
        600,
        run_file.parent,
    )
    subprocess.run(["scancel", "--batch", "--signal=USR1", job], check=True, env=slurm)
    wait_for(lambda: state(slurm, job) == "PENDING", 600, run_file.parent)
    saved = json.loads((run_dir / "outcome.json").read_text())
    assert saved["status"] == "interrupted"
    assert (run_dir / "checkpoints" / f"step_{saved['step']:08d}" / "manifest.json").exists()
    assert (
        f"putting job {job} back into the queue"
        in (run_file.parent / f"slurm-{job}.out").read_text()
    )
    wait_for(lambda: starts_now(slurm, job), 600, run_file.parent)
    wait_for(lambda: len(read_metrics(run_dir)) > saved["step"] + 3, 600, run_file.parent)
    subprocess.run(["scancel", job], check=True, env=slurm)
    wait_for(lambda: state(slurm, job) == "CANCELLED", 600, run_file.parent)
    steps = [record["step"] for record in read_metrics(run_dir)]
    assert steps == list(range(1, len(steps) + 1))


@pytest.mark.fault("Slurm", tried=4)
def test_time_limit_scancel_requeue_and_a_dead_node_cost_steps_and_nothing_else(
    slurm: dict[str, str], make_run: Callable[..., Path]
) -> None:
    run_file, whole = make_run("faulted"), make_run("undisturbed")
    run_dir, survived = load(run_file).paths.run_dir, 0
    settings = [
        "train.train_tokens=1024000",
        "checkpoint.save_every_steps=50",
        "train.validate_every_steps=4000",
    ]

    def steps() -> int:
        return len(read_metrics(run_dir)) if (run_dir / "metrics.jsonl").exists() else 0

    def nothing_left() -> bool:
        return not processes_of(run_file, run_dir.name)

    def trained_on(since: int) -> bool:
        return steps() > since + 60

    def started_again(job: str, at_once: bool = True) -> None:
        nonlocal survived
        saved = len(read_events(run_dir, "resume"))
        started = (
            (lambda: starts_now(slurm, job))
            if at_once
            else (lambda: state(slurm, job) == "RUNNING")
        )
        wait_for(started, 600, run_file.parent)
        wait_for(lambda: len(read_events(run_dir, "resume")) > saved, 600, run_file.parent)
        wait_for(
            lambda: trained_on(read_events(run_dir, "resume")[-1]["step"]), 600, run_file.parent
        )
        survived += 1

    job = submit(slurm, run_file, *settings, minutes=1)
    wait_for(lambda: state(slurm, job) == "PENDING" and steps() > 0, 600, run_file.parent)
    assert "train: the time limit is" in (run_file.parent / f"slurm-{job}.out").read_text()
    subprocess.run(["scontrol", "update", f"JobId={job}", "TimeLimit=20"], check=True, env=slurm)
    started_again(job)

    subprocess.run(["scancel", job], check=True, env=slurm)
    wait_for(lambda: state(slurm, job) == "CANCELLED" and nothing_left(), 60, run_file.parent)
    job = submit(slurm, run_file, *settings)
    started_again(job)

    subprocess.run(["scontrol", "requeue", job], check=True, env=slurm)
    wait_for(lambda: state(slurm, job) != "RUNNING" and nothing_left(), 60, run_file.parent)
    started_again(job)

    kill_node(slurm, 2)
    wait_for(lambda: state(slurm, job) == "PENDING", 600, run_file.parent)
    wait_for(lambda: nothing_left(), 60, run_file.parent)
    start_node(slurm, 2)
    started_again(
        job, at_once=False
    )  # Slurm 22.05 counts one node too few in a job that starts before it has cleaned up

    wait_for(lambda: state(slurm, job) not in ("PENDING", "RUNNING"), 600, run_file.parent)
    assert state(slurm, job) == "COMPLETED"
    subprocess.run(
        [sys.executable, "-m", "pipeline", "train", whole, "launch.ranks=2", *settings], check=True
    )
    assert [record["step"] for record in read_metrics(run_dir)] == list(range(1, 4001))
    assert run_difference(load(whole).paths.run_dir, run_dir).largest == 0
    print(f"faults: tried 4, survived {survived}, lost {4 - survived}")
