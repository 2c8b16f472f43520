"""Stop a rank: on a signal, at the supervisor's request, or because the supervisor is gone.

Reads the run's lease and the file that names the present start of the ranks.
"""

import json
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from pipeline.store.layout import lease_path
from pipeline.store.lease import heartbeat_age
from pipeline.store.processes import can_be_seen, is_running
from pipeline.store.start_order import (
    SUPERVISOR_VARIABLE,
    StartOrderUnclear,
    Supervisor,
    read_start_order,
)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
POLL_SECONDS = 2.0
"""Time between two looks at the supervisor."""
LOST_AFTER_SECONDS = 25.0
"""Age of the lease's heartbeat at which the supervisor counts as dead.

The lease is refreshed every 5 s, and ranks of a dead supervisor have to end within 30 s.
"""
NOT_OURS_SECONDS = 10.0
"""Time that the start file may name another start: network file systems may show changes late."""
UNREADABLE_SECONDS = 120.0
"""Time that the start file may be unreadable: network file systems may fail for a while."""
STOOD_STILL_SECONDS = 10.0
"""Time between two looks after which this machine or its file system must have stood still."""


class StopSignal:
    """Remembers that the rank has been asked to stop; the loop reads it after every step."""

    def __init__(self) -> None:
        self.requested = False
        for number in SIGNALS:
            signal.signal(number, self._request)

    def _request(self, number: int, frame: Any) -> None:
        self.requested = True


def watch_supervisor(supervisor: Supervisor, run_dir: Path, stop: StopSignal) -> None:
    """Watch the supervisor from a thread; end this process when the supervisor is gone.

    Sets `stop.requested` when the start file asks the ranks to stop. The supervisor is gone when
    its process has ended, where this machine can see that process; elsewhere when its heartbeat on
    the run's lease is old. Ranks also end when the start file names another start.
    """
    lease = lease_path(run_dir)

    def watch() -> None:
        is_local = can_be_seen(supervisor)
        last_look = time.monotonic()
        last_alive = last_look
        last_ours = last_look
        while True:
            time.sleep(POLL_SECONDS)

            # Read the start file, and the heartbeat of a supervisor on another machine.
            order = None
            patience = NOT_OURS_SECONDS
            try:
                order = read_start_order(run_dir)
            except StartOrderUnclear:
                patience = UNREADABLE_SECONDS
            age = None
            if not is_local:
                age = heartbeat_age(lease)

            # After a standstill the values just read may be old: start counting again.
            now = time.monotonic()
            if now - last_look > STOOD_STILL_SECONDS:
                last_alive = now
                last_ours = now
            last_look = now

            # End where the start file has named another start for too long.
            if order is not None and order["start"] == supervisor["start"]:
                last_ours = now
                stop.requested |= order["stop"]
            elif now - last_ours > patience:
                os._exit(1)

            # End where the supervisor is gone.
            if is_local:
                is_alive = is_running(supervisor)
            else:
                if age is not None:
                    last_alive = max(last_alive, now - age)
                is_alive = now - last_alive < LOST_AFTER_SECONDS
            if not is_alive:
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end_older_starts(run_file: Path, start: str) -> None:
    """Kill ranks of earlier starts of a run that are left on this machine.

    A stopped process (SIGSTOP) cannot notice by itself that it should end.
    """
    # Do nothing where this start is itself an earlier one.
    try:
        order = read_start_order(run_file.parent)
    except StartOrderUnclear:
        return
    if order is None or order["start"] != start:
        return

    # Ranks of this run have its run file on their command line and their start in the environment.
    for process in psutil.process_iter():
        with suppress(psutil.Error, ValueError, KeyError):
            if str(run_file) not in process.cmdline():
                continue
            if json.loads(process.environ()[SUPERVISOR_VARIABLE])["start"] != start:
                process.kill()
