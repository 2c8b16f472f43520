"""Where the time from the command to the first step went: measured in every run, in events.jsonl
and on the screen."""

import time
from pathlib import Path

import psutil

from pipeline.store.events import FIRST_STEP, write_event
from pipeline.store.heartbeat import Heartbeat, NoHeartbeat
from pipeline.store.start_order import supervisor_of_this_rank


class StartUpTimes:
    """Names the stretches of time between the command and the first step; made when a rank has
    imported everything."""

    def __init__(self, heartbeat: Heartbeat | NoHeartbeat) -> None:
        """Begin with what came before: the command and stages before this one, the launcher, this
        process, its imports.

        Processes on two machines measure by their own clocks. Without a supervisor (in tests) it
        begins with this process.
        """
        born = psutil.Process().create_time()
        supervisor = supervisor_of_this_rank()
        times = [born, born, born] if supervisor is None else supervisor["times"]
        self._commanded, self._began, launched = times
        self._last = time.time()
        self.seconds = {
            "before_train": self._began - self._commanded,
            "plan": launched - self._began,
        }
        self.seconds |= {"launcher": born - launched, "imports": self._last - born}
        self._is_over = False
        self._heartbeat = heartbeat
        heartbeat.beat("start: imported")

    def mark(self, phase: str) -> None:
        """Give the time since the last mark a name."""
        now = time.time()
        self.seconds[phase] = now - self._last
        self._last = now
        self._heartbeat.beat(f"start: done with {phase}")

    def first_step(self, run_dir: Path) -> None:
        """Record the first completed step, once; later calls do nothing."""
        if self._is_over:
            return
        self._is_over = True
        self.mark("first_step")
        total = self._last - self._commanded
        own = self._last - self._began
        phases = [item for item in self.seconds.items() if item[0] != "before_train"]
        largest = sorted(phases, key=lambda item: -item[1])[:3]
        shares = ", ".join(f"{name.replace('_', ' ')} {seconds:.1f} s" for name, seconds in largest)
        write_event(
            run_dir,
            FIRST_STEP,
            seconds=round(total, 2),
            phases={name: round(seconds, 3) for name, seconds in self.seconds.items()},
            message=f"first step {own:.1f} s after train began ({shares}, ...), {total:.1f} s after the command",
        )
