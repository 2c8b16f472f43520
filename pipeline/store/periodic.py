"""A thread that repeats one action beside the work of this process."""

import threading
from collections.abc import Callable


class Periodic:
    """Calls an action every `seconds` from `start` to `stop`; the first time after `seconds`."""

    def __init__(self, seconds: float, action: Callable[[], None]) -> None:
        self._seconds = seconds
        self._action = action
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._repeat, daemon=True)

    def start(self) -> None:
        """Start the thread; may be called once."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for an action that is running."""
        self._stop.set()
        self._thread.join()

    def _repeat(self) -> None:
        while not self._stop.wait(self._seconds):
            self._action()
