"""The rate of the last half minute, and the time left by it, from times that are given."""

import pytest

from pipeline.recent_rate import LEAST_POINTS, WINDOW_SECONDS, RecentRate


def rate_of(
    *parts: tuple[int, float, float], start: float = 0.0
) -> tuple[RecentRate, float, float]:
    """Return a rate after parts of `(updates, seconds between them, completed by each)`, the time,
    and what is completed."""
    rate, now, completed = RecentRate(), 1000.0, start
    rate.add(now, completed)
    for updates, seconds, each in parts:
        for _ in range(updates):
            now += seconds
            completed += each
            rate.add(now, completed)
    return rate, now, completed


def test_the_time_left_on_a_machine_that_slowed_down_is_that_of_its_rate_now() -> None:
    rate, now, completed = rate_of((600, 1, 100), (60, 1, 25))
    assert completed == 61_500
    assert rate.per_second(now) == 25
    assert rate.seconds_left(now, 62_500) == 40  # by the average of all, 11


def test_and_on_one_that_is_fast_again() -> None:
    rate, now, completed = rate_of((60, 1, 1), (60, 1, 50))
    assert rate.seconds_left(now, completed + 500) == 10


@pytest.mark.parametrize("seconds", [60, 600])
def test_steps_that_take_longer_than_the_window_have_a_rate(seconds: int) -> None:
    rate, now, completed = rate_of((50, seconds, 10), (LEAST_POINTS, seconds, 5))
    assert rate.seconds_left(now, completed + 50) == pytest.approx(10 * seconds)
    assert rate.seconds_left(now + seconds / 2, completed + 50) == pytest.approx(
        9.5 * seconds
    )  # it runs on meanwhile


def test_what_was_done_before_a_resume_has_no_rate() -> None:
    rate, now, completed = rate_of((1, 1, 10), start=1e9)
    assert completed == 1e9 + 10
    assert rate.seconds_left(now, 1e9 + 100) == 9


@pytest.mark.parametrize("updates", [0, 1, 40])
def test_without_progress_no_time_is_named(updates: int) -> None:
    rate, now, _ = rate_of((updates, 1, 0))
    assert rate.per_second(now) == 0
    assert rate.seconds_left(now, 100) is None


def test_silence_makes_the_time_longer() -> None:
    rate, now, completed = rate_of((30, 1, 10))
    assert rate.seconds_left(now + 1, completed + 100) == 9
    assert rate.seconds_left(now + 30, completed + 100) == 20  # 300 in a minute


def test_a_run_that_goes_back_begins_to_be_measured_anew() -> None:
    rate, now, completed = rate_of((30, 1, 100))
    for second in range(1, 11):
        rate.add(now + second, 500 + 20 * second)
    assert completed == 3000
    assert rate.per_second(now + 10) == 20


def test_a_burst_of_updates_is_one_and_costs_no_memory() -> None:
    rate, now, completed = rate_of((100_000, 0.001, 1))
    assert rate.per_second(now) == pytest.approx(1000, rel=1e-3)
    assert len(rate._points) <= WINDOW_SECONDS / 0.25 + LEAST_POINTS
    assert rate.seconds_left(now, completed) == 0
