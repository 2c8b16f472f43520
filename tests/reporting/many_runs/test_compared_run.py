"""What a comparison reads of a run: its curves over tokens, FLOPs and time."""

import json
from pathlib import Path

import pytest
from runs_to_compare import begin_run, write_lines

from pipeline.errors import DataError
from pipeline.reporting.many_runs.compared_run import (
    StepPoint,
    named_apart,
    read_compared_run,
    step_points,
)


def test_a_run_is_read_with_what_it_had_taken_at_each_step(tmp_path: Path) -> None:
    run = read_compared_run(begin_run(tmp_path / "a"))
    # 32 tokens a step of 2 ranks x 1e12 / 16 FLOPs; the launch was 10 s before the first step.
    flops = 32 * 2e12 / 16
    assert run.points == [
        StepPoint(32, flops, 12, 4.5, None, None),
        StepPoint(64, 2 * flops, 14, 4.0, None, None),
        StepPoint(96, 3 * flops, 16, 3.5, 3.75, 1.7),
        StepPoint(128, 4 * flops, 18, 3.0, 3.25, 1.6),
    ]
    assert (run.name, run.steps, run.parameters, run.tokens_per_second) == ("a", 4, 1234, 16)
    assert (run.tokenizer, run.held_out_text, run.branches_off) == ("t", "", False)
    # Its data folder is gone; what it recorded of its tokens tells them apart.
    assert run.held_out.startswith("o, 8, ")
    assert run.account is not None
    assert run.account.device_hours * 3600 == 2 * 25


def test_flops_count_the_ranks_that_made_each_step() -> None:
    """Two ranks until step 1, which a third start has kept, and four ranks from there on."""
    records = [
        {"step": step, "tokens": 10 * step, "loss": 1.0, "tflops": 1e-12, "tokens_per_second": 5.0}
        for step in (1, 2)
    ]
    starts = [{"step": 0, "ranks": 2}, {"step": 1, "ranks": 8}, {"step": 1, "ranks": 4}]
    points = step_points(records, starts, {})  # pyright: ignore[reportArgumentType]
    assert [point.flops for point in points] == [10 / 5 * 2, 10 / 5 * 2 + 10 / 5 * 4]
    assert [point.seconds for point in points] == [None, None]


def test_a_branch_counts_its_own_steps_alone(tmp_path: Path) -> None:
    path = begin_run(tmp_path / "a")
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    write_lines(path / "metrics.jsonl", lines[2:])
    with (path / "events.jsonl").open("a") as file:
        file.write(json.dumps({"time": "", "event": "branch", "lineage": []}) + "\n")
    run = read_compared_run(path)
    assert run.branches_off
    assert [point.flops for point in run.points] == [32 * 2e12 / 16, 64 * 2e12 / 16]


def test_a_run_without_steps_is_refused(tmp_path: Path) -> None:
    path = begin_run(tmp_path / "a")
    (path / "metrics.jsonl").write_text("")
    with pytest.raises(DataError, match="has made no step yet; compare it later"):
        read_compared_run(path)


def test_runs_of_one_name_are_told_apart_by_what_was_typed(tmp_path: Path) -> None:
    typed = [tmp_path / "x" / "a", tmp_path / "y" / "a"]
    runs = [read_compared_run(begin_run(path)) for path in typed]
    assert named_apart(runs, ["x/a/run", "y/a/run"]) == ["x/a/run", "y/a/run"]
    assert named_apart(runs[:1], ["x/a/run"]) == ["a"]
