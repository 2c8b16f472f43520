"""How ranks are started: the command, its environment, the number of ranks."""

import math
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.cluster.ports import free_port
from pipeline.config.groups import GroupSizes, group_sizes
from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError, UserError
from pipeline.store.layout import run_folder

WORKER = "pipeline.training.worker"
CARRIED = (
    "CUDA_DEVICE", "DS_ACCELERATOR", "GLOO_", "HF_", "LD_LIBRARY_PATH", "NCCL_", "OMP_", "PATH", "PIPELINE_", "PYTHON",
    "TOKENIZERS_", "TORCH", "TRANSFORMERS_", "TRITON_", "UCX_", "WANDB_",
)  # fmt: skip
"""Beginnings of the names of the variables that the ranks on other hosts get."""
REACH_SECONDS, LOGIN_SECONDS = 10, 30
"""Time for a host to be connected with, and for a command on it to end."""
SECRETS = ("_TOKEN", "_KEY", "_SECRET", "_PASSWORD")
"""Ends of the names of variables that no file or command line gets; on each host they come from
where their owners keep them."""


@dataclass(frozen=True)
class Launch:
    """One launcher process and the ranks that it will start."""

    command: list[str]
    environment: dict[str, str]
    groups: GroupSizes
    """Of the ranks that it will start."""
    where: str
    """What a person calls the ranks."""
    port: int
    hosts: tuple[str, ...] = ()
    """Those that ssh has to reach."""


def plan_launch(config: RunConfig, run_file: Path) -> Launch:
    """Decide ranks, port and command for `launch.kind`. Raises UserError where it cannot work."""
    port = config.launch.master_port or free_port()
    kinds = {"local": _local, "slurm": _slurm, "hostfile": _hosts}
    return kinds[config.launch.kind](config, run_file, port)


def _local(config: RunConfig, run_file: Path, port: int) -> Launch:
    gpus = gpu_count()
    ranks = (
        config.launch.ranks
        if isinstance(config.launch.ranks, int)
        else dividing_ranks(config, gpus or 2)
    )
    if gpus and ranks > gpus:
        raise ConfigError(
            [f"launch.ranks = {ranks}: this machine has {gpus} GPUs; set it to at most that"]
        )
    command = [_deepspeed(), "--hostfile", os.devnull]
    environment = _environment(gpus, ranks)
    names = _visible_devices(ranks) if gpus else []
    if names and all(name.isdecimal() for name in names):
        # With --num_gpus, deepspeed would ignore them and take the first GPUs of the machine.
        command += ["--include", "localhost:" + ",".join(names)]
    else:
        command += ["--num_nodes", "1", "--num_gpus", str(ranks)]
        if names:  # the launcher knows numbers alone; each rank puts the names in their place
            environment["PIPELINE_VISIBLE_DEVICES"] = ",".join(names)
    command += ["--master_addr", "127.0.0.1", "--master_port", str(port)]
    command += ["--module", WORKER, str(run_file)]
    where = "GPU ranks" if gpus else "CPU ranks"
    return Launch(command, environment, group_sizes(ranks), where, port)


def _visible_devices(ranks: int) -> list[str]:
    """Return the GPUs of CUDA_VISIBLE_DEVICES that so many ranks get: numbers, UUIDs, or one MIG
    device.

    Raises ConfigError for other names, and for more than one MIG device, of which CUDA shows a
    process the first alone.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = [name.strip() for name in visible.split(",") if name.strip()]
    kinds = {"number": r"\d+", "GPU": r"GPU-[0-9A-Fa-f-]+", "MIG": r"MIG-[0-9A-Za-z/-]+"}
    found = {
        kind for name in names for kind, pattern in kinds.items() if re.fullmatch(pattern, name)
    }
    whole = "|".join(kinds.values())
    if len(found) > 1 or not all(re.fullmatch(whole, name) for name in names):
        raise ConfigError(
            [
                f"CUDA_VISIBLE_DEVICES = {visible}: takes numbers, as in `0,1`, or UUIDs as "
                "`nvidia-smi -L` prints them"
            ]
        )
    if found == {"MIG"} and ranks > 1:
        raise ConfigError([f"launch.ranks = {ranks}: on MIG devices one rank can run; set it to 1"])
    return names[:ranks]


def _slurm(config: RunConfig, run_file: Path, port: int) -> Launch:
    """Start one task per rank in the job's allocation; MASTER_ADDR is the first node."""
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
    nodes = int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))
    per_node = _tasks_per_node(nodes)
    ranks = nodes * per_node
    if isinstance(config.launch.ranks, int) and config.launch.ranks != ranks:
        raise ConfigError(
            [
                f"launch.ranks = {config.launch.ranks}: the allocation has {nodes} nodes x "
                f"{per_node} tasks; leave it auto"
            ]
        )
    names = _scontrol("show", "hostnames", os.environ["SLURM_JOB_NODELIST"])
    gpus = gpu_count()
    environment = _environment(gpus, per_node)
    environment |= {"MASTER_ADDR": master_address(names.split()[0]), "MASTER_PORT": str(port)}
    if cores := os.environ.get(
        "SLURM_CPUS_PER_TASK"
    ):  # from Slurm 22.05 on srun does not take it from the batch job
        environment.setdefault("SRUN_CPUS_PER_TASK", cores)
    command = [
        "srun",
        f"--job-name={step_name(port)}",
        "--kill-on-bad-exit=1",
        f"--ntasks={ranks}",
        f"--ntasks-per-node={per_node}",
    ]
    command += [sys.executable, "-m", WORKER, str(run_file)]
    where = "GPU ranks" if gpus else "CPU ranks"
    return Launch(command, environment, group_sizes(ranks), where, port)


