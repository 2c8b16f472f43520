"""The launch kind `hostfile`: the deepspeed launcher on the hosts of a file, through pdsh and ssh.

Reads `launch.hostfile`; writes `run_dir/launch_environment`, the variables for ranks on other hosts.
"""

import os
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.cluster.launch import (
    WORKER,
    LaunchKind,
    LaunchPlan,
    deepspeed_program,
    is_deepspeed_launcher,
    program_environment,
    rank_environment,
)
from pipeline.config.groups import group_sizes
from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError
from pipeline.store.files import write_atomic
from pipeline.store.layout import run_folder

ENVIRONMENT_VARIABLE = "DS_ENV_FILE"
"""Variable that names the file from which DeepSpeed's launcher reads variables for other hosts."""
CARRIED = (
    "CUDA_DEVICE", "DS_ACCELERATOR", "GLIBC_TUNABLES", "GLOO_", "HF_", "LD_LIBRARY_PATH", "MALLOC_", "NCCL_",
    "OMP_", "PATH", "PIPELINE_", "PYTHON", "TOKENIZERS_", "TORCH", "TRANSFORMERS_", "TRITON_", "UCX_", "WANDB_",
)  # fmt: skip
"""Prefixes of the variables that are passed on to ranks on other hosts."""
SECRETS = ("_TOKEN", "_KEY", "_SECRET", "_PASSWORD")
"""Suffixes of variables that are never written to a file or command line.

Their owner sets them on each host.
"""
REACH_SECONDS = 10
"""Time to connect to a host."""
LOGIN_SECONDS = 30
"""Time for a command on a host to end; a login can also hang, for example on a home folder."""


