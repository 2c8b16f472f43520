"""The runs of a study on one machine: order, leases, failures, requests to stop. In place of trainings
stand commands of a second."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from pipeline.cluster.stop_request import StopRequest
from pipeline.cluster.study.local_runs import (
    LocalRuns,
    Share,
    longest_first,
    rank_overrides,
    share_of_run,
)
from pipeline.cluster.study.queue import QueuedRun, RunState, StudyProgress, progress_of
from pipeline.store.layout import RunFolder, manifest_path
from pipeline.store.lease import Lease
from pipeline.work.cores import core_count

COMMAND = """\
import pathlib, signal, sys, time
order, manifest, seconds, code = sys.argv[1:]
signal.signal(signal.SIGINT, lambda *_: sys.exit(75))
with open(order, "a") as file:
    file.write(manifest + "\\n")
time.sleep(float(seconds))
if code == "0":
    pathlib.Path(manifest).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(manifest).write_text("{}")
sys.exit(int(code))
"""


def queued(folder: Path, name: str, work: float, trunk: QueuedRun | None = None) -> QueuedRun:
    """Return a run that nothing describes but its name; a branch needs its trunk's step 5."""
    home = folder / name
    home.mkdir(parents=True)
    needs = None
    if trunk is not None:
        needs = RunFolder(trunk.run_dir).checkpoint(5)
    return QueuedRun(
        name=name,
        home=home,
        run_file=home / "run.yaml",
        run_dir=home / "run",
        output=home / "output.txt",
        steps=10,
        first_step=1,
        work=work,
        sequences=12,
        micro_batch=4,
        trunk=None if trunk is None else trunk.name,
        needs=needs,
    )


class Starter:
    """Starts COMMAND for a run and keeps what it was asked for."""

    def __init__(self, folder: Path, seconds: float = 0.2, codes: dict[str, int] | None = None):
        self.order = folder / "order.txt"
        self.order.touch()
        self.seconds = seconds
        self.codes = codes or {}
        self.asked: list[tuple[str, str, Sequence[str], Share]] = []

    def __call__(
        self,
        run: QueuedRun,
        stage: str,
        overrides: Sequence[str],
        share: Share,
        output: IO[bytes],
    ) -> subprocess.Popen[bytes]:
        self.asked.append((run.name, stage, overrides, share))
        code = self.codes.get(run.name, 0)
        command = [sys.executable, "-c", COMMAND, self.order, run.manifest, self.seconds, code]
        return subprocess.Popen(map(str, command), stdout=output, stderr=output)

    @property
    def names(self) -> list[str]:
        return [Path(line).parents[2].name for line in self.order.read_text().splitlines()]


def finish_step_5(run: QueuedRun) -> None:
    checkpoint = manifest_path(RunFolder(run.run_dir).checkpoint(5))
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.write_text("{}")


def train(local: LocalRuns, stop: StopRequest | None = None) -> list[StudyProgress]:
    shown: list[StudyProgress] = []
    local.train_all(stop or StopRequest(), shown.append)
    return shown


@pytest.mark.ranks
def test_trunks_come_first_and_branches_wait_for_their_checkpoint(tmp_path: Path) -> None:
    small = queued(tmp_path, "small", 1.0)
    trunk = queued(tmp_path, "trunk", 5.0)
    branch = queued(tmp_path, "branch", 9.0, trunk)
    starter = Starter(tmp_path)
    assert branch.state is RunState.BLOCKED
    finish = threading.Timer(1.0, finish_step_5, [trunk])
    finish.start()
    local = LocalRuns([branch, small, trunk], jobs=1, ranks=2, start=starter)
    shown = train(local)
    finish.join()
    assert starter.names == ["trunk", "small", "branch"]
    assert (shown[-1].done, shown[-1].to_come, shown[-1].work_left) == (3, 0, 0.0)
    assert not local.failed
    # 12 sequences on 2 ranks: 6 each, in micro-batches of 3.
    assert starter.asked[0][2] == [
        "launch.kind=local",
        "launch.ranks=2",
        "batch.micro_batch_sequences=3",
    ]
    # Started again, it finds everything done.
    again = Starter(tmp_path)
    train(LocalRuns([branch, small, trunk], jobs=1, ranks=2, start=again))
    assert not again.asked


@pytest.mark.ranks
def test_no_more_than_asked_for_run_at_a_time_each_in_its_own_share(tmp_path: Path) -> None:
    runs = [queued(tmp_path, f"run{number}", 1.0) for number in range(4)]
    starter = Starter(tmp_path, seconds=0.7)
    shown = train(LocalRuns(runs, jobs=2, ranks=1, start=starter))
    assert max(len(each.running) for each in shown) == 2
    assert sorted(starter.names) == [run.name for run in runs]


