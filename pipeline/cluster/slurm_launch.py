"""The launch kind `slurm`: `srun` inside the job's allocation, one task per rank, without ssh."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.cluster.gpus import gpu_count
from pipeline.cluster.launch import WORKER, Launch, LaunchKind, name_ranks, rank_environment
from pipeline.config.groups import group_sizes
from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError, UserError


class SlurmLaunch(LaunchKind):
    """Ranks on the nodes of a Slurm job, as many on each as it has tasks there."""

    ranks_are_set_by = "the allocation"

    def rank_count(self, config: RunConfig) -> int:
        """Return the number of tasks of the allocation."""
        nodes = _node_count()
        return nodes * tasks_per_node(nodes)

    def plan(self, config: RunConfig, run_file: Path, port: int) -> Launch:
        """Start one task per rank in the job's allocation; MASTER_ADDR is the first node.

        Raises UserError outside of an allocation, inside one of its steps, and where
        `launch.ranks` says another number than the allocation.
        """
        _check_place()
        nodes = _node_count()
        per_node = tasks_per_node(nodes)
        ranks = nodes * per_node
        if isinstance(config.launch.ranks, int) and config.launch.ranks != ranks:
            raise ConfigError(
                [
                    f"launch.ranks = {config.launch.ranks}: the allocation has {nodes} nodes x "
                    f"{per_node} tasks; leave it auto"
                ]
            )

        # The environment, which srun carries to every node.
        names = _scontrol("show", "hostnames", os.environ["SLURM_JOB_NODELIST"])
        gpus = gpu_count()
        environment = rank_environment(gpus, per_node)
        environment |= {"MASTER_ADDR": master_address(names.split()[0]), "MASTER_PORT": str(port)}
        cores = os.environ.get("SLURM_CPUS_PER_TASK")
        if cores:  # from Slurm 22.05 on srun does not take it from the batch job
            environment.setdefault("SRUN_CPUS_PER_TASK", cores)

        command = [
            "srun",
            f"--job-name={_step_name(port)}",
            "--kill-on-bad-exit=1",
            f"--ntasks={ranks}",
            f"--ntasks-per-node={per_node}",
        ]
        command += [sys.executable, "-m", WORKER, str(run_file)]
        return Launch(self, command, environment, group_sizes(ranks), name_ranks(gpus), port)

    def meets_here(self, launch: Launch) -> bool:
        """Tell whether this is the first node of the allocation."""
        return "SLURMD_NODENAME" in os.environ and os.environ.get("SLURM_NODEID") == "0"

    def is_launcher(self, command: Sequence[str]) -> bool:
        """Tell `srun` by its name."""
        return list(command[:1]) == ["srun"]

    def end_remaining(self, launch: Launch) -> None:
        """End what is left of the ranks' job step: it outlives a killed `srun` for as long as a
        rank does, and lets none begin."""
        command = [
            "squeue",
            "--steps",
            "--noheader",
            f"--jobs={os.environ['SLURM_JOB_ID']}",
            "--format=%i %j",
        ]
        listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        name = _step_name(launch.port)
        steps = [words[0] for words in map(str.split, listed.splitlines()) if words[1:] == [name]]
        if steps:
            subprocess.run(["scancel", "--signal=KILL", *steps], check=False)


def _check_place() -> None:
    if "SLURM_JOB_ID" not in os.environ:
        raise ConfigError(
            [
                "launch.kind = slurm: there is no allocation (SLURM_JOB_ID); use "
                "jobs/slurm/train.sbatch"
            ]
        )
    if "SLURM_STEP_ID" in os.environ and os.environ.get("SLURM_PROCID") is not None:
        raise UserError(
            "`pipeline train` runs once per job, from the batch script, not inside srun: it calls "
            "srun itself"
        )


def _node_count() -> int:
    return int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))


def tasks_per_node(nodes: int) -> int:
    """Return the tasks on each node of the allocation. Raises ConfigError where nodes have
    different numbers of them."""
    per_node = re.match(r"\d+", os.environ.get("SLURM_NTASKS_PER_NODE", ""))
    if per_node:
        return int(per_node.group())
    tasks = int(os.environ.get("SLURM_NTASKS", nodes))
    if tasks % nodes:
        raise ConfigError(
            [
                f"the allocation has {tasks} tasks on {nodes} nodes: ask for as many on each, "
                "--ntasks-per-node"
            ]
        )
    return tasks // nodes


def _step_name(port: int) -> str:
    """Return the name of the Slurm job step of one start's ranks."""
    return f"pipeline-ranks-{port}"


def master_address(node: str) -> str:
    """Return the name under which all nodes reach the first one."""
    try:
        socket.gethostbyname(node)
    except OSError:  # a node name that is no host name, as on a one-machine test cluster
        address = re.search(r"NodeAddr=(\S+)", _scontrol("show", "node", node))
        if address:
            return address.group(1)
    return node


def _scontrol(*arguments: str) -> str:
    """Return what Slurm's scontrol prints. Raises UserError where there is none, or it gets no
    answer."""
    try:
        asked = subprocess.run(
            ["scontrol", *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise UserError(
            "launch.kind = slurm: SLURM_JOB_ID is set and there is no scontrol on this machine; "
            "call this on a node of the allocation, or set launch.kind to local"
        ) from None
    if asked.returncode:
        raise UserError(
            f"launch.kind = slurm: scontrol says: {asked.stderr.strip()}; mend that, then run the "
            "same command again"
        )
    return asked.stdout
