"""`pipeline benchmark executor` on a list so short that only its arithmetic can be looked at."""

from pathlib import Path

import pytest

from pipeline.benchmarks.executor import benchmark_executor
from pipeline.store.files import read_json
from pipeline.work.task_batches import MOST_TASKS


@pytest.mark.ranks
@pytest.mark.full
def test_every_part_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "results.json"
    benchmark_executor(200, 2, tmp_path / "disk", output)
    results = read_json(output)
    parts = [results[name] for name in ("batches", "submissions", "restart")]
    assert [part["tasks"] for part in parts] == [200, 200, 200]
    for part in parts:
        assert part["cpu_milliseconds_per_task"] == pytest.approx(part["cpu_seconds"] * 5)
    batches, submissions, _ = (part["cpu_milliseconds_per_task"] for part in parts)
    assert results["share_of_submission"] == pytest.approx(batches / submissions)
    assert results["limit_milliseconds_per_task"] == pytest.approx(submissions / MOST_TASKS)
    # Not even a busy machine makes batches as dear as single submissions.
    assert batches < submissions
    assert list((tmp_path / "disk").iterdir()) == []
    printed = capsys.readouterr().out
    assert "a task in a batch: " in printed and "for 100,000 records (60 at most wanted" in printed
