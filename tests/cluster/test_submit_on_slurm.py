"""`pipeline submit` and `status` on a real Slurm: a chain of three jobs, one of them requeued at its
time limit, jobs that are refused or end badly."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from one_host_slurm import job_state, one_host_slurm, wait_for
from training_data import RUN_FILE, TEMPLATES

from pipeline.config.run_file import load
from pipeline.store.events import read_events
from pipeline.store.jobs.submitted_jobs import SubmittedJob, submitted_jobs

pytestmark = [pytest.mark.cluster, pytest.mark.ranks]

SITE = """\
description: two nodes of this machine
hardware: two-cores.yaml
gpu_nodes: {partition: main, gpus: 0, cores: 4, longest_time: "00:20:00"}
cpu_nodes: {partition: main, cores: 3, longest_time: "00:20:00"}
nodes_have_network: false
environment: {DS_ACCELERATOR: cpu, OMP_NUM_THREADS: 1}
"""
HARDWARE = """\
description: one rank a node
device_names: []
peak_bf16_tflops: 0.1
peak_fp16_tflops: null
peak_fp32_tflops: 0.1
memory_gib: 4
devices_per_node: 1
link_gb_per_second: 10
network_gb_per_second: 1
host_memory_gib: 8
cores_per_node: 4
assumed_mfu: 0.4
"""
LONG = ["train.train_tokens=512000", "train.validate_every_steps=1000"]
"""2,000 steps: more than a job of one minute makes before it has to save."""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with one_host_slurm(tmp_path_factory.mktemp("slurm"), nodes=2) as environment:
        yield environment


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    for source in ("prose", "sums"):
        rows = [
            {"text": f"{source} {i} and {i} make {2 * i}, " * 6, "meta": {}} for i in range(120)
        ]
        (tmp_path / f"{source}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "site.yaml").write_text(SITE)
    (tmp_path / "two-cores.yaml").write_text(HARDWARE)
    path = tmp_path / "run.yaml"
    text = RUN_FILE.replace("TEMPLATES", str(TEMPLATES))
    path.write_text(text.replace("vocab_size: 300", "vocab_size: 270"))
    return path


def pipeline(
    slurm: dict[str, str], command: str, run_file: Path, *arguments: str, code: int = 0
) -> str:
    """Run a command and return what it printed, after a check of its exit code."""
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", command, run_file, *arguments],
        capture_output=True,
        text=True,
        env=slurm,
        cwd=run_file.parent,
        timeout=180,
    )
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def submit(slurm: dict[str, str], run_file: Path, *arguments: str, code: int = 0) -> str:
    return pipeline(slurm, "submit", run_file, "--site", "site.yaml", *arguments, code=code)


def job_row(shown: str, job: SubmittedJob) -> str:
    """Return the words of a job's row in what `status` prints, with single blanks."""
    rows = [re.sub(" +", " ", line).strip() for line in shown.splitlines()]
    (row,) = (row for row in rows if row.startswith(f"{job['name']} {job['id']} "))
    return row


def completes(slurm: dict[str, str], job: SubmittedJob, seconds: float, run_dir: Path) -> None:
    """Wait until a job is done; fail at once with what it printed where it ends in another way."""
    output = run_dir / "jobs" / f"{job['name']}-{job['id']}.out"

    def is_done() -> bool:
        state = job_state(slurm, job["id"])
        assert state in ("PENDING", "RUNNING", "COMPLETING", "COMPLETED"), output.read_text()
        return state == "COMPLETED"

    wait_for(is_done, seconds, output)


def starts_now(slurm: dict[str, str], job: str) -> bool:
    """Ask for a requeued job's start: Slurm sets it two minutes later."""
    time.sleep(2)
    command = ["scontrol", "update", f"JobId={job}", "StartTime=now", "TimeLimit=20"]
    subprocess.run(command, capture_output=True, env=slurm)
    return job_state(slurm, job) == "RUNNING"


