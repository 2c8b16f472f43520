"""Every completed step exactly once, whatever happened in between."""

import json
import time
from datetime import datetime
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.store.events import all_events, write_event
from pipeline.store.metrics import (
    MetricsFile,
    StepTimes,
    last_step_record,
    read_metrics,
    read_step_times,
    step_record,
)


def test_lines_after_the_checkpoint_and_torn_ones_move_to_the_side(tmp_path: Path) -> None:
    first = MetricsFile(tmp_path, 0)
    for step in (1, 2, 3):
        first.write({"step": step, "loss": float(step)})
    first.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    second = MetricsFile(tmp_path, 2)
    second.write({"step": 3, "loss": 30.0})
    second.close()
    assert [(r["step"], r["loss"]) for r in read_metrics(tmp_path)] == [
        (1, 1.0),
        (2, 2.0),
        (3, 30.0),
    ]
    assert (tmp_path / "metrics.abandoned.jsonl").read_text().splitlines() == [
        '{"step": 3, "loss": 3.0}',
        '{"step": 4, "lo',
    ]
    assert (first.abandoned_steps, second.abandoned_steps) == (0, 1), "half a line is no step"


def test_a_line_that_is_being_written_is_no_step_yet(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = ['{"step": 1, "loss": 3.0}', '{"step": 2, "loss": 2.0}', '{"step": 3, "lo']
    path.write_text("\n".join(lines))
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2]
    last = last_step_record(tmp_path)
    assert last is not None
    assert last["step"] == 2
    assert step_record(tmp_path, 3) is None
    # A crash of the machine may leave the end of the line, too.
    path.write_text("\n".join([*lines, ""]))
    assert last_step_record(tmp_path) == last
    # Only the last line may be torn.
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 3: not valid JSON"):
        read_metrics(tmp_path)
    path.write_text('{"st')
    assert read_metrics(tmp_path) == []
    assert last_step_record(tmp_path) is None


def test_no_file_is_no_steps(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []


def test_a_start_carries_the_environment(tmp_path: Path) -> None:
    write_event(tmp_path, "start", step=0)
    write_event(tmp_path, "save", step=1)
    start, save = [
        json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()
    ]
    assert start["environment"]["versions"]["torch"]
    assert "environment" not in save
    assert save["step"] == 1


def test_an_event_has_its_time_to_the_millisecond(tmp_path: Path) -> None:
    before = time.time()
    write_event(tmp_path, "save", step=1)
    (event,) = all_events(tmp_path)
    assert before - 0.001 <= event["unix_time"] <= time.time() + 0.001
    written = datetime.strptime(event["time"], "%Y-%m-%dT%H:%M:%S%z").timestamp()
    assert 0 <= event["unix_time"] - written < 1


def test_times_of_steps_are_read_from_lines_of_any_version(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert list(read_step_times(path)) == []
    path.write_text(
        '{"step": 1, "step_seconds": 2.0, "data_wait_seconds": 0.5, "validation_seconds": 3.0, '
        '"unix_time": 10.25}\n{"step": 2, "step_seconds": 1.0, "data_wait_seconds": 0.0}\n'
        '{"loss": 1}\n[3]\n{"step": 3, "st'
    )
    assert list(read_step_times(path)) == [
        StepTimes(1, 2.0, 0.5, 3.0, 10.25),
        StepTimes(2, 1.0, 0.0, 0.0, None),
    ]
