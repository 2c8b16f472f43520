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

STEPS = 200
SETTINGS = [
    f"train.train_tokens={STEPS * 256}",
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
from pipeline.cluster.time_limit import SPARE_SECONDS, TimeLimit
events = Path({events!r})
TimeLimit.margin = SPARE_SECONDS
def is_near(limit):
    kinds = [json.loads(line)["event"] for line in events.read_text().splitlines()]
    return "rollback" in kinds and kinds[-1] == "first step"
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

    # The second one rolls back and runs out of time, the third one finishes.
    second_began = time.time()
    timed = ["launch.time_limit=10:00:00", *STRICT_GUARD]
    code, output = finish(start(run_file, *SETTINGS, *timed, program=[str(program)]))
    assert code == 75, output
    code, output = finish(start(run_file, *SETTINGS))
    assert code == 0, output
    ended = time.time()
    held += ended - second_began

    found = account_of_run(run_dir)
    assert found is not None
    print({part: round(seconds, 2) for part, seconds in found.seconds.items()}, ended - began)
    assert found.wall_seconds == pytest.approx(ended - began, rel=0.01)
    assert found.seconds["not recorded"] < 0.01 * found.wall_seconds
    assert (found.jobs, found.starts, found.steps) == (3, len(events(run_file, "start")), STEPS)
    assert found.device_hours * 3600 == pytest.approx(2 * held, rel=0.02)

    # Each abandoned step has the cause that the events tell.
    rollbacks = events(run_file, "rollback")
    assert found.lost_steps["rollback"] == sum(e["step"] - e["to_step"] for e in rollbacks)
    assert found.lost_steps["kill"] > 0
    lost = sum(event["abandoned_steps"] for event in events(run_file, "start"))
    assert sum(found.lost_steps.values()) == lost
    assert found.lost_steps["time limit"] == 0, "the ranks have saved"
