"""The account of a run that was killed twice, rolled back and ran out of time, beside the time that
it took as seen from outside."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from supervised import (
    END_SECONDS,
    events,
    finish,
    killed_at_the_end,
    processes_of,
    ranks_of,
    start,
    steps,
    wait_for,
    wait_for_steps,
)

from pipeline.reporting.run_account import account_of_run

pytestmark = pytest.mark.ranks

SETTINGS = [
    "train.train_tokens=25600000",
    "optimizer.peak_learning_rate=1e-5",
    "checkpoint.save_every_steps=10",
    "train.validate_every_steps=25",
]
STRICT_GUARD = ["guard.spike_deviations=1", "guard.spike_window_steps=8", "guard.max_rollbacks=100"]
"""The noise of the losses of a model that hardly learns is a spike."""
OUT_OF_TIME_AFTER_A_ROLLBACK = """\
import json
from pathlib import Path
from pipeline.__main__ import main
from pipeline.cluster.time_limit import TimeLimit
from pipeline.config.run_sections import SPARE_SECONDS
events = Path({events!r})
TimeLimit.margin = SPARE_SECONDS
def is_near(limit):
    kinds = [json.loads(line)["event"] for line in events.read_text().splitlines()]
    return "rollback" in kinds and "start" in kinds[kinds.index("rollback"):]
TimeLimit.is_near = is_near
main()
"""


@pytest.fixture
def run_file(make_run: Callable[..., Path]) -> Iterator[Path]:
    with killed_at_the_end(make_run()) as path:
        yield path


def step_of(run_file: Path) -> int:
    lines = (run_file.parent / "run" / "metrics.jsonl").read_text().splitlines()
    return json.loads(lines[-1])["step"]


def kill_a_rank(job: subprocess.Popen[str], run_file: Path) -> None:
    wait_for(lambda: steps(run_file) and step_of(run_file) % 10 > 4, 600, "steps after a save")
    ranks_of(run_file)[1].send_signal(signal.SIGKILL)
    wait_for(lambda: len(events(run_file, "first step")) == 2, 600, "a restart")


@pytest.mark.fault("kill or stop of processes", tried=2)
def test_two_kills_a_rollback_and_a_time_limit_add_up_to_the_wall_time(
    run_file: Path, tmp_path: Path
) -> None:
    run_dir = run_file.parent / "run"
    program = tmp_path / "out_of_time_after_a_rollback.py"
    program.write_text(OUT_OF_TIME_AFTER_A_ROLLBACK.format(events=str(run_dir / "events.jsonl")))

    # The first job loses a rank, and then its supervisor.
    began = time.time()
    job = start(run_file, *SETTINGS)
    wait_for_steps(job, run_file, 12)
    kill_a_rank(job, run_file)
    wait_for_steps(job, run_file, steps(run_file) + 12)
    job.send_signal(signal.SIGKILL)
    held = time.time() - began
    job.communicate(timeout=END_SECONDS)
    wait_for(lambda: not processes_of(run_file), END_SECONDS, "the end of orphaned ranks")
    # Orphans hold their devices until they notice, at most to here.
    orphaned = time.time() - began - held

    # The second one rolls back and then runs out of time.
    second_began = time.time()
    timed = ["launch.time_limit=10:00:00", *STRICT_GUARD]
    code, output = finish(start(run_file, *SETTINGS, *timed, program=[str(program)]))
    assert code == 75, output
    # What a command does after its last event, ending its own process, is in no account.
    ended = (run_dir / "events.jsonl").stat().st_mtime
    held += ended - second_began

    found = account_of_run(run_dir)
    assert found is not None
    assert found.wall_seconds == pytest.approx(ended - began, rel=0.01)
    assert found.seconds["not recorded"] < 0.01 * found.wall_seconds
    starts = events(run_file, "start")
    assert (found.jobs, found.starts, found.steps) == (2, len(starts), steps(run_file))
    device_seconds = found.device_hours * 3600
    assert 2 * held * 0.98 <= device_seconds <= 2 * (held + orphaned) * 1.02

    # Each start abandoned the steps of the one before; the first two of these were killed.
    abandoned = [event["abandoned_steps"] for event in starts]
    assert abandoned[0] == 0
    assert min(abandoned[1:4]) > 0
    assert found.lost_steps == {
        "kill": abandoned[1] + abandoned[2],
        "hang": 0,
        "rollback": sum(abandoned[3:]),
        "time limit": 0,
        "other": 0,
    }
    assert found.lost_seconds["rollback"] > 0
