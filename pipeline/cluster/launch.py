"""Ways to start ranks: the interface of a launch kind, and what all kinds have in common.

Each kind is one class in a file of its own, listed in `pipeline.config.kinds`.
"""

import os
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from pipeline.cluster.ports import free_port
from pipeline.config.groups import GroupSizes
from pipeline.config.kinds import FORKED_LAUNCH_KINDS, LAUNCH_KINDS
from pipeline.config.run_config import RunConfig
from pipeline.store.rank_environment import (
    THREADS_VARIABLE,
    host_memory_variables,
    without_ranks,
)
from pipeline.work.warm import warm_python

WORKER = "pipeline.training.worker"
"""Module that each rank runs, as `python -m`."""
LOOPBACK = "127.0.0.1"


class LauncherProcess(Protocol):
    """A launcher that was started, as `subprocess.Popen` shows it. It leads a session of its own."""

    pid: int
    returncode: int | None
    """Exit code; None until `poll` or `wait` has seen the end."""

    def poll(self) -> int | None:
        """Return the exit code, None while the launcher runs."""
        ...

    def wait(self) -> int:
        """Return the exit code once the launcher has ended."""
        ...


class LaunchKind(ABC):
    """A way to start the ranks of a run. Free of torch and of state."""

    runs_here = False
    """Whether all ranks run on this machine, so that its devices can be checked."""
    ranks_are_set_by: str | None = None
    """What sets the number of ranks, in words; None if `launch.ranks` does."""

    @abstractmethod
    def rank_count(self, config: RunConfig) -> int:
        """Return the number of ranks that `plan` would start."""

    @abstractmethod
    def plan(self, config: RunConfig, run_file: Path, port: int) -> "LaunchPlan":
        """Return ranks, command and environment of a launch.

        Raises UserError if ranks cannot be started from here.
        """

    @abstractmethod
    def meets_here(self, launch: "LaunchPlan") -> bool:
        """Tell whether the ranks meet at a port of this machine."""

    @abstractmethod
    def is_launcher(self, command: Sequence[str]) -> bool:
        """Tell whether a process of the launcher's session is a launcher, not a rank."""

    def hosts_out_of_reach(self, launch: "LaunchPlan") -> str | None:
        """Return which hosts do not answer, None if all do.

        The first line of the text is a summary.
        """
        return None

    def nodes(self, config: RunConfig | None) -> dict[str, str]:
        """Return the name of each node that ranks would run on, and its address for the others.

        Raises UserError if they cannot be known from here. `config` is None where there is no run
        file: only the kind `slurm` can do without.
        """
        return {socket.gethostname(): LOOPBACK}

    def node_command(self, node: str, program: Sequence[str]) -> list[str]:
        """Return the command that runs a program on one of the `nodes`, with its standard input.

        It is to be started with `program_environment`.
        """
        return list(program)

    def start_launcher(
        self, launch: "LaunchPlan", environment: Mapping[str, str], log: IO[bytes]
    ) -> LauncherProcess:
        """Start the launcher in a session of its own, so that Ctrl-C reaches only the supervisor."""
        return subprocess.Popen(
            launch.command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def write_environment(self, launch: "LaunchPlan", more: Mapping[str, str]) -> None:
        """Write the file of variables that the launcher reads, `more` being those of this start.

        Most launchers read no such file.
        """
        return

    def end_remaining(self, launch: "LaunchPlan") -> None:
        """End processes that outlive the launcher's session on this machine; most kinds have none."""
        return


@dataclass(frozen=True)
class LaunchPlan:
    """A launcher process, and the ranks that it will start."""

    kind: LaunchKind
    command: list[str]
    environment: dict[str, str]
    groups: GroupSizes
    """Groups of the ranks that it will start."""
    where: str
    """The ranks in words, after their number: `GPU ranks`."""
    port: int
    """TCP port through which the ranks find each other."""
    hosts: tuple[str, ...] = ()
    """Hosts that ssh must reach."""


def launch_kind(config: RunConfig) -> LaunchKind:
    """Return the object of the kind `launch.kind`; in a forked process, one that forks as well."""
    name = config.launch.kind
    if warm_python.parent() is not None and name in FORKED_LAUNCH_KINDS:
        return FORKED_LAUNCH_KINDS[name]
    return LAUNCH_KINDS[name]


def plan_launch(config: RunConfig, run_file: Path) -> LaunchPlan:
    """Return ranks, port and command for `launch.kind`. Raises UserError if they cannot start."""
    port = config.launch.master_port or free_port()
    return launch_kind(config).plan(config, run_file, port)


def name_ranks(gpus: int) -> str:
    """Return the words for ranks on machines that have `gpus` GPUs each."""
    if gpus:
        return "GPU ranks"
    return "CPU ranks"


def rank_environment(gpus: int, ranks_here: int) -> dict[str, str]:
    """Return the environment of a launcher that starts `ranks_here` ranks on this machine."""
    environment = program_environment() if gpus else cpu_environment()
    cores = len(os.sched_getaffinity(0))
    environment.setdefault(THREADS_VARIABLE, str(max(1, cores // ranks_here)))
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    return environment


def cpu_environment() -> dict[str, str]:
    """Return the environment of a program that is, or forks, ranks on CPUs."""
    return program_environment() | {"DS_ACCELERATOR": "cpu"} | host_memory_variables()


def program_environment() -> dict[str, str]:
    """Return the environment of a program of this package that is not a rank."""
    environment = without_ranks(os.environ)
    package_root = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, [package_root, environment.get("PYTHONPATH")])
    )
    return environment


def deepspeed_program() -> str:
    """Return the path of this Python's deepspeed launcher, else its name for the shell."""
    beside = Path(sys.executable).with_name("deepspeed")
    if beside.exists():
        return str(beside)
    return "deepspeed"


def is_deepspeed_launcher(command: Sequence[str]) -> bool:
    """Tell whether a command line runs a module of deepspeed's launcher."""
    return any(part.startswith("deepspeed.launcher") for part in command)
