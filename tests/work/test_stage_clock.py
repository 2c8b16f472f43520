"""What a stage took: all jobs whose work is in its output, by a clock that the test sets."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import run_stages

from pipeline.config.run_file import load
from pipeline.config.run_sections import Executor
from pipeline.store.files import read_json
from pipeline.work import stage_clock
from pipeline.work.executor import run_tasks
from pipeline.work.stage_clock import StageClock
from pipeline.work.task import Task
from pipeline.work.workers import workers


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 500.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(stage_clock, "time", SimpleNamespace(monotonic=made.monotonic))
    return made


def job(
    clock: Clock,
    root: Path,
    inputs: str,
    seconds: float,
    *,
    grows: bool = False,
    task: str = "a shard",
) -> StageClock:
    """Work for some seconds on one task, which a job with another `task` does not take over."""
    folder = root / "tokens"
    with (
        StageClock(root, "tokenize", folder, inputs, grows=grows) as made,
        workers(Executor(workers=1)) as crew,
    ):
        clock.now += seconds
        run_tasks([Task("first", dict, {}, task)], folder, crew, "tokenize")
    return made


def kill(clock: Clock, root: Path, inputs: str, seconds: float) -> None:
    """Work until the last save before a kill: nothing of the end is done."""
    made = StageClock(root, "tokenize", root / "tokens", inputs, grows=False)
    made._started = clock.now
    (root / "tokens").mkdir(exist_ok=True)
    clock.now += seconds
    made._save()


def test_all_jobs_of_a_stage_count_stopped_and_killed_ones_too(
    clock: Clock, tmp_path: Path
) -> None:
    kill(clock, tmp_path, "a", 100)
    with (
        pytest.raises(KeyboardInterrupt),
        StageClock(tmp_path, "tokenize", tmp_path / "tokens", "a", grows=False),
    ):
        clock.now += 20
        raise KeyboardInterrupt
    last = job(clock, tmp_path, "a", 3)
    assert (last.job_seconds, last.finish()) == (3, 123)
    redone = job(clock, tmp_path, "a", 1)  # a shard that was damaged, say
    assert (redone.job_seconds, redone.finish()) == (1, 124)


def test_jobs_with_other_inputs_count_where_their_work_was_taken_over(
    clock: Clock, tmp_path: Path
) -> None:
    job(clock, tmp_path, "a", 100).finish()
    added = job(clock, tmp_path, "with more text", 5)
    assert added.finish() == 105
    other = job(clock, tmp_path, "another tokenizer", 7, task="with another tokenizer")
    assert other.finish() == 7


def test_jobs_with_two_other_inputs_count_both(clock: Clock, tmp_path: Path) -> None:
    job(clock, tmp_path, "a", 100)
    job(clock, tmp_path, "with more text", 20)
    assert job(clock, tmp_path, "with still more text", 5).finish() == 125


def test_a_run_that_grows_counts_what_it_took_before(clock: Clock, tmp_path: Path) -> None:
    assert job(clock, tmp_path, "1,000 steps", 60, grows=True).finish() == 60
    assert job(clock, tmp_path, "2,000 steps", 70, grows=True).finish() == 130


@pytest.mark.parametrize(
    "damaged", ["", "[]", "{}", '{"inputs": "a", "seconds": "x", "with_other_inputs": 0}', "\0"]
)
def test_a_damaged_file_holds_nothing_up(clock: Clock, tmp_path: Path, damaged: str) -> None:
    (tmp_path / "tokens").mkdir()
    (tmp_path / ".tokenize.seconds.json").write_text(damaged)
    assert job(clock, tmp_path, "a", 3).finish() == 3


def test_a_folder_that_was_deleted_begins_anew(clock: Clock, tmp_path: Path) -> None:
    job(clock, tmp_path, "a", 100).finish()
    shutil.rmtree(tmp_path / "tokens")
    assert job(clock, tmp_path, "a", 2).finish() == 2


def test_the_manifest_has_the_seconds_of_earlier_jobs(run_file: Path) -> None:
    run_stages(run_file, ["prepare"], [])
    documents = load(run_file).paths.data_dir / "documents"
    first = read_json(documents / "manifest.json")["seconds"]
    (documents / "manifest.json").unlink()
    run_stages(run_file, ["prepare"], [])  # finds all its tasks done
    again = read_json(documents / "manifest.json")["seconds"]
    assert again > first
    saved = documents.parent / ".prepare.seconds.json"
    saved.write_text(json.dumps(read_json(saved) | {"seconds": 3600.0}))
    (documents / "manifest.json").unlink()
    run_stages(run_file, ["prepare"], [])
    assert read_json(documents / "manifest.json")["seconds"] > 3600
