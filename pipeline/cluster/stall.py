"""Detecting hung ranks from their heartbeats, with a limit derived from the length of steps.

Reads heartbeats and stacks of the run folder; moves stacks to its logs.
"""

import shutil
import statistics
import time
from collections import deque
from pathlib import Path

from pipeline.config.run_sections import Guard
from pipeline.store import heartbeat
from pipeline.store.layout import RunFolder

LEAST_LIMIT = 60.0
"""Minimum time without progress, in seconds, after which ranks count as hung, unless
`guard.stall_seconds` sets the time."""
STEPS_PER_LIMIT = 20
"""The limit, in median steps."""
WATCHED_STEPS = 50
"""Number of last steps over which the median is taken."""
LOOK_SECONDS = 1.0
"""Time between two looks at the heartbeats."""
MOST_RANKS = 8
"""Maximum number of ranks that a message lists."""


class StallWatch:
    """Finds out whether ranks make progress; all times are on the supervisor's clock."""

    def __init__(self, run_dir: Path, ranks: int, guard: Guard) -> None:
        """Begin when the ranks have just been started."""
        self._run_dir = run_dir
        self._ranks = ranks
        self._guard = guard
        self._beats: dict[int, int] = {}
        self._doing: dict[int, str] = {}
        self._last_look = time.monotonic()
        self._last_change = self._last_look
        self._steps: deque[float] = deque(maxlen=WATCHED_STEPS)

    def saw_step(self, seconds: float) -> None:
        """Take the duration of another step."""
        self._steps.append(seconds)

    @property
    def limit(self) -> float:
        """Seconds without a beat of any rank after which the ranks count as hung."""
        # A rank finishes a step only together with all others.
        is_starting = all(doing.startswith("start") for doing in self._doing.values())
        if self._guard.stall_seconds is not None and not is_starting:
            return self._guard.stall_seconds
        if is_starting or not self._steps:
            return self._guard.start_up_seconds
        return max(LEAST_LIMIT, STEPS_PER_LIMIT * statistics.median(self._steps))

    def stalled(self) -> str | None:
        """Return what each rank did last, once no rank has made progress for too long.

        One beating rank is enough for progress: ranks that wait for it do not beat.
        """
        # Each look reads one file per rank.
        now = time.monotonic()
        if now - self._last_look < LOOK_SECONDS:
            return None

        # A long time since the last look means that the supervisor itself stood still, perhaps with
        # its whole machine.
        pause = min(10 * LOOK_SECONDS, max(3 * LOOK_SECONDS, self.limit / 2))
        if now - self._last_look > pause:
            self._last_change = now
        self._last_look = now

        # Any new beat is progress.
        for rank in range(self._ranks):
            beat = heartbeat.read_heartbeat(self._run_dir, rank)
            if beat and beat["beat"] != self._beats.get(rank):
                self._beats[rank] = beat["beat"]
                self._doing[rank] = beat["doing"]
                self._last_change = now
        seconds = now - self._last_change
        if seconds <= self.limit:
            return None
        return f"no rank has made progress for {seconds:.0f} s ({self._last_signs()})"

    def _last_signs(self) -> str:
        """Return what the ranks did last: `rank 0, 1: start: imported; rank 2: no heartbeat yet`."""
        by_doing: dict[str, list[int]] = {}
        for rank in range(self._ranks):
            by_doing.setdefault(self._doing.get(rank, "no heartbeat yet"), []).append(rank)
        return "; ".join(f"{_ranks_in_words(ranks)}: {doing}" for doing, ranks in by_doing.items())


def _ranks_in_words(ranks: list[int]) -> str:
    first = ", ".join(map(str, ranks[:MOST_RANKS]))
    if len(ranks) <= MOST_RANKS:
        return f"rank {first}"
    return f"{len(ranks)} ranks, {first}, ..."


def keep_stacks(run_dir: Path, ranks: int, name: str) -> tuple[Path, list[int]]:
    """Copy the stacks that ranks have written to the folder `logs/NAME`.

    Returns that folder, and the ranks that wrote none.
    """
    run = RunFolder(run_dir)
    folder = run.logs / name
    folder.mkdir(parents=True, exist_ok=True)
    written = heartbeat.read_stacks(run_dir)
    for rank in written:
        shutil.copy(run.stacks_of_rank(rank), folder)
    return folder, [rank for rank in range(ranks) if rank not in written]
