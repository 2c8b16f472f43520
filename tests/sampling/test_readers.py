"""Reading threads: one, or many where reads make it wait; in order, to the end, with their
errors."""

import threading
import time

import pytest

from pipeline.sampling.readers import MOST_EXCESS_SECONDS, Readers, excess_waiting


def after(waits: list[float]) -> float:
    found = 0.0
    for waited in waits:
        found = excess_waiting(found, waited)
    return found


def test_only_waiting_that_outweighs_what_tasks_may_wait_counts() -> None:
    assert after([0.005, 0.001]) == pytest.approx(0.005 - 0.002 - 0.001)
    assert after([0.001] * 1000) == 0
    assert after(([0.004] + [0.0001] * 40) * 100) == 0  # taken off the processor now and then
    assert after([0.04]) > MOST_EXCESS_SECONDS  # eight reads of 5 ms
    assert after([0.005] * 7) > MOST_EXCESS_SECONDS


def test_tasks_are_begun_in_order_and_give_their_results_and_errors() -> None:
    readers, begun = Readers(16), []
    futures = [readers.submit(lambda i: begun.append(i) or 10 // i, i) for i in (5, 2, 0, 1)]
    assert [futures[0].result(), futures[1].result(), futures[3].result()] == [2, 5, 10]
    with pytest.raises(ZeroDivisionError):
        futures[2].result()
    readers.close()
    assert begun == [5, 2, 0, 1]


def test_a_slow_task_brings_all_threads() -> None:
    before, readers, together = set(threading.enumerate()), Readers(6), threading.Barrier(6)
    assert set(threading.enumerate()) <= before
    readers.submit(time.sleep, 3 * MOST_EXCESS_SECONDS)
    futures = [
        readers.submit(together.wait, 600) for _ in range(6)
    ]  # passed by six at once, or by none
    assert sorted(future.result() for future in futures) == list(range(6))
    readers.close()
    assert set(threading.enumerate()) <= before


def test_closing_finishes_what_is_begun_and_begins_nothing_more() -> None:
    readers, go, started = Readers(1), threading.Event(), threading.Event()
    first = readers.submit(lambda: started.set() or go.wait(600))
    others = [readers.submit(int) for _ in range(20)]
    started.wait(600)
    closing = threading.Thread(target=readers.close)
    closing.start()
    while not readers._closed:
        time.sleep(0.001)
    go.set()
    closing.join()
    assert first.result()
    assert not any(future.done() for future in others)
