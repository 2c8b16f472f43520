"""The progress of a list of tasks as one line, from the reports of all of them."""

import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

from pipeline.logs import counted_noun, human_bytes, progress
from pipeline.recent_rate import RecentRate

Send: TypeAlias = Callable[[float, dict[str, int]], None]
"""Reports the fraction of a task that is done, and its counts."""


class ProgressBoard:
    """Adds up the progress reports of all tasks, from any thread, into one line."""

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
        self._fractions: dict[str, float] = {}
        self._counts: dict[str, dict[str, int]] = {}
        self._left = len(sizes)
        self._text_rate = RecentRate()
        self._show()

    def sender(self, task: str) -> Send:
        """Return the function through which a task of this process reports."""
        return lambda fraction, counts: self.report(task, fraction, counts)

    def receive(self, event: tuple[float, tuple[str, float, dict[str, int]]]) -> None:
        """Take a report from a Dask worker, `(time, (task, fraction, counts))`."""
        _, (task, fraction, counts) = event
        self.report(task, fraction, counts)

    def report(self, task: str, fraction: float, counts: dict[str, int]) -> None:
        """Take a report; a task that runs again never lowers its fraction."""
        with self._lock:
            self._fractions[task] = max(fraction, self._fractions.get(task, 0.0))
            self._counts[task] = counts
            self._show()

    def finish(self, task: str) -> None:
        """Take the news that a task has ended."""
        with self._lock:
            self._fractions[task] = 1.0
            self._left -= 1
            self._show()

    def _show(self) -> None:
        # Sums over all tasks, the text as a rate.
        total: dict[str, int] = {}
        for counts in self._counts.values():
            for name, count in counts.items():
                total[name] = total.get(name, 0) + count
        parts = [f"{count:,} {name}" for name, count in total.items() if name != "text_bytes"]
        if "text_bytes" in total:
            now = time.monotonic()
            self._text_rate.add(now, total["text_bytes"])
            rate = self._text_rate.per_second(now)
            if rate:
                parts.append(f"{human_bytes(rate)}/s")
        parts.append(f"{self._tasks - self._left:,} of {counted_noun(self._tasks, 'task')}")
        completed = self._done_bytes + sum(
            self._sizes[name] * part for name, part in self._fractions.items()
        )
        self._update(completed, ", ".join(parts))


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
        yield ProgressBoard(waiting, done_bytes, update, len(sizes))
