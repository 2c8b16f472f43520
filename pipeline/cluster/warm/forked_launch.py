"""The launch kind `local` in a process that was forked from a warm one: ranks are forked, too."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from pipeline.cluster.gpus import gpu_count
from pipeline.cluster.launch import WORKER, LaunchPlan, name_ranks, rank_environment
from pipeline.cluster.local_launch import LocalLaunch
from pipeline.config.groups import group_sizes
from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError
from pipeline.work.warm import warm_python

LAUNCHER = "pipeline.cluster.warm.rank_forks"
"""Module of the launcher."""
WHY_NOT_ON_GPUS = (
    "this machine has {gpus} GPUs, and a process that uses one cannot be forked: start the run with "
    "`pipeline train`, or hide the GPUs with CUDA_VISIBLE_DEVICES="
)


def refuse_gpus() -> None:
    """Raise ConfigError where ranks would run on GPUs."""
    gpus = gpu_count()
    if gpus:
        raise ConfigError([WHY_NOT_ON_GPUS.format(gpus=gpus)])


class ForkedLaunch(LocalLaunch):
    """Ranks on the CPU of this machine, forked from the warm process."""

    def plan(self, config: RunConfig, run_file: Path, port: int) -> LaunchPlan:
        """Plan the launcher that forks the ranks. Raises ConfigError where there are GPUs."""
        refuse_gpus()
        ranks = self.rank_count(config)
        command = [LAUNCHER, str(ranks), str(port), WORKER, str(run_file)]
        environment = rank_environment(0, ranks)
        return LaunchPlan(self, command, environment, group_sizes(ranks), name_ranks(0), port)

    def start_launcher(
        self, launch: LaunchPlan, environment: Mapping[str, str], log: IO[bytes]
    ) -> warm_python.ForkedProgram:
        """Have the warm process run the launcher. Raises WarmProcessEnded."""
        warm = warm_python.parent()
        assert warm is not None, "this kind is chosen only in a process that was forked"
        with Path("/dev/null").open("rb") as nothing:
            streams = (nothing, log, log)
            return warm.start(launch.command, environment, streams, own_session=True)

    def is_launcher(self, command: Sequence[str]) -> bool:
        """Tell whether a command line runs the launcher."""
        return LAUNCHER in command
