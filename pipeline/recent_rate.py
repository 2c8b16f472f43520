"""The rate of recent progress, and the time that is left at it. Reads and writes nothing."""

from collections import deque

WINDOW_SECONDS = 30.0
"""Time over which the rate is measured; longer where updates are rare."""
LEAST_POINTS = 5
"""Updates over which the rate is measured at least, once there are enough: a step may take
minutes."""
SPACING_SECONDS = 0.25
"""Updates that are closer together than this count as one."""
SILENT_INTERVALS = 2
"""After this number of mean intervals without an update, the time since then lowers the rate."""


class RecentRate:
    """The rate of recent progress. Times are in seconds of any clock that does not go back."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, float]] = deque()

    def add(self, now: float, completed: float) -> None:
        """Record the amount that is completed now; work before the first record has no rate."""
        points = self._points
        # The amount falls where a run rolls back to a checkpoint: measure from there.
        if points and completed < points[-1][1]:
            points.clear()
        if len(points) >= 2 and now - points[-2][0] < SPACING_SECONDS:
            points.pop()
        points.append((now, completed))
        while len(points) > LEAST_POINTS and points[1][0] <= now - WINDOW_SECONDS:
            points.popleft()

    def per_second(self, now: float) -> float:
        """Return the recent rate; 0 where nothing was done, or before two records."""
        if len(self._points) < 2:
            return 0.0
        first_time, first_completed = self._points[0]
        last_time, last_completed = self._points[-1]
        end = last_time
        if self._is_silent(now):
            end = now
        if end <= first_time:
            return 0.0
        return (last_completed - first_completed) / (end - first_time)

    def seconds_left(self, now: float, total: float) -> float | None:
        """Return the time until `total` is completed at the recent rate; None where that is 0."""
        rate = self.per_second(now)
        if rate <= 0:
            return None
        last_time, completed = self._points[-1]
        seconds = (total - completed) / rate
        # In a silence, the rate itself falls with every second.
        if not self._is_silent(now):
            seconds -= now - last_time
        return max(0.0, seconds)

    def _is_silent(self, now: float) -> bool:
        """Tell whether the last update was much longer ago than the mean time between updates."""
        mean_interval = (self._points[-1][0] - self._points[0][0]) / (len(self._points) - 1)
        return now - self._points[-1][0] > SILENT_INTERVALS * mean_interval
