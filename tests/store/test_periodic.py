"""A thread that does one thing again and again."""

import threading

from pipeline.store.periodic import Periodic


def test_it_acts_until_it_is_stopped() -> None:
    acted = threading.Semaphore(0)
    periodic = Periodic(0.001, acted.release)
    assert not acted.acquire(blocking=False)
    periodic.start()
    assert all(acted.acquire(timeout=10) for _ in range(3))
    periodic.stop()
    while acted.acquire(blocking=False):
        pass
    assert not acted.acquire(timeout=0.05)


def test_it_may_be_stopped_before_the_first_time() -> None:
    acted: list[bool] = []
    periodic = Periodic(60.0, lambda: acted.append(True))
    periodic.start()
    periodic.stop()
    assert acted == []
