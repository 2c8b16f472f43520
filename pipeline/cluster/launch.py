"""How ranks are started: the command, its environment, the number of ranks."""

import math
import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import RunConfig
from pipeline.errors import ConfigError, UserError

WORKER = "pipeline.training.worker"


@dataclass(frozen=True)
class Launch:
    """One launcher process and how many ranks it will start."""

    command: list[str]
    environment: dict[str, str]
    ranks: int
    device: str
    port: int


def plan_launch(config: RunConfig, run_file: Path) -> Launch:
    """Decide ranks, device, port and command for `launch.kind`. Raises UserError where it cannot work."""
    port = config.launch.master_port or free_port()
    return _slurm(config, run_file, port) if config.launch.kind == "slurm" else _local(config, run_file, port)


def _local(config: RunConfig, run_file: Path, port: int) -> Launch:
    gpus = gpu_count()
    ranks = config.launch.ranks if isinstance(config.launch.ranks, int) else dividing_ranks(config, gpus or 2)
    if gpus and ranks > gpus:
        raise ConfigError([f"launch.ranks = {ranks}: this machine has {gpus} GPUs; set it to at most that"])
    deepspeed = Path(sys.executable).with_name("deepspeed")
    command = [str(deepspeed) if deepspeed.exists() else "deepspeed", "--hostfile", os.devnull]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") if gpus else None
    if visible:  # with --num_gpus, deepspeed would ignore it and take the first GPUs of the machine
        command += ["--include", "localhost:" + ",".join(visible.split(",")[:ranks])]
    else:
        command += ["--num_nodes", "1", "--num_gpus", str(ranks)]
    command += ["--master_addr", "127.0.0.1", "--master_port", str(port)]
    command += ["--module", WORKER, str(run_file)]
    return Launch(command, _environment(gpus, ranks), ranks, "GPU" if gpus else "CPU", port)


def _slurm(config: RunConfig, run_file: Path, port: int) -> Launch:
    """Start one task per rank in the job's allocation; MASTER_ADDR is the first node."""
    if "SLURM_JOB_ID" not in os.environ:
        raise ConfigError(["launch.kind = slurm: there is no allocation (SLURM_JOB_ID); use jobs/slurm/train.sbatch"])
    if "SLURM_STEP_ID" in os.environ and os.environ.get("SLURM_PROCID") is not None:
        raise UserError(
            "`pipeline train` runs once per job, from the batch script, not inside srun: it calls srun itself"
        )
    nodes = int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))
    per_node = int(re.match(r"\d+", os.environ.get("SLURM_NTASKS_PER_NODE", "1")).group())  # type: ignore[union-attr]
    ranks = nodes * per_node
    if isinstance(config.launch.ranks, int) and config.launch.ranks != ranks:
        raise ConfigError(
            [
                f"launch.ranks = {config.launch.ranks}: the allocation has {nodes} nodes x {per_node} tasks; leave it auto"
            ]
        )
    names = subprocess.run(
        ["scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]], capture_output=True, text=True, check=True
    )
    gpus = gpu_count()
    environment = _environment(gpus, per_node)
    environment |= {"MASTER_ADDR": master_address(names.stdout.split()[0]), "MASTER_PORT": str(port)}
    command = ["srun", "--kill-on-bad-exit=1", f"--ntasks={ranks}", f"--ntasks-per-node={per_node}"]
    command += [sys.executable, "-m", WORKER, str(run_file)]
    return Launch(command, environment, ranks, "GPU" if gpus else "CPU", port)


def master_address(node: str) -> str:
    """Return the name under which all nodes reach the first one."""
    try:
        socket.gethostbyname(node)
    except OSError:  # a node name that is no host name, as on a one-machine test cluster
        found = subprocess.run(["scontrol", "show", "node", node], capture_output=True, text=True, check=True).stdout
        if address := re.search(r"NodeAddr=(\S+)", found):
            return address.group(1)
    return node


def _environment(gpus: int, ranks_here: int) -> dict[str, str]:
    environment = dict(os.environ)
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        environment.pop(name, None)
    cores = len(os.sched_getaffinity(0))
    environment.setdefault("OMP_NUM_THREADS", str(max(1, cores // ranks_here)))
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    package_root = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package_root, environment.get("PYTHONPATH")]))
    if not gpus:
        environment["DS_ACCELERATOR"] = "cpu"
    return environment


def gpu_count() -> int:
    """Return the number of NVIDIA GPUs that this process may use, without torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() and not name.strip().startswith("-")])
    if os.environ.get("DS_ACCELERATOR") == "cpu" or not shutil.which("nvidia-smi"):
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines()) if listed.returncode == 0 else 0


def dividing_ranks(config: RunConfig, available: int) -> int:
    """Return the largest number of ranks, at most `available`, that divides the micro-batches of every global batch."""
    pass_tokens = config.batch.micro_batch_sequences * config.data.sequence_length
    micro_batches = math.gcd(*(tokens // pass_tokens for _, tokens in config.batch_sizes))
    return next(ranks for ranks in range(min(available, micro_batches), 0, -1) if micro_batches % ranks == 0)


def free_port() -> int:
    """Return a TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]
