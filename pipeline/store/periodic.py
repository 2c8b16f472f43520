"""A thread that does one thing again and again beside the work of this process."""

import threading
from collections.abc import Callable


class Periodic:
    """Calls an action every so many seconds from `start` to `stop`, first after those seconds."""

    def __init__(self, seconds: float, action: Callable[[], None]) -> None:
        self._seconds = seconds
        self._action = action
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._repeat, daemon=True)

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for an action that is going on."""
        self._stop.set()
        self._thread.join()

    def _repeat(self) -> None:
        while not self._stop.wait(self._seconds):
            self._action()
