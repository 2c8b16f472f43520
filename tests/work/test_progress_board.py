"""Running totals of many tasks' reports, drawn now and then."""

import time

import pytest

from pipeline.work.progress_board import REDRAW_SECONDS, ProgressBoard


class Bar:
    """Keeps what a board draws."""

    def __init__(self) -> None:
        self.drawn: list[tuple[float, str]] = []

    def update(self, completed: float, detail: str) -> None:
        self.drawn.append((completed, detail))

    @property
    def last(self) -> tuple[float, str]:
        return self.drawn[-1]


def test_totals_follow_reports_repeats_and_ends() -> None:
    bar = Bar()
    # Of three tasks one was done before, with size 5.
    board = ProgressBoard({"a": 10.0, "b": 20.0}, 5.0, bar.update, 3)
    assert bar.last == (5.0, "1 of 3 tasks")
    board.report("a", 0.5, {"documents": 4})
    board.report("b", 0.25, {"documents": 3})
    board.close()
    assert bar.last == (15.0, "7 documents, 1 of 3 tasks")

    # A repeated task counts anew, and its fraction does not fall.
    board.report("a", 0.1, {"documents": 1})
    board.close()
    assert bar.last == (15.0, "4 documents, 1 of 3 tasks")
    board.report("a", 1.0, {"documents": 8})
    board.finish("a")
    board.close()
    assert bar.last == (20.0, "11 documents, 2 of 3 tasks")

    # A report that arrives after the end changes nothing; a task may end without any.
    board.report("a", 0.5, {"documents": 1})
    board.finish("b")
    board.close()
    assert bar.last == (35.0, "11 documents, 3 of 3 tasks")


def test_text_is_shown_as_a_rate() -> None:
    bar = Bar()
    board = ProgressBoard({"a": 1.0}, 0.0, bar.update, 1)
    board.report("a", 0.5, {"text_bytes": 1000})
    board.close()
    time.sleep(0.3)
    board.report("a", 1.0, {"text_bytes": 3000})
    board.close()
    rate, tasks = bar.last[1].split(", ")
    assert rate.endswith("kB/s") and 0 < float(rate.removesuffix(" kB/s")) < 2000 / 0.3 / 1000 + 0.1
    assert tasks == "0 of 1 task"


def test_many_reports_are_drawn_at_most_ten_times_a_second() -> None:
    tasks = 20_000
    bar = Bar()
    started = time.monotonic()
    board = ProgressBoard({str(i): 1.0 for i in range(tasks)}, 0.0, bar.update, tasks)
    for i in range(tasks):
        board.report(str(i), 1.0, {"documents": 2})
        board.finish(str(i))
    board.close()
    seconds = time.monotonic() - started
    assert len(bar.drawn) <= 2 + seconds / REDRAW_SECONDS
    assert bar.last == (tasks, "40,000 documents, 20,000 of 20,000 tasks")


def test_sums_of_fractions_leave_no_rest() -> None:
    bar = Bar()
    board = ProgressBoard({str(i): 0.1 for i in range(1000)}, 0.0, bar.update, 1000)
    for i in range(1000):
        board.report(str(i), 1 / 3, {})
    for i in range(1000):
        board.finish(str(i))
    board.close()
    assert bar.last[0] == pytest.approx(100.0, abs=1e-9)
