"""Measure the time from the command to the first step, phase by phase.

Writes the `first step` event, which the supervisor prints.
"""

import time
from collections.abc import Mapping
from pathlib import Path

from pipeline.store.events import FIRST_STEP, write_event
from pipeline.store.heartbeat import Heartbeat, NoHeartbeat
from pipeline.store.processes import beginning_of_this_process
from pipeline.store.start_order import supervisor_of_this_rank


class StartUpTimes:
    """Seconds of each phase between the command and the first step, and the rank's CPU seconds.

    Made when a rank has finished its imports.
    """

    def __init__(self, heartbeat: Heartbeat | NoHeartbeat) -> None:
        """Compute the phases before this point: earlier stages, plan, launcher, imports.

        Without a supervisor (in tests) the time begins with this process. The times of processes on
        two machines come from two clocks.
        """
        process_start = beginning_of_this_process()
        supervisor = supervisor_of_this_rank()
        times = [process_start, process_start, process_start]
        if supervisor is not None:
            times = supervisor["times"]
        self._command_time, self._train_start, launch_time = times
        self._last = time.time()
        self.seconds = {
            "before_train": self._train_start - self._command_time,
            "plan": launch_time - self._train_start,
            "launcher": process_start - launch_time,
            "imports": self._last - process_start,
        }
        self._cpu_last = time.process_time()
        self.cpu_seconds = {"imports": self._cpu_last}
        self._is_over = False
        self._heartbeat = heartbeat
        heartbeat.beat("start: imported")

    def mark(self, phase: str) -> None:
        """Count the time since the last mark as the phase `phase`."""
        now = time.time()
        self.seconds[phase] = now - self._last
        self._last = now
        cpu_now = time.process_time()
        self.cpu_seconds[phase] = cpu_now - self._cpu_last
        self._cpu_last = cpu_now
        self._heartbeat.beat(f"start: done with {phase}")

    def first_step(self, run_dir: Path) -> None:
        """Write the `first step` event at the first call; later calls do nothing."""
        # The first step is the last phase.
        if self._is_over:
            return
        self._is_over = True
        self.mark("first_step")

        # The message names the three longest phases of the stage.
        total = self._last - self._command_time
        of_train = self._last - self._train_start
        phases = [item for item in self.seconds.items() if item[0] != "before_train"]
        largest = sorted(phases, key=lambda item: -item[1])[:3]
        shares = ", ".join(f"{name.replace('_', ' ')} {seconds:.1f} s" for name, seconds in largest)
        write_event(
            run_dir,
            FIRST_STEP,
            seconds=round(total, 2),
            phases=_rounded(self.seconds),
            cpu_phases=_rounded(self.cpu_seconds),
            message=(
                f"first step {of_train:.1f} s after train began ({shares}, ...), {total:.1f} s "
                "after the command"
            ),
        )


def _rounded(phases: Mapping[str, float]) -> dict[str, float]:
    return {name: round(seconds, 3) for name, seconds in phases.items()}
