"""Requests to stop a training job: counted from signals and from the time limit."""

import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from pipeline.cluster.time_limit import TimeLimit
from pipeline.logs import note


class StopRequest:
    """What signals or the time limit have asked for, over all starts of the ranks."""

    count = 0
    """0: run on. 1: save and end. More: end at once."""
    is_out_of_time = False
    """Whether a time limit asks: the supervisor's own, or the batch system's, by SIGUSR1."""
    has_stepped = False
    """Whether the present ranks have made a step, so that they can save."""
    _is_asked_to_end = False

    def take(self, number: int) -> None:
        """Count a signal.

        A second Ctrl-C asks to end at once. A batch system that first warns and then ends the job
        does not: the time in between is meant for the save that the warning began.
        """
        is_repeated = number == signal.SIGTERM and self._is_asked_to_end
        if number == signal.SIGINT or is_repeated:
            self.count += 1
        else:
            self.count = max(self.count, 1)
        self._is_asked_to_end |= number in (signal.SIGINT, signal.SIGTERM)
        self.is_out_of_time |= number == signal.SIGUSR1

    def take_time(self, limit: TimeLimit) -> None:
        """Ask to save and end once the time limit is near."""
        if self.count or not limit.is_near():
            return
        self.count = 1
        self.is_out_of_time = True
        note(f"train: the time limit is {limit.margin:.0f} s away")


@contextmanager
def stop_signals() -> Generator[StopRequest]:
    """Count SIGINT, SIGTERM, SIGUSR1 and SIGHUP (a closed terminal) as requests to stop."""
    stop = StopRequest()

    def handler(number: int, frame: FrameType | None) -> None:
        stop.take(number)

    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]
    # Under nohup SIGHUP is ignored, and stays so.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield stop
    finally:
        for number, old_handler in before.items():
            signal.signal(number, old_handler)
