"""Threads that read: one while reading takes no time, many once a file system is seen to make them
wait.

In Python only one thread computes at a time. Threads that do not wait for a disk wait for each
other, and slow down the one that trains.
"""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

SPARED_SECONDS = 0.002
"""What a task may wait for anything but the processor; a micro-batch in the page cache takes a
tenth of that."""
MOST_EXCESS_SECONDS = 0.02
"""Excess of waiting after which there are many threads: a slow file system gets there with its
first reads, a machine that is shared with others does not."""

ReadTask = tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]


def excess_waiting(before: float, waited: float) -> float:
    """Return by how much tasks have waited more than they may, in seconds, after one more; what is
    spared wears it off."""
    return max(0.0, before + waited - SPARED_SECONDS)


class Readers:
    """Begins tasks in the order in which they come, in up to `most` threads."""

    def __init__(self, most: int) -> None:
        """Start no thread yet."""
        self._most = most
        self._tasks: queue.SimpleQueue[ReadTask | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._growing = threading.Lock()
        self._closed = False
        self._excess = 0.0
        self._has_read = False

    @property
    def need_not_wait(self) -> bool:
        """Whether what was read so far took no waiting; not known before anything was read."""
        return self._has_read and len(self._threads) == 1

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Have `work(*arguments)` done; what it raises is raised by the future."""
        if not self._threads:
            self._grow_to(1)
        future: Future[Any] = Future()
        self._tasks.put((future, work, arguments))
        return future

    def close(self) -> None:
        """End the threads: what they have begun is finished, nothing more is begun."""
        with self._growing:
            self._closed = True
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _grow_to(self, count: int) -> None:
        with self._growing:
            while len(self._threads) < count and not self._closed:
                self._threads.append(threading.Thread(target=self._work, name="read", daemon=True))
                self._threads[-1].start()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None and not self._closed:
            future, work, arguments = task
            alone = len(self._threads) == 1
            wall = time.perf_counter()
            processor = time.thread_time()
            try:
                future.set_result(work(*arguments))
            except BaseException as error:  # raised by whoever asks for the result
                future.set_exception(error)
            if alone:
                waited = time.perf_counter() - wall - (time.thread_time() - processor)
                self._excess = excess_waiting(self._excess, waited)
                if self._excess > MOST_EXCESS_SECONDS:
                    self._grow_to(self._most)
                self._has_read = True
