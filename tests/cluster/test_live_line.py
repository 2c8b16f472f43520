"""The line beside the percentage: each of its parts by hand."""

import json
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline.cluster.live_line import MOST_POINTS, Course, LiveLine, course_so_far, sparkline
from pipeline.cluster.tail import Tail
from pipeline.store.counts import ModelScore
from pipeline.store.files import write_atomic


@pytest.mark.parametrize(
    ("values", "width", "row"),
    [
        ([], 5, ""),
        ([3.0], 5, "▁"),
        ([2.0, 2.0, 2.0], 5, "▁▁▁"),
        ([0, 1, 2, 3, 4, 5, 6, 7], 8, "▁▂▃▄▅▆▇█"),
        ([7.0, 0.0], 8, "█▁"),
        ([10, 4, 3, 3], 2, "█▁"),  # means 7 and 3
        ([0, 7, 7, 0, 0], 2, "█▁"),  # groups of 2 and 3: 3.5 and 7/3
        ([0, 3.4, 3.6, 7], 4, "▁▄▅█"),  # rounded
        ([1, 2, 3], 0, ""),
    ],
)
def test_a_sparkline_by_hand(values: list[float], width: int, row: str) -> None:
    assert sparkline(values, width) == row


def test_a_course_halves_its_points_by_means_of_pairs() -> None:
    course = Course()
    for step in range(MOST_POINTS + 2):
        course.add(float(step))
    # 256 points became 128 pairs, of means 0.5, 2.5, ..., 254.5; the two steps after that are one
    # point more.
    assert course.points[:2] == [0.5, 2.5]
    assert course.points[-1] == 256.5
    assert len(course.points) == 129


def test_the_course_of_a_resumed_run_begins_where_the_run_did(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert course_so_far(tmp_path).points == []
    lines = [json.dumps({"step": step, "loss": 1000.0 - step}) for step in range(1, 1001)]
    path.write_text("\n".join(lines) + '\n{"step": 1001, "lo')
    course = course_so_far(tmp_path)
    assert course.points[0] == 999.0
    assert course.points == sorted(course.points, reverse=True)
    assert 120 < len(course.points) <= MOST_POINTS / 2 and course.points[-1] < 10
    path.write_text(lines[0] + "\n")
    assert course_so_far(tmp_path).points == [999.0]


def record(step: int, mfu: float | None = None) -> dict[str, Any]:
    return {"step": step, "loss": 10 - step, "tokens_per_second": 10_600.0 + step, "mfu": mfu}


def test_what_fits_is_shown() -> None:
    line = LiveLine(Course(), 586)
    for step in range(8):
        line.add(record(step, mfu=0.4567))
    whole = "loss 3.000  10.6k tokens/s  step 7/586  mfu 45.7%"
    assert line.text(None) == whole
    assert line.text(120) == whole.replace("3.000", "3.000 █▇▆▅▄▃▂▁")
    assert line.text(58) == line.text(120) and len(line.text(120)) == 58
    assert line.text(57) == "loss 3.000 █▇▆▅▄▃▂▁  10.6k tokens/s  step 7/586"
    assert line.text(40) == "loss 3.000 █▇▆▅▄▃▂▁  10.6k tokens/s"
    assert line.text(10) == line.text(1) == "loss 3.000"


def test_the_accuracy_of_the_newest_scored_checkpoint_is_shown() -> None:
    line = LiveLine(Course(), 586)
    line.add(record(7))
    line.add_scores([])
    rows = [
        {"task": task, "metric": metric, "shots": shots, "step": step, "value": value}
        | {"model": f"step_{step or 0:08d}"}
        for task, metric, shots, step, value in (
            ("a", "acc", 0, 4, 0.9),
            ("a", "acc", 0, 6, 0.2),
            ("b", "acc", 0, 6, 0.4),
            ("b", "acc", 5, 6, 0.8),
            ("b", "acc_norm", 0, 6, 0.8),
            ("b", "acc", 0, None, 0.8),
        )
    ]
    rows.append({**rows[1], "model": "other@step_00000008", "step": 8})
    line.add_scores(cast("list[ModelScore]", rows))
    expected = "loss 3.000  10.6k tokens/s  step 7/586  acc 0.300 (k = 0, step 6)"
    assert line.text(None) == expected
    after_a_restart = LiveLine(Course(), 586, line)
    after_a_restart.add(record(7))
    assert after_a_restart.text(None) == expected


def test_an_unknown_mfu_is_left_out_and_the_rate_is_a_median() -> None:
    line = LiveLine(Course(), 1_000_000)
    for rate in (1e6, 1.3e6, 100.0):
        line.add(record(1) | {"tokens_per_second": rate})
    assert line.text(None) == "loss 9.000  1M tokens/s  step 1/1,000,000"


def test_a_file_that_another_takes_the_place_of_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n')
    tail = Tail(path)
    assert tail.new_records() == []
    with path.open("a") as file:
        file.write('{"step": 3}\n{"st')
    assert tail.new_records() == [{"step": 3}]
    write_atomic(
        path,
        '{"step": 1}\n{"step": 2, "longer": "than all that has been read before"}\n{"step": 3}\n',
    )
    assert [record["step"] for record in tail.new_records()] == [1, 2, 3]
