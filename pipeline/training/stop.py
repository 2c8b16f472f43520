"""How a rank learns that it should stop: by a signal, or because the supervisor is gone."""

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
LOST_AFTER_SECONDS = 25.0
"""Ranks of a supervisor that died end within 30 s; its lease is refreshed every 5 s."""
NOT_OURS_SECONDS = 10.0
UNREADABLE_SECONDS = 120.0
"""Network file systems may show another machine's file late, and fail for a while."""
STOOD_STILL_SECONDS = 10.0


class StopSignal:
    """Remembers that a stop signal came; the loop asks after every step."""

    def __init__(self) -> None:
        self.requested = False
        for number in SIGNALS:
            signal.signal(number, self._request)

    def _request(self, number: int, frame: Any) -> None:
        self.requested = True


def watch_supervisor(supervisor: Supervisor, run_dir: Path, stop: StopSignal) -> None:
    """Watch the supervisor from a thread: end this process when it is gone, stop when it says so.

    Whether it is gone is seen by its process where that can be seen from here, elsewhere by its
    heartbeat on the run's lease, and by the file that names the present start of the ranks.
    """
    lease = lease_path(run_dir)

    def watch() -> None:
        is_here = can_be_seen(supervisor)
        last_seen = last_ours = last_look = time.monotonic()
        while True:
            time.sleep(POLL_SECONDS)
            order = None
            patience = NOT_OURS_SECONDS
            try:
                order = read_start_order(run_dir)
            except StartOrderUnclear:
                patience = UNREADABLE_SECONDS
            age = None if is_here else heartbeat_age(lease)
            now = time.monotonic()
            if (
                now - last_look > STOOD_STILL_SECONDS
            ):  # this machine, or its file system: what was read is old
                last_seen = last_ours = now
            last_look = now
            if order is not None and order["start"] == supervisor["start"]:
                last_ours = now
                stop.requested |= order["stop"]
            elif now - last_ours > patience:
                os._exit(1)
            if is_here:
                is_alive = is_running(supervisor)
            else:
                last_seen = last_seen if age is None else max(last_seen, now - age)
                is_alive = now - last_seen < LOST_AFTER_SECONDS
            if not is_alive:
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end_older_starts(run_file: Path, start: str) -> None:
    """End what is left on this machine of earlier starts of a run: a stopped process cannot see
    that it is not wanted."""
    try:
        order = read_start_order(run_file.parent)
    except StartOrderUnclear:
        return
    if order is None or order["start"] != start:  # this one is an earlier one itself
        return
    for process in psutil.process_iter():
        with suppress(psutil.Error, ValueError, KeyError):
            if str(run_file) not in process.cmdline():
                continue
            if json.loads(process.environ()[SUPERVISOR_VARIABLE])["start"] != start:
                process.kill()