def test_data_training_and_evaluation_follow_each_other(
    slurm: dict[str, str], run_file: Path
) -> None:
    settings = [*LONG, "evaluation.limit=20", "evaluation.tasks=[arithmetic]"]
    shown = submit(slurm, run_file, *settings, "--nodes", "2", "--time", "1", "--yes")
    run_dir = load(run_file).paths.run_dir
    data, train, evaluate = submitted_jobs(run_dir)
    assert [job["name"] for job in (data, train, evaluate)] == ["data", "train", "evaluate"]
    assert [data["after"], train["after"], evaluate["after"]] == [[], [data["id"]], [train["id"]]]
    assert f"submit: train is job {train['id']}" in shown

    # What waits, and for what.
    shown = pipeline(slurm, "status", run_file, *settings)
    assert f"train {train['id']} queued (Dependency)" in job_row(shown, train)
    assert job_row(shown, evaluate).endswith(train["id"])

    # Queued jobs keep a second submission out.
    refused = submit(slurm, run_file, *settings, "--nodes", "2", "--yes", code=2)
    assert "jobs of this run are queued or running" in refused
    assert f"scancel {data['id']} {train['id']} {evaluate['id']}`, then submit again" in refused

    # The training reaches its time limit, saves, and is queued again.
    outputs = run_dir / "jobs" / f"train-{train['id']}.out"
    completes(slurm, data, 120, run_dir)
    wait_for(lambda: bool(read_events(run_dir, "out of time")), 300, outputs)
    wait_for(lambda: job_state(slurm, train["id"]) == "PENDING", 300, outputs)
    shown = pipeline(slurm, "status", run_file, *settings)
    print(shown)
    assert f"data {data['id']} done" in job_row(shown, data)
    assert f"train {train['id']} queued again (" in job_row(shown, train)
    assert "1 x" in job_row(shown, train)

    # It goes on from its checkpoint, and the evaluation follows.
    wait_for(lambda: starts_now(slurm, train["id"]), 300, outputs)
    completes(slurm, train, 200, run_dir)
    completes(slurm, evaluate, 200, run_dir)
    assert len(read_events(run_dir, "resume")) == 1
    shown = pipeline(slurm, "status", run_file, *settings)
    print(shown)
    assert f"evaluate {evaluate['id']} done" in job_row(shown, evaluate)
    assert (run_dir / "report.html").exists()

    # Nothing is left to do.
    refused = submit(slurm, run_file, *settings, "--yes", code=2)
    assert "every stage of this run is done, there is nothing to submit" in refused


def test_a_chain_of_jobs_where_none_is_requeued(slurm: dict[str, str], run_file: Path) -> None:
    # 12 minutes of training in jobs of 20, 11 of which are start-up and margin: two jobs.
    arguments = [*LONG, "site.may_requeue=false", "--nodes", "2", "--hours", "0.2", "--yes"]
    submit(slurm, run_file, *arguments, "evaluation.tasks=[arithmetic]", "evaluation.limit=20")
    run_dir = load(run_file).paths.run_dir
    data, first, second, evaluate = submitted_jobs(run_dir)
    assert [first["name"], second["name"]] == ["train-1", "train-2"]
    assert [second["after"], evaluate["after"]] == [[first["id"]], [second["id"]]]

    # The first job is told to stop, as before its time limit.
    output = run_dir / "jobs" / f"train-1-{first['id']}.out"
    completes(slurm, data, 120, run_dir)
    wait_for(lambda: bool(read_events(run_dir, "first step")), 300, output)
    subprocess.run(["scancel", "--batch", "--signal=USR1", first["id"]], check=True, env=slurm)
    completes(slurm, first, 120, run_dir)
    assert "saved; train-2 goes on" in output.read_text()

    # The second one goes on from its checkpoint to the end.
    completes(slurm, second, 200, run_dir)
    assert len(read_events(run_dir, "resume")) == 1
    subprocess.run(["scancel", evaluate["id"]], check=True, env=slurm)


def test_what_follows_a_failed_job_is_cancelled(slurm: dict[str, str], run_file: Path) -> None:
    submit(slurm, run_file, "--nodes", "2", "--yes")
    run_dir = load(run_file).paths.run_dir
    data, train, evaluate = submitted_jobs(run_dir)
    subprocess.run(["scancel", data["id"]], env=slurm, check=True)
    wait_for(lambda: job_state(slurm, evaluate["id"]) == "CANCELLED", 60, run_dir / "jobs")
    shown = pipeline(slurm, "status", run_file)
    print(shown)
    assert "cancelled: its dependency failed" in job_row(shown, train)
    assert f"data {data['id']} cancelled" in job_row(shown, data)