class HostfileLaunch(LaunchKind):
    """Ranks on the hosts of `launch.hostfile`, one for each slot."""

    ranks_are_set_by = "launch.hostfile"

    def rank_count(self, config: RunConfig) -> int:
        """Return the number of slots of all hosts together."""
        return sum(read_hostfile(config).values())

    def plan(self, config: RunConfig, run_file: Path, port: int) -> LaunchPlan:
        """Plan the deepspeed launcher on all hosts of the hostfile; MASTER_ADDR is the first one.

        Raises ConfigError for a wrong hostfile, without pdsh, and if `launch.ranks` is not the
        number of slots.
        """
        slots = read_hostfile(config)
        ranks = sum(slots.values())
        if isinstance(config.launch.ranks, int) and config.launch.ranks != ranks:
            raise ConfigError(
                [
                    f"launch.ranks = {config.launch.ranks}: launch.hostfile has {ranks} slots; "
                    "set it to auto, or change the slots"
                ]
            )
        if not shutil.which("pdsh"):
            raise ConfigError(
                [
                    "launch.kind = hostfile: pdsh is not installed (Debian: apt install pdsh); it also "
                    "needs ssh without a password"
                ]
            )

        # The launcher reads the variables for other hosts from a file.
        environment = rank_environment(1, max(slots.values()))
        environment[ENVIRONMENT_VARIABLE] = str(run_folder(config).launch_environment)
        # Each host counts its own cores.
        if "OMP_NUM_THREADS" not in os.environ:
            environment.pop("OMP_NUM_THREADS")

        command = [deepspeed_program(), "--hostfile", str(config.launch.hostfile), "--force_multi"]
        command += ["--master_addr", next(iter(slots)), "--master_port", str(port)]
        command += ["--module", WORKER, str(run_file)]
        where = f"ranks on {len(slots)} hosts"
        return LaunchPlan(self, command, environment, group_sizes(ranks), where, port, tuple(slots))

    def meets_here(self, launch: LaunchPlan) -> bool:
        """Tell whether this machine is the first in the hostfile, where the ranks meet."""
        names = ("localhost", socket.gethostname(), socket.getfqdn())
        return launch.hosts[0] in names

    def is_launcher(self, command: Sequence[str]) -> bool:
        """Tell whether a command line runs a module of deepspeed's launcher."""
        return is_deepspeed_launcher(command)

    def hosts_out_of_reach(self, launch: LaunchPlan) -> str | None:
        """Return the hosts that do not answer pdsh, None if all do.

        Ranks on the other hosts would wait for theirs, and pdsh for those ranks.
        """
        # Every host gets the same time, and all are tried at once.
        limits = ["-t", str(REACH_SECONDS), "-u", str(LOGIN_SECONDS)]
        command = ["pdsh", "-S", *limits, "-f", "1024", "-w", ",".join(launch.hosts), "true"]
        answer = subprocess.run(
            command,
            env=launch.environment | {"PDSH_RCMD_TYPE": "ssh"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode == 0:
            return None

        # pdsh prints a line for each host that fails.
        lines = [line for line in answer.stderr.splitlines() if line.strip()]
        silent = [
            host
            for host in launch.hosts
            if any(f" {host}: " in line and line.startswith("pdsh@") for line in lines)
        ]
        return "\n".join(
            [f"no answer by ssh from {', '.join(silent) or 'a host'} of launch.hostfile", *lines]
        )

    def nodes(self, config: RunConfig | None) -> dict[str, str]:
        """Return the hosts of the hostfile, each with its name as its address.

        Raises ConfigError for a wrong hostfile.
        """
        assert config is not None, "the run file names the hostfile"
        return {host: host for host in read_hostfile(config)}

    def node_command(self, node: str, program: Sequence[str]) -> list[str]:
        """Return the ssh command that runs a program on a host, as pdsh would call it.

        pdsh itself would start it on all hosts with one output, and tells less of a host that fails.
        """
        options = ["BatchMode=yes", f"ConnectTimeout={REACH_SECONDS}"]
        # A host that falls silent ends the connection.
        options += ["ServerAliveInterval=5", "ServerAliveCountMax=3"]
        settings = [part for option in options for part in ("-o", option)]
        carried = [
            f"{name}={value}" for name, value in carried_variables(program_environment()).items()
        ]
        remote = shlex.join(["env", *carried, *program])
        return ["ssh", *settings, node, remote]

    def write_environment(self, launch: LaunchPlan, more: Mapping[str, str]) -> None:
        """Write the variables for other hosts; only their owner can read the file."""
        variables = environment_of_hosts(launch, more)
        write_atomic(Path(launch.environment[ENVIRONMENT_VARIABLE]), variables, mode=0o600)


def read_hostfile(config: RunConfig) -> dict[str, int]:
    """Return the number of ranks of each host in `launch.hostfile`, in its order.

    Raises ConfigError if the file is not set, cannot be read, has a wrong line or names no host.
    """
    path = config.launch.hostfile
    if path is None:
        raise ConfigError(
            ["launch.kind = hostfile: needs launch.hostfile, a file with lines `HOST slots=N`"]
        )
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(
            [f"launch.hostfile = {path}: cannot be read ({error.strerror})"]
        ) from None

    # Each line is one host; comments and empty lines are left out.
    slots: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        place = f"launch.hostfile = {path}: line {number} ({text!r})"
        host = re.fullmatch(r"(\S+)\s+slots=([1-9]\d*)", text)
        if host is None:
            raise ConfigError([f"{place} is not of the form `HOST slots=N`"])
        if host[1] in slots:
            raise ConfigError([f"{place} repeats a host; remove the line"])
        slots[host[1]] = int(host[2])
    if not slots:
        raise ConfigError([f"launch.hostfile = {path}: lists no host"])
    return slots


def carried_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that ssh does not pass on and other hosts need; no secrets."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(CARRIED) and not name.endswith(SECRETS)
    }


def environment_of_hosts(launch: LaunchPlan, more: Mapping[str, str]) -> str:
    """Return the variables that ssh does not pass on, one `NAME=VALUE` a line.

    The launcher turns each line into `export NAME="VALUE"` on every host. Characters with a meaning
    inside double quotes are escaped, because DeepSpeed 0.19.8 does not do so
    (launcher/multinode_runner.py).
    """
    carried = carried_variables(launch.environment) | dict(more)
    quoted = {
        name: re.sub(r'([\\"$`])', r"\\\1", value)
        for name, value in carried.items()
        if "\n" not in value
    }
    return "".join(f"{name}={value}\n" for name, value in sorted(quoted.items()))
