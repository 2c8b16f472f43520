"""The launch kind `hostfile`: the deepspeed launcher on the hosts of a file, by pdsh and ssh.

Writes `run_dir/launch_environment`, the variables that the ranks on other hosts get.
"""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.cluster.launch import (
    WORKER,
    Launch,
    LaunchKind,
    deepspeed_program,
    is_deepspeed_launcher,
    rank_environment,
)
from pipeline.config.groups import group_sizes
from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError
from pipeline.store.files import write_atomic
from pipeline.store.layout import run_folder

ENVIRONMENT_VARIABLE = "DS_ENV_FILE"
"""Tells DeepSpeed's launcher which file holds the variables of the ranks on other hosts."""
CARRIED = (
    "CUDA_DEVICE", "DS_ACCELERATOR", "GLOO_", "HF_", "LD_LIBRARY_PATH", "NCCL_", "OMP_", "PATH", "PIPELINE_", "PYTHON",
    "TOKENIZERS_", "TORCH", "TRANSFORMERS_", "TRITON_", "UCX_", "WANDB_",
)  # fmt: skip
"""Beginnings of the names of the variables that the ranks on other hosts get."""
SECRETS = ("_TOKEN", "_KEY", "_SECRET", "_PASSWORD")
"""Ends of the names of variables that no file or command line gets; on each host they come from
where their owners keep them."""
REACH_SECONDS = 10
"""Time for a host to be connected with."""
LOGIN_SECONDS = 30
"""Time for a command on a host to end: a login may hang on a home folder, too."""


class HostfileLaunch(LaunchKind):
    """Ranks on the hosts of `launch.hostfile`, as many on each as it has slots."""

    ranks_are_set_by = "launch.hostfile"

    def rank_count(self, config: RunConfig) -> int:
        """Return the number of slots of all hosts."""
        return sum(read_hostfile(config).values())

    def plan(self, config: RunConfig, run_file: Path, port: int) -> Launch:
        """Start the deepspeed launcher on every host of the hostfile; MASTER_ADDR is the first
        one.

        Raises ConfigError for a hostfile that is none, without pdsh, and where `launch.ranks` says
        another number than the slots.
        """
        slots = read_hostfile(config)
        ranks = sum(slots.values())
        if isinstance(config.launch.ranks, int) and config.launch.ranks != ranks:
            raise ConfigError(
                [
                    f"launch.ranks = {config.launch.ranks}: launch.hostfile has {ranks} slots; "
                    "leave it auto, or change the slots"
                ]
            )
        if not shutil.which("pdsh"):
            raise ConfigError(
                [
                    "launch.kind = hostfile: needs pdsh (Debian: apt install pdsh) and ssh without "
                    "a password"
                ]
            )

        # The environment; what matters of it to ranks goes through the file.
        environment = rank_environment(1, max(slots.values()))
        environment[ENVIRONMENT_VARIABLE] = str(run_folder(config).launch_environment)
        if "OMP_NUM_THREADS" not in os.environ:  # cores are counted where the ranks are
            environment.pop("OMP_NUM_THREADS")

        command = [deepspeed_program(), "--hostfile", str(config.launch.hostfile), "--force_multi"]
        command += ["--master_addr", next(iter(slots)), "--master_port", str(port)]
        command += ["--module", WORKER, str(run_file)]
        where = f"ranks on {len(slots)} hosts"
        return Launch(self, command, environment, group_sizes(ranks), where, port, tuple(slots))

    def meets_here(self, launch: Launch) -> bool:
        """Tell whether this machine is the first host."""
        names = ("localhost", socket.gethostname(), socket.getfqdn())
        return launch.hosts[0] in names

    def is_launcher(self, command: Sequence[str]) -> bool:
        """Tell a launcher by the module that deepspeed starts."""
        return is_deepspeed_launcher(command)

    def hosts_out_of_reach(self, launch: Launch) -> str | None:
        """Return which hosts pdsh gets no answer from: it would wait for the others' ranks, they
        for these."""
        limits = ["-t", str(REACH_SECONDS), "-u", str(LOGIN_SECONDS)]
        command = ["pdsh", "-S", *limits, "-f", "1024", "-w", ",".join(launch.hosts), "true"]
        asked = subprocess.run(
            command,
            env=launch.environment | {"PDSH_RCMD_TYPE": "ssh"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.returncode == 0:
            return None
        lines = [line for line in asked.stderr.splitlines() if line.strip()]
        silent = [
            host
            for host in launch.hosts
            if any(f" {host}: " in line and line.startswith("pdsh@") for line in lines)
        ]
        return "\n".join(
            [f"no answer by ssh from {', '.join(silent) or 'a host'} of launch.hostfile", *lines]
        )

    def write_environment(self, launch: Launch, more: Mapping[str, str]) -> None:
        """Write the variables for the hosts, readable by their owner alone: they may hold what
        others must not see."""
        variables = environment_of_hosts(launch, more)
        write_atomic(Path(launch.environment[ENVIRONMENT_VARIABLE]), variables, mode=0o600)


def read_hostfile(config: RunConfig) -> dict[str, int]:
    """Return the ranks of each host of `launch.hostfile`, in its order. Raises ConfigError where it
    is none."""
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
    slots: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        host = re.fullmatch(r"(\S+)\s+slots=([1-9]\d*)", text)
        if host is None or host[1] in slots:
            why = "is no `HOST slots=N`" if host is None else "stands there twice"
            raise ConfigError([f"launch.hostfile = {path}: line {number}, {text!r}, {why}"])
        slots[host[1]] = int(host[2])
    if not slots:
        raise ConfigError([f"launch.hostfile = {path}: names no host"])
    return slots


def environment_of_hosts(launch: Launch, more: Mapping[str, str]) -> str:
    """Return what ssh does not carry, as lines that the launcher turns into `export NAME="VALUE"`
    on every host.

    What means something between double quotes is escaped: DeepSpeed 0.19.8 does not
    (launcher/multinode_runner.py).
    """
    carried = {
        name: value
        for name, value in launch.environment.items()
        if name.startswith(CARRIED) and not name.endswith(SECRETS)
    }
    carried |= more
    quoted = {
        name: re.sub(r'([\\"$`])', r"\\\1", value)
        for name, value in carried.items()
        if "\n" not in value
    }
    return "".join(f"{name}={value}\n" for name, value in sorted(quoted.items()))
