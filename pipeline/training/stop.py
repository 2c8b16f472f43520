"""How a rank learns that it should stop: by a signal, or because the supervisor is gone."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from pipeline.lease import heartbeat_age, process_start_time

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
POLL_SECONDS = 2.0
LOST_AFTER_SECONDS = 25.0
"""Ranks of a supervisor that died end within 30 s; its lease is refreshed every 5 s."""


class StopSignal:
    """Remembers that a stop signal came; the loop asks after every step."""

    def __init__(self) -> None:
        self.requested = False
        for number in SIGNALS:
            signal.signal(number, self._request)

    def _request(self, number: int, frame: Any) -> None:
        self.requested = True


def exit_when_orphaned(supervisor: dict[str, Any], lease: Path) -> None:
    """Watch the supervisor from a thread and end this process when it is gone.

    On the supervisor's host by its process, on others by its heartbeat on the run's lease.
    """

    def watch() -> None:
        last_seen = time.monotonic()
        while True:
            time.sleep(POLL_SECONDS)
            if supervisor["host"] == os.uname().nodename:
                alive = process_start_time(supervisor["pid"]) == supervisor["started"]
                if not alive:
                    os._exit(1)
                continue
            age = heartbeat_age(lease)
            if age is not None and age < LOST_AFTER_SECONDS:
                last_seen = time.monotonic()
            elif time.monotonic() - last_seen > LOST_AFTER_SECONDS:
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
