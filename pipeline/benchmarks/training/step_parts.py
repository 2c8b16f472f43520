"""Which part of a step takes which CPU time: functions that are timed where they stand.

A part's time is that of its functions without the parts that they call, so that parts add up to a
step.
"""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

FORWARD = "forward"
BACKWARD = "backward"
UPDATE = "clip and update"
REST = "rest"
"""What no part has: Python between the parts."""
THREADS = "other threads"
"""Threads that read ahead, beat the heart and check files."""


class PartTimer:
    """Adds up the CPU seconds of parts by name, in one thread, over some steps."""

    def __init__(self, warm_up: int, steps: int) -> None:
        """Count `steps` steps after `warm_up` of them, which is at least one."""
        self.seconds: dict[str, float] = {}
        self._steps_to_come = warm_up
        self._steps = steps
        self._inner = [0.0]
        """Seconds of the parts inside each part that is running, outermost first."""
        self._thread = 0.0
        self._process = 0.0

    @contextmanager
    def time(self, part: str) -> Generator[None]:
        """Add the time until the context is left to a part, but for what inner parts take of it."""
        self._inner.append(0.0)
        started = time.thread_time()
        try:
            yield
        finally:
            whole = time.thread_time() - started
            inner = self._inner.pop()
            self._inner[-1] += whole
            self.seconds[part] = self.seconds.get(part, 0.0) + whole - inner

    def mark(self) -> None:
        """Count a completed step; begin after the last that warms up, and end with the last one."""
        self._steps_to_come -= 1
        if self._steps_to_come:
            return
        thread = time.thread_time()
        process = time.process_time()
        if self._process:
            self._end(thread - self._thread, process - self._process)
            return
        self.seconds.clear()
        self._thread, self._process = thread, process
        self._steps_to_come = self._steps

    def _end(self, thread: float, process: float) -> None:
        parts = {part: seconds / self._steps for part, seconds in self.seconds.items()}
        rest = thread / self._steps - sum(parts.values())
        self.seconds = {**parts, REST: rest, THREADS: (process - thread) / self._steps}


class TimedFunction(NamedTuple):
    """A function that belongs to a part."""

    part: str
    owner: Any
    """The class or module that has it."""
    name: str


@contextmanager
def timed(timer: PartTimer, functions: Sequence[TimedFunction]) -> Generator[None]:
    """Time functions wherever they are called, until the context is left."""
    originals = [getattr(function.owner, function.name) for function in functions]
    for function, original in zip(functions, originals, strict=True):
        setattr(function.owner, function.name, _with_timer(timer, function.part, original))
    try:
        yield
    finally:
        for function, original in zip(functions, originals, strict=True):
            setattr(function.owner, function.name, original)


def _with_timer(timer: PartTimer, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        with timer.time(part):
            return function(*arguments, **named)

    return call


def functions_of_our_loop() -> list[TimedFunction]:
    """Return the parts of a step that only our loop has."""
    from pipeline.engine.noise_scale import MicroBatchGradients
    from pipeline.model import language_model
    from pipeline.store.heartbeat import Heartbeat
    from pipeline.training import loop, train_step

    return [
        TimedFunction(UPDATE, train_step, "clip_gradients"),
        TimedFunction("head and losses, with their gradients", language_model, "head_losses"),
        TimedFunction("noise scale", MicroBatchGradients, "_add"),
        TimedFunction("noise scale", MicroBatchGradients, "take"),
        TimedFunction("agreement of the ranks", train_step, "_agree"),
        TimedFunction("guards", loop, "_guard_step"),
        TimedFunction("records", loop, "_write"),
        TimedFunction("records", Heartbeat, "beat"),
    ]
