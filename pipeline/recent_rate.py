"""How fast something goes now, from its last half minute: what it did before says nothing of a machine that has slowed down."""

from collections import deque

WINDOW_SECONDS = 30.0
"""Time that the rate is measured over; longer where updates come rarely."""
LEAST_POINTS = 5
"""Updates that the rate is measured over at least, once there are as many: steps may take minutes."""
SPACING_SECONDS = 0.25
"""Updates that come closer than this count as one."""
SILENT_INTERVALS = 2
"""After so many usual intervals without an update, the silence counts, too."""


class RecentRate:
    """Takes what is completed at some times, in seconds of any clock that does not go back."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, float]] = deque()

    def add(self, now: float, completed: float) -> None:
        """Take what is completed now. The first time is the beginning: what was done before has no rate."""
        points = self._points
        if points and completed < points[-1][1]:  # gone back, as a run does to a checkpoint
            points.clear()
        if len(points) >= 2 and now - points[-2][0] < SPACING_SECONDS:
            points.pop()
        points.append((now, completed))
        while len(points) > LEAST_POINTS and points[1][0] <= now - WINDOW_SECONDS:
            points.popleft()

    def per_second(self, now: float) -> float:
        """Return the recent rate; 0 where nothing was done, or there is nothing yet to measure."""
        if len(self._points) < 2:
            return 0.0
        first_time, first_completed = self._points[0]
        last_time, last_completed = self._points[-1]
        seconds = now - first_time if self._is_silent(now) else last_time - first_time
        return (last_completed - first_completed) / seconds if seconds > 0 else 0.0

    def seconds_left(self, now: float, total: float) -> float | None:
        """Return the time until `total` is completed at the recent rate; None where nothing was done of late."""
        rate = self.per_second(now)
        if rate <= 0:
            return None
        last_time, completed = self._points[-1]
        since = 0.0 if self._is_silent(now) else now - last_time
        return max(0.0, (total - completed) / rate - since)

    def _is_silent(self, now: float) -> bool:
        """Tell whether the last update is much longer ago than updates usually are."""
        usual = (self._points[-1][0] - self._points[0][0]) / (len(self._points) - 1)
        return now - self._points[-1][0] > SILENT_INTERVALS * usual
