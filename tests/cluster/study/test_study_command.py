"""`pipeline study run` with real trainings: shared by two commands, killed, and gone on with."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.store.events import all_events, is_start
from pipeline.store.metrics import read_metrics
from pipeline.store.studies.study_folder import StudyFolder

pytestmark = pytest.mark.ranks

STUDY = """\
kind: scaling
base: run.yaml
folder: made
sizes: {widths: [16, 32], width_per_layer: 16, head_dim: 8}
budgets: {tokens: [5120, 10240]}
rules: {cooldown: branches, decay: 0.25}
settings: {checkpoint: {save_every_steps: 5}, guard: {stall_seconds: 300}}
executor: {kind: local, jobs: 2}
"""


@pytest.fixture
def study_file(tokenized: Path, tmp_path: Path) -> Path:
    """Return a study file beside its base, whose data are there."""
    folder = tmp_path / "study"
    shutil.copytree(tokenized, folder)
    path = folder / "study.yaml"
    path.write_text(STUDY)
    return path


def start(study_file: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipeline", "study", "run", str(study_file), *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def points_of(folder: Path) -> dict[str, dict[str, str]]:
    with StudyFolder(folder).points.open() as file:
        return {f"{row['size']} {row['budget']}": row for row in csv.DictReader(file)}


def test_two_commands_share_a_study_and_one_is_killed(study_file: Path) -> None:
    folder = StudyFolder(study_file.parent / "made")
    killed = start(study_file, "executor.jobs=1")
    while not any(folder.runs.glob("*/run/metrics.jsonl")):
        time.sleep(0.1)
        assert killed.poll() is None
    other = start(study_file)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    said, _ = other.communicate(timeout=300)
    assert other.returncode == 0, said
    assert "study: 4 done, 0 to come" in said

    # Each run has each of its own steps once.
    points = points_of(folder.path)
    assert sorted(points) == ["w16 d10240", "w16 d5120", "w32 d10240", "w32 d5120"]
    for row in points.values():
        steps = [record["step"] for record in read_metrics(folder.path / row["run"])]
        first = 16 if row["budget"] == "d5120" else 1  # a quarter of 20 steps decays
        assert steps == list(range(first, int(row["steps"]) + 1))
        assert row["left_out"] == ""

    # Started again, it finds all of them done.
    starts = sum(is_start(event) for run in folder.runs.glob("*/run") for event in all_events(run))
    again = start(study_file)
    said, _ = again.communicate(timeout=300)
    assert (again.returncode, "study: 4 done, 0 to come" in said) == (0, True)
    assert starts == sum(
        is_start(event) for run in folder.runs.glob("*/run") for event in all_events(run)
    )

    # A branch is a run of its own, bit for bit.
    alone = start(
        study_file,
        "folder=" + str(study_file.parent / "alone"),
        "rules.cooldown=each",
        "budgets.tokens=[5120]",
        "settings.schedule={kind: wsd, decay_tokens: 1}",
    )
    said, _ = alone.communicate(timeout=300)
    assert alone.returncode == 0, said
    by_itself = points_of(study_file.parent / "alone")
    for size in ("w16", "w32"):
        assert by_itself[f"{size} d5120"]["loss"] == points[f"{size} d5120"]["loss"]

    # Without its data it names the commands that make them.
    shutil.rmtree(study_file.parent / "data" / "tokens")
    refused = start(study_file)
    said, _ = refused.communicate(timeout=120)
    assert refused.returncode == 2
    said_in_words = " ".join(said.split())
    assert "tokenize is missing, and a study makes no data" in said_in_words
    assert "`pipeline tokenize" in said_in_words
    assert "pipeline annotate" not in said_in_words, "the run file does not ask for it"
    assert "Traceback" not in said
