"""Threads of this process that run tasks, and that compute ahead inside of them."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from pipeline.work.task import stopping

Item = TypeVar("Item")
Made = TypeVar("Made")

ITEMS_AHEAD = 2
"""Items of one task that `map_ahead` computes ahead of the caller."""

_helpers: ThreadPoolExecutor | None = None
"""Threads for `map_ahead`, while threads of this process do the work."""


@contextmanager
def thread_pool(threads: int) -> Generator[ThreadPoolExecutor]:
    """Yield threads for tasks, with as many for `map_ahead`; at the end, stop the tasks that run."""
    global _helpers
    pool = ThreadPoolExecutor(threads)
    _helpers = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        # After an error or Ctrl-C, the running tasks end at their next progress report.
        stopping.set()
        pool.shutdown(cancel_futures=True)
        _helpers.shutdown(cancel_futures=True)
        _helpers = None
        stopping.clear()


def map_ahead(function: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """Yield `function(item)` in order, for use inside a task.

    Where threads of this process do the work, they also compute `ITEMS_AHEAD` items ahead of the
    caller. So the last task, or the only one, is not left to one core. Elsewhere this is `map`.
    """
    if _helpers is None:
        yield from map(function, items)
        return
    waiting: deque[Future[Made]] = deque()
    try:
        for item in items:
            waiting.append(_helpers.submit(function, item))
            if len(waiting) > ITEMS_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
