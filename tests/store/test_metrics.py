"""Every completed step exactly once, whatever happened in between."""

import json
from pathlib import Path

from pipeline.store.events import write_event
from pipeline.store.metrics import MetricsFile, read_metrics


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
