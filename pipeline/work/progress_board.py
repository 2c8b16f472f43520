"""The progress of a list of tasks as one line, from the reports of all of them."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

from pipeline.logs import counted_noun, human_bytes, progress
from pipeline.recent_rate import RecentRate

Send: TypeAlias = Callable[[float, dict[str, int]], None]
"""Reports the fraction of a task that is done, and its counts."""
REDRAW_SECONDS = 0.1
"""Shortest time between two drawings of the line."""


class ProgressBoard:
    """Adds up the progress reports of all tasks, from any thread, into one line.

    Sums are kept as reports come in, so a report costs the same with ten tasks or a million.
    """

    def __init__(
        self,
        sizes: Mapping[str, float],
        done_bytes: float,
        update: Callable[[float, str], None],
        tasks: int,
    ) -> None:
        """Take the sizes of the tasks that wait, the bytes of those that are done, and a bar.

        `tasks` counts both; `update(completed_bytes, detail)` moves the bar.
        """
        self._sizes = sizes
        self._done_bytes = done_bytes
        self._update = update
        self._tasks = tasks
        self._lock = threading.Lock()
        # Of tasks that have reported and not ended: their parts of the sums below.
        self._fractions: dict[str, float] = {}
        self._counts: dict[str, dict[str, int]] = {}
        self._ended: set[str] = set()
        # Of all tasks of this list.
        self._ended_bytes = 0.0
        self._begun_bytes = 0.0
        self._totals: Counter[str] = Counter()
        self._text_rate = RecentRate()
        self._drawn = -REDRAW_SECONDS
        self._draw()

    def sender(self, task: str) -> Send:
        """Return the function through which a task of this process reports."""
        return lambda fraction, counts: self.report(task, fraction, counts)

    def report(self, task: str, fraction: float, counts: dict[str, int]) -> None:
        """Take a report; a task that runs again never lowers its fraction.

        A report that arrives after the task's end changes nothing.
        """
        with self._lock:
            if task in self._ended:
                return
            before = self._fractions.get(task, 0.0)
            self._fractions[task] = max(fraction, before)
            self._begun_bytes += self._sizes[task] * (self._fractions[task] - before)
            self._count(task, counts)
            self._draw_now_and_then()

    def finish(self, task: str) -> None:
        """Take the news that a task has ended."""
        with self._lock:
            self._counts.pop(task, None)
            self._begun_bytes -= self._sizes[task] * self._fractions.pop(task, 0.0)
            self._ended_bytes += self._sizes[task]
            self._ended.add(task)
            # Differences of many sizes leave a rest of rounding.
            if not self._fractions:
                self._begun_bytes = 0.0
            self._draw_now_and_then()

    def close(self) -> None:
        """Draw what the last reports have changed."""
        with self._lock:
            self._draw()

    def _count(self, task: str, counts: dict[str, int]) -> None:
        """Put a task's counts in place of its earlier ones."""
        self._totals.subtract(self._counts.get(task, {}))
        self._totals.update(counts)
        self._counts[task] = counts

    def _draw_now_and_then(self) -> None:
        if time.monotonic() - self._drawn >= REDRAW_SECONDS:
            self._draw()

    def _draw(self) -> None:
        now = time.monotonic()
        self._drawn = now
        # Sums over all tasks, the text as a rate.
        parts = [
            f"{count:,} {name}" for name, count in self._totals.items() if name != "text_bytes"
        ]
        if "text_bytes" in self._totals:
            self._text_rate.add(now, self._totals["text_bytes"])
            rate = self._text_rate.per_second(now)
            if rate:
                parts.append(f"{human_bytes(rate)}/s")
        done = self._tasks - len(self._sizes) + len(self._ended)
        parts.append(f"{done:,} of {counted_noun(self._tasks, 'task')}")
        self._update(self._done_bytes + self._ended_bytes + self._begun_bytes, ", ".join(parts))


@contextmanager
def progress_board(
    label: str, sizes: Mapping[str, float], waiting: Mapping[str, float], unit: str
) -> Generator[ProgressBoard]:
    """Show the progress of all tasks in `sizes`, of which those that are not waiting are done.

    Both are name -> size in `unit`.
    """
    total = sum(sizes.values())
    done_bytes = total - sum(waiting.values())
    with progress(label, total, unit) as update:
        board = ProgressBoard(waiting, done_bytes, update, len(sizes))
        yield board
        board.close()
