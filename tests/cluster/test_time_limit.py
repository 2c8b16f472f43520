"""Time limits: when a run stops by itself, and chains of jobs that get nowhere."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from supervised import (
    events,
    finish,
    killed_at_the_end,
    processes_of,
    start,
    start_forked,
    steps,
    wait_for_steps,
)

from pipeline.cluster.stop_request import StopRequest
from pipeline.cluster.tail import Tail
from pipeline.cluster.time_limit import (
    BATCH_SCRIPT_VARIABLE,
    GIVEN_UP,
    RECENT_SAVES,
    TimeLimit,
    jobs_without_progress,
    tell_batch_script,
)
from pipeline.config.run_file import load
from pipeline.config.run_sections import SPARE_SECONDS
from pipeline.store.events import OUT_OF_TIME, read_events, write_event

MakeRun = Callable[..., Path]
OUT_OF_TIME_AFTER_THREE_STEPS = """\
from pathlib import Path
from pipeline.__main__ import main
from pipeline.config.run_sections import SPARE_SECONDS
from pipeline.cluster.time_limit import TimeLimit
metrics = Path({metrics!r})
TimeLimit.margin = SPARE_SECONDS
TimeLimit.is_near = lambda limit: metrics.exists() and len(metrics.read_text().splitlines()) >= 3
main()
"""


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90", 5400),
        ("90:30", 5430),
        ("24:00:00", 86_400),
        ("1:02:03", 3723),
        ("2-03", 183_600),
        ("2-03:04", 183_840),
        ("1-00:00:05", 86_405),
    ],
)
def test_time_limits_are_read_as_slurm_reads_them(
    run_file: Path, written: str, seconds: int
) -> None:
    assert load(run_file, [f"launch.time_limit={written}"]).launch.time_limit_seconds == seconds


def test_it_stops_early_enough_for_what_it_has_seen(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    now = time.time()
    limit = TimeLimit(load(run_file, ["launch.time_limit='1:00:00'"]), now)
    assert limit.end == now + 3600
    assert limit.margin == SPARE_SECONDS
    limit.saw_step(10, 30)
    limit.saw_save(100)
    limit.saw_step(5, 0)
    assert limit.margin == SPARE_SECONDS + 2 * (10 + 30 + 100)
    limit.saw_save(10_000)
    assert limit.margin == 1800, "half of the time at most"
    assert not limit.is_near()
    assert TimeLimit(load(run_file, ["launch.time_limit='1:00:00'"]), now - 3580).is_near()
    assert not TimeLimit(load(run_file), now - 10**6).is_near(), "there is none"
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(now + 60))
    assert TimeLimit(load(run_file, ["launch.time_limit='1:00:00'"]), now).end == now + 60


def test_only_the_last_saves_of_earlier_starts_count(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    config = load(run_file, ["launch.time_limit='1:00:00'"])
    for seconds in (500.0, 100.0, 7.0, *[2.0] * (RECENT_SAVES - 1)):
        write_event(config.paths.run_dir, "save", step=1, seconds=seconds)
    assert TimeLimit(config, time.time()).margin == SPARE_SECONDS + 2 * 7


def test_jobs_are_counted_that_ended_without_a_new_checkpoint(tmp_path: Path) -> None:
    assert jobs_without_progress(tmp_path) == 0
    for _ in range(3):
        write_event(tmp_path, OUT_OF_TIME)
    assert jobs_without_progress(tmp_path) == 3
    write_event(tmp_path, "save", step=1)
    assert jobs_without_progress(tmp_path) == 0
    write_event(tmp_path, OUT_OF_TIME)
    write_event(tmp_path, GIVEN_UP)
    assert jobs_without_progress(tmp_path) == 0


@pytest.fixture
def run_file_to_train(make_run: MakeRun) -> Iterator[Path]:
    with killed_at_the_end(make_run()) as path:
        yield path


@pytest.mark.ranks
def test_a_run_saves_before_its_time_is_over_and_a_vain_chain_is_ended_once(
    run_file_to_train: Path, tmp_path: Path
) -> None:
    """The time is nearly over once three steps are done, however long this machine takes to get
    there."""
    run_file = run_file_to_train
    settings = [
        "train.train_tokens=25600000",
        "checkpoint.save_every_steps=1000000",
        "guard.max_restarts=1",
    ]
    program = tmp_path / "out_of_time_after_three_steps.py"
    program.write_text(
        OUT_OF_TIME_AFTER_THREE_STEPS.format(metrics=str(run_file.parent / "run" / "metrics.jsonl"))
    )
    code, output = finish(
        start(run_file, *settings, "launch.time_limit=10:00:00", program=[str(program)])
    )
    assert code == 75, output
    assert steps(run_file) >= 3
    assert f"saved at step {steps(run_file)} of" in output
    assert "the time limit is 30 s away" in output
    assert len(events(run_file, OUT_OF_TIME)) == 1
    for _ in range(2):
        write_event(
            run_file.parent / "run", OUT_OF_TIME
        )  # two jobs that were killed in their start-up
    code, output = finish(start_forked(run_file, *settings))
    assert code == 1, output
    assert "2 jobs in a row ran out of time" in output
    resumed = start_forked(run_file, *settings)
    wait_for_steps(resumed, run_file, steps(run_file) + 1)
    resumed.send_signal(signal.SIGTERM)
    code, output = finish(resumed)
    assert code == 75, output
    assert processes_of(run_file) == []


@pytest.mark.parametrize(
    ("signals", "count", "is_out_of_time"),
    [
        ([signal.SIGTERM], 1, False),
        ([signal.SIGTERM, signal.SIGTERM], 2, False),
        ([signal.SIGINT, signal.SIGINT], 2, False),
        ([signal.SIGUSR1, signal.SIGTERM], 1, True),  # Slurm warns, and later begins to end the job
        ([signal.SIGUSR1, signal.SIGUSR1], 1, True),
        ([signal.SIGHUP, signal.SIGHUP], 1, False),
        ([signal.SIGTERM, signal.SIGINT], 2, False),
    ],
)
def test_only_who_asks_once_more_ends_a_run_at_once(
    signals: list[signal.Signals], count: int, is_out_of_time: bool
) -> None:
    stop = StopRequest()
    for number in signals:
        stop.take(number)
    assert (stop.count, stop.is_out_of_time) == (count, is_out_of_time)
    limit = StopRequest()
    limit.count = 1  # by the supervisor's own clock
    limit.take(signal.SIGUSR1)
    assert limit.count == 1


def test_a_batch_script_is_told_why_the_run_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(BATCH_SCRIPT_VARIABLE, raising=False)
    tell_batch_script()
    monkeypatch.setenv(BATCH_SCRIPT_VARIABLE, str(tmp_path / "told"))
    tell_batch_script()
    assert (tmp_path / "told").stat().st_size > 0


def test_a_torn_event_is_passed_over_and_hides_no_other(tmp_path: Path) -> None:
    write_event(tmp_path, "save", step=1)
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"time": "2026-01-01", "ev')
    write_event(tmp_path, "save", step=2)
    assert [event["step"] for event in read_events(tmp_path, "save")] == [1, 2]
    tail = Tail(tmp_path / "events.jsonl")
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"torn": \n{"step": 3}\n')
    assert tail.new_records() == [{"step": 3}]
