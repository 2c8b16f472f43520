"""How ranks are started: what is asked of a kind of launch, and what all kinds have in common.

Each kind is one class in a file of its own, listed in `pipeline.config.kinds`.
"""

import math
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.cluster.ports import free_port
from pipeline.config.groups import GroupSizes, group_sizes
from pipeline.config.kinds import LAUNCH_KINDS
from pipeline.config.run_config import RunConfig
from pipeline.store.rank_environment import without_ranks

WORKER = "pipeline.training.worker"
"""Module that each rank runs."""


class LaunchKind(ABC):
    """One way to start the ranks of a run. It is free of torch, and has no state of its own."""

    runs_here = False
    """Whether all ranks run on this machine, whose devices can be asked what they can compute."""
    ranks_are_set_by: str | None = None
    """What decides the number of ranks, in words; None where `launch.ranks` does."""

    @abstractmethod
    def rank_count(self, config: RunConfig) -> int:
        """Return the number of ranks that `plan` would start."""

    @abstractmethod
    def plan(self, config: RunConfig, run_file: Path, port: int) -> "Launch":
        """Decide ranks, command and environment. Raises UserError where ranks cannot be started
        from here."""

    @abstractmethod
    def meets_here(self, launch: "Launch") -> bool:
        """Tell whether the ranks meet at a port of this machine."""

    @abstractmethod
    def is_launcher(self, command: Sequence[str]) -> bool:
        """Tell whether the command line of a process below the launcher is a launcher's, and not
        a rank's."""

    def hosts_out_of_reach(self, launch: "Launch") -> str | None:
        """Return which hosts do not answer, one line for a start and more after it; None where
        every host answers."""
        return None

    def write_environment(self, launch: "Launch", more: Mapping[str, str]) -> None:
        """Write the variables that the launcher reads from a file before it is started; `more`
        are those of this start. Most launchers read no file."""
        return

    def end_remaining(self, launch: "Launch") -> None:
        """End what outlives the launcher's processes on this machine. Mostly there is nothing."""
        return


@dataclass(frozen=True)
class Launch:
    """One launcher process and the ranks that it will start."""

    kind: LaunchKind
    command: list[str]
    environment: dict[str, str]
    groups: GroupSizes
    """Of the ranks that it will start."""
    where: str
    """What a person calls the ranks."""
    port: int
    hosts: tuple[str, ...] = ()
    """Those that ssh has to reach."""


def launch_kind(config: RunConfig) -> LaunchKind:
    """Return the object that knows how `launch.kind` starts ranks."""
    return LAUNCH_KINDS[config.launch.kind]


def plan_launch(config: RunConfig, run_file: Path) -> Launch:
    """Decide ranks, port and command for `launch.kind`. Raises UserError where it cannot work."""
    port = config.launch.master_port or free_port()
    return launch_kind(config).plan(config, run_file, port)


def dividing_ranks(config: RunConfig, available: int) -> int:
    """Return the largest number of ranks, at most `available`, whose data ranks divide the
    micro-batches of every global batch."""
    pass_tokens = config.tokens_per_pass(group_sizes(1))
    micro_batches = math.gcd(*(tokens // pass_tokens for _, tokens in config.batch_sizes))
    return next(
        ranks
        for ranks in range(min(available, micro_batches), 0, -1)
        if micro_batches % group_sizes(ranks).data == 0
    )


def name_ranks(gpus: int) -> str:
    """Return what a person calls the ranks of machines that each have this number of GPUs."""
    return "GPU ranks" if gpus else "CPU ranks"


def rank_environment(gpus: int, ranks_here: int) -> dict[str, str]:
    """Return the environment of a launcher that starts this number of ranks on a machine."""
    environment = without_ranks(os.environ)
    cores = len(os.sched_getaffinity(0))
    environment.setdefault("OMP_NUM_THREADS", str(max(1, cores // ranks_here)))
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    package_root = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, [package_root, environment.get("PYTHONPATH")])
    )
    if not gpus:
        environment["DS_ACCELERATOR"] = "cpu"
    return environment


def deepspeed_program() -> str:
    """Return the deepspeed launcher of this Python, or the one that the shell finds."""
    beside = Path(sys.executable).with_name("deepspeed")
    return str(beside) if beside.exists() else "deepspeed"


def is_deepspeed_launcher(command: Sequence[str]) -> bool:
    """Tell whether a command line is that of a process by which deepspeed starts ranks."""
    return any(part.startswith("deepspeed.launcher") for part in command)
