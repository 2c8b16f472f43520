"""Writes the energy that the ranks report in their heartbeats to events.jsonl."""

import time
from pathlib import Path

from pipeline.store.events import ENERGY, write_event
from pipeline.store.heartbeat import energy_of_all_ranks

WRITE_SECONDS = 600.0
"""Time between two events of one start: a supervisor that is killed loses this much at most."""


class EnergyWatch:
    """Writes an event now and then, while the ranks run."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._written = time.monotonic()

    def look(self) -> None:
        """Write the energy so far if the last event is WRITE_SECONDS old."""
        now = time.monotonic()
        if now - self._written >= WRITE_SECONDS:
            self._written = now
            write_energy(self._run_dir)


def write_energy(run_dir: Path) -> None:
    """Write the energy of this start so far; nothing where no device tells it."""
    reading = energy_of_all_ranks(run_dir)
    if reading is not None:
        write_event(
            run_dir,
            ENERGY,
            joules=round(reading["joules"], 1),
            seconds=round(reading["seconds"], 1),
        )