@pytest.mark.ranks
def test_a_failed_trunk_takes_its_branches_with_it_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trunk = queued(tmp_path, "trunk", 5.0)
    branch = queued(tmp_path, "branch", 1.0, trunk)
    other = queued(tmp_path, "other", 1.0)
    starter = Starter(tmp_path, codes={"trunk": 2})
    local = LocalRuns([trunk, branch, other], jobs=1, ranks=1, start=starter)
    shown = train(local)
    assert starter.names == ["trunk", "other"]
    assert local.failed == {"trunk": 2}
    assert shown[-1].failed == ["trunk"]
    assert "study: trunk ended with exit code 2; the end of" in capsys.readouterr().err


@pytest.mark.ranks
def test_a_branch_whose_checkpoint_is_gone_is_named_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trunk = queued(tmp_path, "trunk", 5.0)
    branch = queued(tmp_path, "branch", 1.0, trunk)
    local = LocalRuns([trunk, branch], jobs=1, ranks=1, start=Starter(tmp_path))
    train(local)
    assert local.failed == {"branch": 2}
    assert f"delete {trunk.home} to train both again" in capsys.readouterr().err


@pytest.mark.ranks
def test_what_another_command_trains_is_left_to_it_and_waited_for(tmp_path: Path) -> None:
    mine = queued(tmp_path, "mine", 1.0)
    theirs = queued(tmp_path, "theirs", 2.0)
    starter = Starter(tmp_path)
    with Lease(theirs.home, "another"):
        assert theirs.state is RunState.RUNNING
        # A job of an array ends instead of waiting.
        train(LocalRuns([mine, theirs], jobs=2, ranks=1, start=starter, waits_for_others=False))
        assert starter.names == ["mine"]
    # Its holder is gone: the run is taken over.
    train(LocalRuns([mine, theirs], jobs=2, ranks=1, start=starter))
    assert starter.names == ["mine", "theirs"]


@pytest.mark.ranks
def test_a_request_to_stop_is_passed_on_once_and_begins_nothing_new(tmp_path: Path) -> None:
    runs = [queued(tmp_path, f"run{number}", 1.0) for number in range(3)]
    starter = Starter(tmp_path, seconds=30)
    stop = StopRequest()

    def interrupt() -> None:
        while len(starter.names) < 2:
            time.sleep(0.05)
        stop.take(signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    local = LocalRuns(runs, jobs=2, ranks=1, start=starter)
    train(local, stop)
    interrupting.join()
    assert sorted(starter.names) == ["run0", "run1"]
    assert not local.failed, "a run that was stopped after saving has not failed"
    assert progress_of(runs).to_come == 3


@pytest.mark.ranks
def test_a_run_that_runs_out_of_its_jobs_time_stops_all(tmp_path: Path) -> None:
    runs = [queued(tmp_path, f"run{number}", 1.0) for number in range(3)]
    starter = Starter(tmp_path, codes={"run0": 75})
    stop = StopRequest()
    train(LocalRuns(runs, jobs=1, ranks=1, start=starter), stop)
    assert stop.count == 1
    assert starter.names == ["run0"]


@pytest.mark.parametrize(
    ("ranks", "used", "micro"), [(1, 1, 4), (2, 2, 3), (4, 4, 3), (5, 4, 3), (12, 12, 1)]
)
def test_as_many_ranks_as_divide_the_batch(
    tmp_path: Path, ranks: int, used: int, micro: int
) -> None:
    run = queued(tmp_path, "run", 1.0)  # 12 sequences, micro-batches of at most 4
    assert rank_overrides(run, ranks) == [
        f"launch.ranks={used}",
        f"batch.micro_batch_sequences={micro}",
    ]


def test_of_equal_work_the_run_of_more_steps_comes_first(tmp_path: Path) -> None:
    trunk = replace(queued(tmp_path, "trunk", 1e12), steps=100)
    small = replace(queued(tmp_path, "small", 1.1e12), steps=5000)
    large = replace(queued(tmp_path, "large", 8e12), steps=10)
    branch = queued(tmp_path, "branch", 9e13, trunk)
    order = sorted([branch, trunk, small, large], key=longest_first)
    assert [run.name for run in order] == ["large", "small", "trunk", "branch"]


def test_where_speed_is_measured_a_rank_has_the_same_threads_on_few_ranks_as_on_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.cluster.study.local_runs.gpu_count", lambda: 0)
    run = replace(queued(tmp_path, "one", 1.0), ranks=1)
    assert share_of_run(run, 1, 0, 1) == Share(1, core_count(), None)
    alone = replace(run, most_ranks=core_count())
    assert share_of_run(alone, 1, 0, 1) == Share(1, 1, None)
    crowded = replace(run, most_ranks=4 * core_count())
    assert share_of_run(crowded, 1, 0, 1) == Share(1, 1, None)
