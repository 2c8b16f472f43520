"""Threads that read: one while reads are fast, many once a slow file system makes reads wait.

In Python only one thread computes at a time. So threads that do not wait for a disk wait for each
other, and slow down the thread that trains.
"""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

SPARED_SECONDS = 0.002
"""Seconds that a task may wait for anything but the processor before the wait counts.

Reading a micro-batch from the page cache takes a tenth of this.
"""
MOST_EXCESS_SECONDS = 0.02
"""Excess of waiting, in seconds, after which many threads start.

A slow file system reaches it with its first reads; a machine that is shared with others does not.
"""

ReadTask = tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]


def excess_waiting(before: float, waited: float) -> float:
    """Return the excess of waiting after one more task, in seconds.

    `before`: the excess so far; `waited`: how long the task waited. Each task may wait
    SPARED_SECONDS: a longer wait adds to the excess, a shorter one reduces it, down to 0.
    """
    return max(0.0, before + waited - SPARED_SECONDS)


class Readers:
    """Runs tasks in threads, first come first served."""

    def __init__(self, most_threads: int) -> None:
        """Start no thread yet, and never more than `most_threads`."""
        self._most_threads = most_threads
        self._tasks: queue.SimpleQueue[ReadTask | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._growing = threading.Lock()
        self._closed = False
        self._excess = 0.0
        self._has_read = False

    @property
    def need_not_wait(self) -> bool:
        """Whether reads so far did not wait. False before the first read, as nothing is known."""
        return self._has_read and len(self._threads) == 1

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Have a thread call `work(*arguments)`; the future returns or raises what the call does."""
        if not self._threads:
            self._grow_to(1)
        future: Future[Any] = Future()
        self._tasks.put((future, work, arguments))
        return future

    def close(self) -> None:
        """End the threads. Tasks that have begun are finished; no other task begins."""
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
        """Run tasks until the readers are closed; start more threads where reads wait."""
        while True:
            task = self._tasks.get()
            if task is None or self._closed:
                return
            future, work, arguments = task
            # Waiting is measured only by a single thread: several wait for each other.
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
                    self._grow_to(self._most_threads)
                self._has_read = True
