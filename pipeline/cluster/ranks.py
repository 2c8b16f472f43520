"""The launcher of a training job and the ranks below it: started, signalled, ended, cleaned up
after."""

import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from pipeline.cluster.launch import WORKER, Launch
from pipeline.errors import LeaseError
from pipeline.logs import note
from pipeline.store.heartbeat import DUMP_SIGNAL
from pipeline.store.layout import RunFolder
from pipeline.store.processes import own_identity
from pipeline.store.start_order import (
    SUPERVISOR_VARIABLE,
    StartOrderUnclear,
    Supervisor,
    read_start_order,
    remove_start_order,
    write_start_order,
)

LOOK_SECONDS = 5.0


class Ranks:
    """The launcher and everything below it; leaving the context ends and cleans up all of it."""

    def __init__(self, launch: Launch, run_dir: Path, began: float) -> None:
        """Take also when the stage began, in seconds of the epoch: ranks tell where the time since
        then went."""
        self._launch, self._began = launch, began
        self._run_dir = run_dir
        self._told = 0
        self._looked = time.monotonic()

    def __enter__(self) -> "Ranks":
        command_began = psutil.Process().create_time()
        launcher_began = time.time()
        self._start = secrets.token_hex(4)
        supervisor: Supervisor = {
            **own_identity(),
            "times": [command_began, self._began, launcher_began],
            "start": self._start,
        }
        write_start_order(self._run_dir, {"start": self._start, "stop": False})
        told = {SUPERVISOR_VARIABLE: json.dumps(supervisor)}
        environment = self._launch.environment | told
        self._launch.kind.write_environment(self._launch, told)
        with RunFolder(self._run_dir).launcher_log.open("wb") as log:
            self.process = (
                subprocess.Popen(  # a session of its own: Ctrl-C reaches the supervisor only
                    self._launch.command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
        return self

    def __exit__(self, *_: object) -> None:
        if _present_start(self._run_dir) == self._start:
            # Where nothing can be written any more, the rest is ended all the same.
            with suppress(OSError):
                remove_start_order(self._run_dir)
        self._kill()
        self.process.wait()
        self._launch.kind.end_remaining(self._launch)
        for leftover in Path("/dev/shm").glob(f"deepspeed_*_{self._launch.port}_*"):
            leftover.unlink(missing_ok=True)

    def _members(self) -> list[psutil.Process]:
        """All processes of the launcher's session; ranks stay in it when a launcher dies."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.process.pid:
                    found.append(process)
            except (OSError, psutil.Error):
                continue
        return found

    def pass_on(self, stops: int, has_stepped: bool) -> None:
        """Have every rank save and end, once told to stop; more often, or where no step has been
        made, end all at once.

        Ranks read it in a file, wherever they are: launchers would kill them on a signal, and so
        would a signal that meets one before it listens.
        """
        if stops and not self._told and not has_stepped:
            note(
                "train: the ranks have made no step that could be finished and saved: ending at "
                "once"
            )
            self._kill()
        elif stops > 1 and self._told < 2:
            note("train: ending at once")
            self._kill()
        elif stops and not self._told:
            note("train: stopping after this step and a checkpoint (once more: at once)")
            write_start_order(self._run_dir, {"start": self._start, "stop": True})
        self._told = stops

    def _kill(self) -> None:
        for process in self._members():
            _quietly(process.kill)

    def refuse_if_taken_over(self) -> None:
        """Raise LeaseError, every few seconds at most, where another supervisor has started ranks
        of the same run."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            refuse_if_taken_over(self._run_dir, self._start)

    def ask_for_stacks(self) -> None:
        """Have the ranks on this machine write their stacks, whatever holds Python's lock in
        them."""
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
        """Tell whether the launcher is gone."""
        return self.process.poll() is not None


def refuse_if_taken_over(run_dir: Path, start: str | None) -> None:
    """Raise LeaseError where the present start is another one than this supervisor's last, None
    when that has ended.

    Two supervisors would end each other's ranks for ever. It happens to one whose machine stood
    still or lost the file system for so long that its lease was taken over.
    """
    if (present := _present_start(run_dir)) not in (start, None):
        raise LeaseError(
            f"{run_dir}: another `pipeline train` has taken the run over (start {present}); this "
            "one ends"
        )


def _present_start(run_dir: Path) -> str | None:
    try:
        order = read_start_order(run_dir)
    except StartOrderUnclear:
        return None
    return None if order is None else order["start"]


def end_leftovers(run_file: Path) -> None:
    """End ranks of this run that a killed supervisor has left on this machine, before others write
    where they do."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command = process.cmdline()
            if WORKER in command and str(run_file) in command:
                process.kill()
                found.append(process)
    psutil.wait_procs(found, timeout=10)


def _quietly(action: Callable[[], object]) -> None:
    with suppress(psutil.Error):
        action()
