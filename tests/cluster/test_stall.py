"""How long ranks may be still before they count as hung, by what their heartbeats say."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.cluster import stall
from pipeline.cluster.stall import LEAST_LIMIT, STEPS_PER_LIMIT, StallWatch
from pipeline.config.run_sections import Guard
from pipeline.store import heartbeat
from pipeline.store.heartbeat import Heartbeat


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    for module in (stall, heartbeat):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=found))
    return found


def stalled_after(watch: StallWatch, clock: Clock, most: int = 10_000) -> int:
    """Return the seconds until the ranks count as hung, looking every two seconds."""
    began = clock.now
    while not watch.stalled():
        clock.now += 2
        assert clock.now - began < most, "never"
    return int(clock.now - began)


def test_a_start_may_take_longer_than_a_step(tmp_path: Path, clock: Clock) -> None:
    watch = StallWatch(tmp_path, 2, Guard(start_up_seconds=600, stall_seconds=8))
    beats = [Heartbeat(tmp_path, rank) for rank in range(2)]
    for beat in beats:
        beat.beat("start: imported")
    assert stalled_after(watch, clock) in range(600, 606)
    clock.now += 2
    assert "rank 0, 1: start: imported" in str(watch.stalled())


def test_the_shortest_limits_are_kept_too(tmp_path: Path, clock: Clock) -> None:
    watch = StallWatch(tmp_path, 1, Guard(stall_seconds=1))
    Heartbeat(tmp_path, 0).beat("step 1 done")
    clock.now += 2
    assert watch.stalled() is None
    assert stalled_after(watch, clock) == 2


def test_a_rank_that_stops_before_its_first_beat_of_a_step_hangs_like_any_other(
    tmp_path: Path, clock: Clock
) -> None:
    """The other has done the step, so this one had, too."""
    watch = StallWatch(tmp_path, 2, Guard(start_up_seconds=600, stall_seconds=8))
    beats = [Heartbeat(tmp_path, rank) for rank in range(2)]
    for beat in beats:
        beat.beat("start: imported")
    clock.now += 2
    assert watch.stalled() is None
    beats[0].beat("step 1 done")
    assert stalled_after(watch, clock) in range(8, 14)


def test_by_default_the_limit_follows_the_steps(tmp_path: Path, clock: Clock) -> None:
    watch = StallWatch(tmp_path, 1, Guard(start_up_seconds=600))
    beat = Heartbeat(tmp_path, 0)
    beat.beat("step 1 done")
    clock.now += 2
    assert watch.stalled() is None
    assert watch.limit == 600, "no step's length is known yet"
    watch.saw_step(0.5)
    assert watch.limit == LEAST_LIMIT
    for _ in range(9):
        watch.saw_step(30.0)
    assert watch.limit == 30 * STEPS_PER_LIMIT


@pytest.mark.parametrize("seconds", [9, 500])
def test_a_supervisor_that_stood_still_itself_blames_nobody(
    tmp_path: Path, clock: Clock, seconds: int
) -> None:
    watch = StallWatch(tmp_path, 1, Guard(stall_seconds=8))
    Heartbeat(tmp_path, 0).beat("step 1 done")
    clock.now += 2
    assert watch.stalled() is None
    clock.now += seconds
    assert watch.stalled() is None
    assert stalled_after(watch, clock) in range(8, 12)
