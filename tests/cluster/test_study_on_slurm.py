"""A study as a job array on a real Slurm, mixed with runs of this machine; an element is requeued."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from one_host_slurm import job_state, one_host_slurm, wait_for
from test_submit_on_slurm import HARDWARE, SITE, starts_now

from pipeline.store.events import read_events
from pipeline.store.jobs.submitted_jobs import submitted_jobs
from pipeline.store.metrics import read_metrics
from pipeline.store.studies.study_folder import StudyFolder

pytestmark = [pytest.mark.cluster, pytest.mark.ranks]

STUDY = """\
kind: scaling
base: run.yaml
folder: made
sizes: {widths: [16, 32], width_per_layer: 16, head_dim: 8}
budgets: {tokens: [25600, 512000]}
rules: {cooldown: branches}
settings: {checkpoint: {save_every_steps: 50}}
executor: {kind: slurm, jobs: 2, site: site.yaml, time_limit: "20"}
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with one_host_slurm(tmp_path_factory.mktemp("slurm"), nodes=2) as environment:
        yield environment


def study(slurm: dict[str, str], folder: Path, command: str, *arguments: str) -> str:
    """Run a command of `pipeline study`, and return what it printed after a check of its exit code."""
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", "study", command, "study.yaml", *arguments],
        capture_output=True,
        text=True,
        env=slurm,
        cwd=folder,
        timeout=400,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def test_an_array_goes_on_where_this_machine_has_begun(
    slurm: dict[str, str], tokenized: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    shutil.copytree(tokenized, folder)
    for name, text in (("study", STUDY), ("site", SITE), ("two-cores", HARDWARE)):
        (folder / f"{name}.yaml").write_text(text)

    # One size here, all of it by the array.
    study(slurm, folder, "run", "executor.kind=local", "sizes.widths=[16]")
    said = study(slurm, folder, "run", "--yes")
    made = StudyFolder(folder / "made")
    (job,) = submitted_jobs(made.path)
    assert f"study: array {job['id']}" in said
    assert "an array of 2 elements, at most 2 at a time" in said

    # The trunk's element is told that its time is over: it saves, and is queued again.
    (home,) = made.runs.glob("w32-d512000-*")
    trunk = home / "run"
    elements = [f"{job['id']}_{number}" for number in (0, 1)]
    outputs = made.path / "jobs"
    wait_for(lambda: bool(read_events(trunk, "first step")), 300, outputs)
    (running,) = (each for each in elements if job_state(slurm, each) == "RUNNING")
    subprocess.run(["scancel", "--batch", "--signal=USR1", running], check=True, env=slurm)
    wait_for(lambda: job_state(slurm, running) == "PENDING", 200, outputs)
    shown = study(slurm, folder, "status")
    print(shown)
    assert f"element {running}: queued again" in shown
    assert shown.count("queued again") == 1, (
        "the other element has found nothing to train, and ended"
    )
    assert "2 done, 2 to come" in shown

    # It goes on to the end, and its branch follows.
    wait_for(lambda: starts_now(slurm, running), 300, outputs)
    wait_for(lambda: "4 done, 0 to come" in study(slurm, folder, "status"), 400, outputs)
    assert len(read_events(trunk, "resume")) == 1
    assert [record["step"] for record in read_metrics(trunk)] == list(range(1, 2001))
