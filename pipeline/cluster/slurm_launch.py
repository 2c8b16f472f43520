"""The launch kind `slurm`: `srun` inside an allocation, one task per rank, without ssh."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.cluster.gpus import gpu_count
from pipeline.cluster.launch import WORKER, LaunchKind, LaunchPlan, name_ranks, rank_environment
from pipeline.config.groups import group_sizes
from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError, UserError


class SlurmLaunch(LaunchKind):
    """Ranks on the nodes of a Slurm job, one for each task of the allocation."""

    ranks_are_set_by = "the allocation"

    def rank_count(self, config: RunConfig) -> int:
        """Return the number of tasks of the allocation."""
        nodes = _node_count()
        return nodes * tasks_per_node(nodes)

    def plan(self, config: RunConfig, run_file: Path, port: int) -> LaunchPlan:
        """Plan one task per rank in the allocation; MASTER_ADDR is its first node.

        Raises UserError outside an allocation, inside a step of one, and if `launch.ranks` is not
        the number of its tasks.
        """
        _check_place()
        nodes = _node_count()
        per_node = tasks_per_node(nodes)
        ranks = nodes * per_node
        if isinstance(config.launch.ranks, int) and config.launch.ranks != ranks:
            raise ConfigError(
                [
                    f"launch.ranks = {config.launch.ranks}: must equal the tasks of the allocation, "
                    f"{nodes} nodes x {per_node} tasks; set launch.ranks to auto"
                ]
            )

        # srun passes the environment on to every node.
        names = _node_names()
        gpus = gpu_count()
        environment = rank_environment(gpus, per_node)
        environment |= {"MASTER_ADDR": master_address(names[0]), "MASTER_PORT": str(port)}
        cores = os.environ.get("SLURM_CPUS_PER_TASK")
        # From Slurm 22.05 on srun does not take this number from the batch job.
        if cores:
            environment.setdefault("SRUN_CPUS_PER_TASK", cores)

        command = [
            "srun",
            f"--job-name={_step_name(port)}",
            "--kill-on-bad-exit=1",
            f"--ntasks={ranks}",
            f"--ntasks-per-node={per_node}",
        ]
        command += [sys.executable, "-m", WORKER, str(run_file)]
        return LaunchPlan(self, command, environment, group_sizes(ranks), name_ranks(gpus), port)

    def meets_here(self, launch: LaunchPlan) -> bool:
        """Tell whether this is the first node of the allocation."""
        return "SLURMD_NODENAME" in os.environ and os.environ.get("SLURM_NODEID") == "0"

    def nodes(self, config: RunConfig | None) -> dict[str, str]:
        """Return the nodes of the allocation, each with the address that the others reach.

        Raises UserError outside an allocation.
        """
        if "SLURM_JOB_ID" not in os.environ:
            raise ConfigError(
                [
                    "launch.kind = slurm: this process is in no Slurm job (SLURM_JOB_ID is not set), "
                    "so no node can be looked at; run it inside an allocation like that of the "
                    "training, for example `salloc --nodes=2 pipeline doctor run.yaml`"
                ]
            )
        return {name: master_address(name) for name in _node_names()}

    def node_command(self, node: str, program: Sequence[str]) -> list[str]:
        """Return the `srun` command of a step with one task on a node, on all of its cores."""
        place = ["--nodes=1", "--ntasks=1", "--ntasks-per-node=1", f"--nodelist={node}"]
        # Beside any other step of the job.
        share = ["--overlap", "--cpu-bind=none", "--job-name=pipeline-doctor"]
        return ["srun", *place, *share, *program]

    def is_launcher(self, command: Sequence[str]) -> bool:
        """Tell whether a command line is that of `srun`."""
        return list(command[:1]) == ["srun"]

    def end_remaining(self, launch: LaunchPlan) -> None:
        """End the job step of the ranks.

        It outlives a killed `srun` while a rank lives, and the next step would wait for it.
        """
        command = [
            "squeue",
            "--steps",
            "--noheader",
            f"--jobs={os.environ['SLURM_JOB_ID']}",
            "--format=%i %j",
        ]
        listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        name = _step_name(launch.port)
        rows = [line.split() for line in listed.splitlines()]
        steps = [row[0] for row in rows if row[1:] == [name]]
        if steps:
            subprocess.run(["scancel", "--signal=KILL", *steps], check=False)


def _check_place() -> None:
    """Raise UserError if this process is not the batch script of a Slurm job."""
    if "SLURM_JOB_ID" not in os.environ:
        raise ConfigError(
            [
                "launch.kind = slurm: this process is in no Slurm job (SLURM_JOB_ID is not set); "
                "submit jobs/slurm/train.sbatch"
            ]
        )
    if "SLURM_STEP_ID" in os.environ and os.environ.get("SLURM_PROCID") is not None:
        raise UserError(
            "`pipeline train` runs once per job, from the batch script, not inside srun: it starts "
            "srun itself"
        )


def _node_names() -> list[str]:
    """Return the names of the nodes of the allocation. Raises UserError where they are not known."""
    listed = os.environ.get("SLURM_JOB_NODELIST")
    if listed is None:
        raise ConfigError(
            [
                "launch.kind = slurm: SLURM_JOB_ID is set, but SLURM_JOB_NODELIST is not, so the nodes "
                "of the job are not known; run this inside an allocation (sbatch, salloc), or unset "
                "SLURM_JOB_ID"
            ]
        )
    return _scontrol("show", "hostnames", listed).split()


def _node_count() -> int:
    return int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))


def tasks_per_node(nodes: int) -> int:
    """Return the number of tasks on each node of the allocation.

    Raises ConfigError if the tasks cannot be the same number on all nodes.
    """
    per_node = re.match(r"\d+", os.environ.get("SLURM_NTASKS_PER_NODE", ""))
    if per_node:
        return int(per_node.group())
    tasks = int(os.environ.get("SLURM_NTASKS", nodes))
    if tasks % nodes:
        raise ConfigError(
            [
                f"the allocation has {tasks} tasks on {nodes} nodes: request equally many on "
                "each with --ntasks-per-node"
            ]
        )
    return tasks // nodes


def _step_name(port: int) -> str:
    """Return the name of the Slurm job step in which the ranks of one start run."""
    return f"pipeline-ranks-{port}"


def master_address(node: str) -> str:
    """Return the name or address under which all nodes reach `node`, the first one."""
    try:
        socket.gethostbyname(node)
    except OSError:
        # The node name is no host name, for example on a test cluster of one machine.
        address = re.search(r"NodeAddr=(\S+)", _scontrol("show", "node", node))
        if address:
            return address.group(1)
    return node


def _scontrol(*arguments: str) -> str:
    """Return the output of Slurm's scontrol. Raises UserError if it is missing or fails."""
    try:
        answer = subprocess.run(
            ["scontrol", *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise UserError(
            "launch.kind = slurm: SLURM_JOB_ID is set, but this machine has no scontrol; "
            "run this on a node of the allocation, or set launch.kind to local"
        ) from None
    if answer.returncode:
        raise UserError(
            f"launch.kind = slurm: scontrol fails: {answer.stderr.strip()}; repair this, then run "
            "the same command again"
        )
    return answer.stdout
