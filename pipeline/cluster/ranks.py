"""The launcher of one start and its ranks: starting, stopping and ending them, cleaning up.

Writes the order for the ranks (`pipeline/store/start_order.py`), `logs/launcher.log`, and events when
a launcher begins and when its ranks have ended.
"""

import json
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from pipeline.cluster.energy_event import write_energy
from pipeline.cluster.launch import WORKER, LaunchPlan
from pipeline.cluster.ports import remove_shared_memory
from pipeline.cluster.time_limit import submit_time_of_slurm_job
from pipeline.errors import LeaseError
from pipeline.logs import note
from pipeline.store.events import LAUNCH, RANKS_ENDED, write_event
from pipeline.store.heartbeat import DUMP_SIGNAL
from pipeline.store.layout import RunFolder
from pipeline.store.processes import beginning_of_this_process, own_identity
from pipeline.store.start_order import (
    SUPERVISOR_VARIABLE,
    StartOrderUnclear,
    Supervisor,
    read_start_order,
    remove_start_order,
    write_start_order,
)

LOOK_SECONDS = 5.0
"""Time between two looks for another supervisor."""


class Ranks:
    """The launcher and its ranks; leaving the context ends and cleans up all of them."""

    def __init__(self, launch: LaunchPlan, run_dir: Path, began: tuple[float, float]) -> None:
        """Take also when the stage and the launcher's work began, in seconds of the epoch.

        From these come the ranks' start-up times.
        """
        self._launch = launch
        self._began = began
        self._run_dir = run_dir
        self._stops_passed_on = 0
        self._looked = time.monotonic()

    def __enter__(self) -> "Ranks":
        # The ranks learn from their environment which start they belong to.
        command_began = beginning_of_this_process()
        self._start = secrets.token_hex(4)
        supervisor: Supervisor = {
            **own_identity(),
            "times": [command_began, *self._began],
            "start": self._start,
        }
        write_start_order(self._run_dir, {"start": self._start, "stop": False})
        variables = {SUPERVISOR_VARIABLE: json.dumps(supervisor)}
        self._launch.kind.write_environment(self._launch, variables)
        write_event(
            self._run_dir,
            LAUNCH,
            ranks=self._launch.groups.world,
            launcher_began=self._began[1],
            command_began=command_began,
            submitted=submit_time_of_slurm_job(),
        )

        environment = self._launch.environment | variables
        with RunFolder(self._run_dir).launcher_log.open("wb") as log:
            self.process = self._launch.kind.start_launcher(self._launch, environment, log)
        return self

    def __exit__(self, *_: object) -> None:
        is_present = _present_start(self._run_dir) == self._start
        if is_present:
            # On a disk that cannot be written the ranks are ended all the same.
            with suppress(OSError):
                remove_start_order(self._run_dir)
        self._kill()
        self.process.wait()
        self._launch.kind.end_remaining(self._launch)
        remove_shared_memory(self._launch.port)
        # After a takeover the run folder is another supervisor's.
        if is_present:
            with suppress(OSError):
                write_energy(self._run_dir)
                write_event(self._run_dir, RANKS_ENDED)

    def _members(self) -> list[psutil.Process]:
        """Return the processes of the launcher's session; ranks stay in it if the launcher dies."""
        members: list[psutil.Process] = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.process.pid:
                    members.append(process)
            except (OSError, psutil.Error):
                continue
        return members

    def pass_on(self, stops: int, has_stepped: bool) -> None:
        """Have the ranks save and end at the first request to stop.

        At the second request, or if no step has been made, all ranks end at once. They read the
        request in a file on any node, because a launcher kills its ranks on a signal, and a signal
        kills a rank that does not handle signals yet.
        """
        before = self._stops_passed_on
        if stops and not before and not has_stepped:
            note("train: ending at once: the ranks have not made a step yet, so nothing to save")
            self._kill()
        elif stops > 1 and before < 2:
            note("train: ending at once")
            self._kill()
        elif stops and not before:
            note("train: saving after this step, then stopping (a second signal: stop at once)")
            write_start_order(self._run_dir, {"start": self._start, "stop": True})
        self._stops_passed_on = stops

    def _kill(self) -> None:
        for process in self._members():
            _quietly(process.kill)

    def refuse_if_taken_over(self) -> None:
        """Raise LeaseError if another supervisor runs the job; looks every LOOK_SECONDS."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            refuse_if_taken_over(self._run_dir, self._start)

    def ask_for_stacks(self) -> None:
        """Have the ranks on this machine write their stacks, even if one holds Python's lock."""
        for process in self._members():
            if self._is_rank(process):
                _quietly(lambda process=process: process.send_signal(DUMP_SIGNAL))

    def _is_rank(self, process: psutil.Process) -> bool:
        try:
            command = process.cmdline()
        except psutil.Error:
            return False
        runs_worker = WORKER in command and "-m" in command
        return runs_worker and not self._launch.kind.is_launcher(command)

    def has_ended(self) -> bool:
        """Tell whether the launcher has ended."""
        return self.process.poll() is not None


def refuse_if_taken_over(run_dir: Path, start: str | None) -> None:
    """Raise LeaseError if the present start of the ranks is not `start`.

    `start` is the last one of this supervisor, None if that has ended. A supervisor whose machine
    stood still or lost the file system for long loses its lease; without this check two
    supervisors would end each other's ranks for ever.
    """
    present = _present_start(run_dir)
    if present is not None and present != start:
        raise LeaseError(
            f"{run_dir}: another `pipeline train` has taken the run over (start {present}); this "
            "one ends"
        )


def _present_start(run_dir: Path) -> str | None:
    try:
        order = read_start_order(run_dir)
    except StartOrderUnclear:
        return None
    if order is None:
        return None
    return order["start"]


def end_leftovers(run_file: Path) -> None:
    """End ranks that a killed supervisor has left on this machine.

    Otherwise they would write to the same files as the next ones.
    """
    leftovers: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command = process.cmdline()
            if WORKER in command and str(run_file) in command:
                process.kill()
                leftovers.append(process)
    psutil.wait_procs(leftovers, timeout=10)


def _quietly(action: Callable[[], object]) -> None:
    with suppress(psutil.Error):
        action()
