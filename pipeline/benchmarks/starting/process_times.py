"""CPU seconds of a command and of all that it has started, by what each process is. Reads /proc."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

from pipeline.benchmarks.common import Figures
from pipeline.cluster.launch import WORKER

COMMAND = "command"
PROGRAMS = "programs that have ended"
"""Processes that others have waited for: `git`, checks."""
LAUNCHERS = "launchers"
FORK_SERVER = "fork server"
OTHERS = "other processes"
LAUNCHER_MODULES = ("deepspeed", "pipeline.cluster.warm.rank_forks")
"""Beginnings of the names of programs and modules that start ranks."""
FORK_SERVER_MODULE = "pipeline.work.warm.fork_server"
RANK_ARGUMENT = "--local_rank="
"""Beginning of the argument by which launchers tell a rank its number."""


@dataclass(frozen=True)
class ProcessTime:
    """CPU time of one process, user and system together, since it began."""

    part: str
    """What the process is."""
    own: float
    """CPU seconds of the process itself."""
    ended: float
    """CPU seconds of the processes that it has waited for, and of those that these had waited for."""


def read_process_times(command: psutil.Process) -> dict[int, ProcessTime]:
    """Return process number -> CPU time of a running command and of all processes below it."""
    found: dict[int, ProcessTime] = {}
    for process in (command, *command.children(recursive=True)):
        try:
            # One look at the process, so that the figures are of one moment.
            with process.oneshot():
                times = process.cpu_times()
                arguments = process.cmdline()
        except psutil.Error:
            continue
        part = COMMAND
        if process.pid != command.pid:
            part = part_of(arguments)
        found[process.pid] = ProcessTime(
            part, times.user + times.system, times.children_user + times.children_system
        )
    return found


def part_of(arguments: Sequence[str]) -> str:
    """Return what a process of a training is, from its command line."""
    names = [argument.rpartition("/")[2] for argument in arguments]
    if FORK_SERVER_MODULE in names:
        return FORK_SERVER
    # A launcher's command line names the ranks' module, too; only a rank's has its number.
    ranks = [argument for argument in arguments if argument.startswith(RANK_ARGUMENT)]
    if WORKER in names and ranks:
        return f"rank {ranks[0].removeprefix(RANK_ARGUMENT)}"
    if any(name.startswith(LAUNCHER_MODULES) for name in names):
        return LAUNCHERS
    return OTHERS


def cpu_seconds_of_parts(
    after: Mapping[int, ProcessTime], before: Mapping[int, ProcessTime] | None = None
) -> dict[str, float]:
    """Return part -> CPU seconds, since the look `before` where there was one.

    What processes that were there before have waited for since is left out: it would count the
    whole life of processes that `before` has counted as well.
    """
    earlier = before or {}
    seconds: dict[str, float] = {}
    for pid, process in after.items():
        known = earlier.get(pid)
        spent = process.own
        ended = process.ended
        if known is not None:
            spent -= known.own
            ended = 0.0
        seconds[process.part] = seconds.get(process.part, 0.0) + spent
        seconds[PROGRAMS] = seconds.get(PROGRAMS, 0.0) + ended
    return seconds


def total(seconds: Figures) -> float:
    """Return the sum of all parts."""
    return sum(seconds.values())