def _tasks_per_node(nodes: int) -> int:
    if per_node := re.match(r"\d+", os.environ.get("SLURM_NTASKS_PER_NODE", "")):
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


def _hosts(config: RunConfig, run_file: Path, port: int) -> Launch:
    """Start the deepspeed launcher on every host of the hostfile; MASTER_ADDR is the first one."""
    slots = read_hostfile(config)
    ranks = sum(slots.values())
    if isinstance(config.launch.ranks, int) and config.launch.ranks != ranks:
        raise ConfigError(
            [
                f"launch.ranks = {config.launch.ranks}: launch.hostfile has {ranks} slots; leave "
                "it auto, or change the slots"
            ]
        )
    if not shutil.which("pdsh"):
        raise ConfigError(
            [
                "launch.kind = hostfile: needs pdsh (Debian: apt install pdsh) and ssh without a "
                "password"
            ]
        )
    environment = _environment(1, max(slots.values())) | {
        "DS_ENV_FILE": str(run_folder(config).launch_environment)
    }
    if "OMP_NUM_THREADS" not in os.environ:  # cores are counted where the ranks are
        environment.pop("OMP_NUM_THREADS")
    command = [_deepspeed(), "--hostfile", str(config.launch.hostfile), "--force_multi"]
    command += [
        "--master_addr",
        next(iter(slots)),
        "--master_port",
        str(port),
        "--module",
        WORKER,
        str(run_file),
    ]
    where = f"ranks on {len(slots)} hosts"
    return Launch(command, environment, group_sizes(ranks), where, port, tuple(slots))


def read_hostfile(config: RunConfig) -> dict[str, int]:
    """Return the ranks of each host of `launch.hostfile`, in its order. Raises ConfigError where it
    is none."""
    path = config.launch.hostfile
    if path is None:
        raise ConfigError(
            ["launch.kind = hostfile: needs launch.hostfile, a file with lines `HOST slots=N`"]
        )
    slots: dict[str, int] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(
            [f"launch.hostfile = {path}: cannot be read ({error.strerror})"]
        ) from None
    for number, line in enumerate(lines, 1):
        if not (text := line.partition("#")[0].strip()):
            continue
        found = re.fullmatch(r"(\S+)\s+slots=([1-9]\d*)", text)
        if not found or found[1] in slots:
            why = "stands there twice" if found else "is no `HOST slots=N`"
            raise ConfigError([f"launch.hostfile = {path}: line {number}, {text!r}, {why}"])
        slots[found[1]] = int(found[2])
    if not slots:
        raise ConfigError([f"launch.hostfile = {path}: names no host"])
    return slots


def hosts_out_of_reach(launch: Launch) -> str | None:
    """Return which hosts pdsh gets no answer from, None where all answer: it would wait for the
    others' ranks, they for these."""
    if not launch.hosts:
        return None
    limits = [
        "-t",
        str(REACH_SECONDS),
        "-u",
        str(LOGIN_SECONDS),
    ]  # a login may hang on a home folder, too
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
    said = [line for line in asked.stderr.splitlines() if line.strip()]
    silent = [
        host
        for host in launch.hosts
        if any(f" {host}: " in line and line.startswith("pdsh@") for line in said)
    ]
    return "\n".join(
        [f"no answer by ssh from {', '.join(silent) or 'a host'} of launch.hostfile", *said]
    )


def environment_of_hosts(launch: Launch, more: Mapping[str, str]) -> str:
    """Return what ssh does not carry, as lines that the launcher turns into `export NAME="VALUE"`
    on every host.

    What means something between double quotes is escaped: DeepSpeed 0.19.8 does not
    (launcher/multinode_runner.py).
    """
    known = launch.environment.items()
    carried = {
        name: value
        for name, value in known
        if name.startswith(CARRIED) and not name.endswith(SECRETS)
    }
    carried |= more
    quoted = {
        name: re.sub(r'([\\"$`])', r"\\\1", value)
        for name, value in carried.items()
        if "\n" not in value
    }
    return "".join(f"{name}={value}\n" for name, value in sorted(quoted.items()))


def step_name(port: int) -> str:
    """Return the name of the Slurm job step of one start's ranks."""
    return f"pipeline-ranks-{port}"


def master_address(node: str) -> str:
    """Return the name under which all nodes reach the first one."""
    try:
        socket.gethostbyname(node)
    except OSError:  # a node name that is no host name, as on a one-machine test cluster
        found = _scontrol("show", "node", node)
        if address := re.search(r"NodeAddr=(\S+)", found):
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
            "call this on a node of the "
            "allocation, or set launch.kind to local"
        ) from None
    if asked.returncode:
        raise UserError(
            f"launch.kind = slurm: scontrol says: {asked.stderr.strip()}; mend that, then run the "
            "same command again"
        )
    return asked.stdout


def _deepspeed() -> str:
    beside = Path(sys.executable).with_name("deepspeed")
    return str(beside) if beside.exists() else "deepspeed"


def _environment(gpus: int, ranks_here: int) -> dict[str, str]:
    environment = dict(os.environ)
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        environment.pop(name, None)
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


def gpu_count() -> int:
    """Return the number of NVIDIA GPUs that this process may use, without torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [
            name.strip()
            for name in visible.split(",")
            if name.strip() and not name.strip().startswith("-")
        ]
        return min(len(names), 1) if any(name.startswith("MIG-") for name in names) else len(names)
    if os.environ.get("DS_ACCELERATOR") == "cpu" or not shutil.which("nvidia-smi"):
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return (
        sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
        if listed.returncode == 0
        else 0
    )


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
