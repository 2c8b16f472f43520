"""Whether ranks still get on: by their heartbeats, and by a limit that follows the run's own
steps."""

import shutil
import statistics
import time
from collections import deque
from pathlib import Path

from pipeline.config.run_sections import Guard
from pipeline.store import heartbeat
from pipeline.store.layout import RunFolder

LEAST_LIMIT = 60.0
"""Seconds without a beat that are never too long, unless `guard.stall_seconds` says so."""
STEPS_PER_LIMIT = 20
"""Median steps that a stall lasts."""
WATCHED_STEPS = 50
LOOK_SECONDS = 1.0


class StallWatch:
    """Asked again and again by the supervisor; all times are by its own clock."""

    def __init__(self, run_dir: Path, ranks: int, guard: Guard) -> None:
        """Begin with a job that has just been started."""
        self._run_dir = run_dir
        self._ranks = ranks
        self._guard = guard
        self._beats: dict[int, int] = {}
        self._doing: dict[int, str] = {}
        self._last_change = self._last_look = time.monotonic()
        self._steps: deque[float] = deque(maxlen=WATCHED_STEPS)

    def saw_step(self, seconds: float) -> None:
        """Take the length of one more step."""
        self._steps.append(seconds)

    @property
    def limit(self) -> float:
        """Seconds without a beat of any rank after which the job counts as hung."""
        # Who has done a step has done it with all others.
        is_starting = all(doing.startswith("start") for doing in self._doing.values())
        if self._guard.stall_seconds is not None and not is_starting:
            return self._guard.stall_seconds
        if is_starting or not self._steps:
            return self._guard.start_up_seconds
        return max(LEAST_LIMIT, STEPS_PER_LIMIT * statistics.median(self._steps))

    def stalled(self) -> str | None:
        """Say what each rank did last where none has got on for too long. One that waits for
        another is as still as it."""
        now = time.monotonic()
        if now - self._last_look < LOOK_SECONDS:
            return None
        stood_still = min(10 * LOOK_SECONDS, max(3 * LOOK_SECONDS, self.limit / 2))
        if (
            now - self._last_look > stood_still
        ):  # it was the supervisor, perhaps with the whole machine
            self._last_change = now
        self._last_look = now
        for rank in range(self._ranks):
            beat = heartbeat.read_heartbeat(self._run_dir, rank)
            if beat and beat["beat"] != self._beats.get(rank):
                self._beats[rank], self._doing[rank], self._last_change = (
                    beat["beat"],
                    beat["doing"],
                    now,
                )
        still = now - self._last_change
        if still <= self.limit:
            return None
        return f"no rank has got on for {still:.0f} s ({self._last_signs()})"

    def _last_signs(self) -> str:
        by_doing: dict[str, list[int]] = {}
        for rank in range(self._ranks):
            by_doing.setdefault(self._doing.get(rank, "no sign of life yet"), []).append(rank)
        return "; ".join(f"{_some(ranks)}: {doing}" for doing, ranks in by_doing.items())


def _some(ranks: list[int]) -> str:
    shown = ", ".join(map(str, ranks[:8]))
    return f"rank {shown}" if len(ranks) <= 8 else f"{len(ranks)} ranks, {shown}, ..."


def keep_stacks(run_dir: Path, ranks: int, name: str) -> tuple[Path, list[int]]:
    """Move what ranks have written of their stacks to `logs/NAME`; returns that and the ranks that
    wrote nothing."""
    run = RunFolder(run_dir)
    folder = run.logs / name
    folder.mkdir(parents=True, exist_ok=True)
    written = heartbeat.read_stacks(run_dir)
    for rank in written:
        shutil.copy(run.stacks_of_rank(rank), folder)
    return folder, [rank for rank in range(ranks) if rank not in written]
