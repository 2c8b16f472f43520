"""The launch kind `local`: the deepspeed launcher on this machine."""

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.cluster.gpus import gpu_count, visible_devices
from pipeline.cluster.launch import (
    WORKER,
    LaunchKind,
    LaunchPlan,
    deepspeed_program,
    is_deepspeed_launcher,
    name_ranks,
    rank_environment,
)
from pipeline.config.batch_division import dividing_ranks
from pipeline.config.groups import group_sizes
from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError

CPU_RANKS = 2
"""Maximum number of ranks on a machine without GPUs while `launch.ranks` is `auto`."""


class LocalLaunch(LaunchKind):
    """Ranks on the GPUs of this machine, or on its CPU."""

    runs_here = True

    def rank_count(self, config: RunConfig) -> int:
        """Return `launch.ranks`, or as many ranks as have devices and divide the batch."""
        if isinstance(config.launch.ranks, int):
            return config.launch.ranks
        return dividing_ranks(config, gpu_count() or CPU_RANKS)

    def plan(self, config: RunConfig, run_file: Path, port: int) -> LaunchPlan:
        """Plan the deepspeed launcher on the visible devices.

        Raises ConfigError for more ranks than GPUs.
        """
        gpus = gpu_count()
        ranks = self.rank_count(config)
        if gpus and ranks > gpus:
            raise ConfigError(
                [f"launch.ranks = {ranks}: this machine has {gpus} GPUs; set it to at most that"]
            )
        command = [deepspeed_program(), "--hostfile", os.devnull]
        environment = rank_environment(gpus, ranks)

        # With --num_gpus, deepspeed ignores CUDA_VISIBLE_DEVICES and takes the first GPUs of the
        # machine.
        names: list[str] = []
        if gpus:
            names = visible_devices(ranks)
        if names and all(name.isdecimal() for name in names):
            command += ["--include", "localhost:" + ",".join(names)]
        else:
            command += ["--num_nodes", "1", "--num_gpus", str(ranks)]
            # The launcher takes only numbers; each rank replaces them by these names.
            if names:
                environment["PIPELINE_VISIBLE_DEVICES"] = ",".join(names)

        command += ["--master_addr", "127.0.0.1", "--master_port", str(port)]
        command += ["--module", WORKER, str(run_file)]
        return LaunchPlan(self, command, environment, group_sizes(ranks), name_ranks(gpus), port)

    def meets_here(self, launch: LaunchPlan) -> bool:
        """Return True: the ranks meet on this machine."""
        return True

    def is_launcher(self, command: Sequence[str]) -> bool:
        """Tell whether a command line runs a module of deepspeed's launcher."""
        return is_deepspeed_launcher(command)
