"""Compare a run's number format and memory with what a rank's device offers.

Reads the machine's free memory, the GPU's, and the limits of cgroups.
"""

import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import torch
from transformers import PretrainedConfig

from pipeline.config.groups import RankGroups
from pipeline.config.run_config import RunConfig
from pipeline.engine.deepspeed_config import DeepSpeedConfig
from pipeline.engine.groups import gather_from_world_ranks
from pipeline.engine.memory import FreeMemory, logits_at_once, refuse_if_too_big
from pipeline.engine.memory_setting import memory_setting
from pipeline.errors import ConfigError
from pipeline.model.shape import model_shape
from pipeline.model.sizes import ModelParameters, moment_bytes

CGROUPS = Path("/sys/fs/cgroup")
"""Where Linux mounts the tree of cgroups."""
CGROUP_FILES = {
    "": ("memory.max", "memory.current"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes"),
}
"""Files with a cgroup's limit and use: version 2, which names no controller, and version 1."""


def device_problems(
    config: RunConfig,
    groups: RankGroups,
    resolved: DeepSpeedConfig,
    architecture: PretrainedConfig,
    sizes: ModelParameters,
) -> list[str]:
    """Return why this rank cannot train the model: number format, memory.

    Process groups must exist; every rank calls it. Allocates nothing on the device.
    """
    # The number format.
    hosts = gather_from_world_ranks(socket.gethostname(), groups)
    on_gpu = torch.cuda.is_available()
    capability = compute_capability(on_gpu)
    problems = precision_problems(config.precision.dtype, capability, cpu_has_fp16())

    # The memory, of which the ranks on one machine share the host's.
    shape = model_shape(architecture, sizes.total)
    setting = memory_setting(config, resolved, groups.sizes.world, on_gpu)
    setting = replace(setting, moment_bytes=moment_bytes(config, sizes))
    logit_tokens = logits_at_once(shape, setting)
    where = f"into a rank's share of {socket.gethostname()}'s memory"
    if on_gpu:
        where = f"on {torch.cuda.get_device_name()}"
    free = _free_memory(hosts.count(socket.gethostname()))
    try:
        refuse_if_too_big(shape, setting, free, where, logit_tokens)
    except ConfigError as error:
        problems += error.problems
    return problems


def compute_capability(on_gpu: bool) -> tuple[int, int] | None:
    """Return the CUDA compute capability of this rank's GPU; None where ranks run on the CPU."""
    if not on_gpu:
        return None
    return torch.cuda.get_device_capability()


def cpu_has_fp16() -> bool:
    """Tell whether this machine's CPU computes in fp16.

    Source: DeepSpeed 0.19.8, cpu_accelerator.py, which asks the same.
    """
    return torch.ops.mkldnn._is_mkldnn_fp16_supported()


def precision_problems(dtype: str, capability: tuple[int, int] | None, cpu_fp16: bool) -> list[str]:
    """Name what is wrong with a number format on a device.

    `capability` is the CUDA compute capability; None stands for a CPU.
    Source: NVIDIA, CUDA C++ Programming Guide, "Compute Capabilities": bf16 from 8.0 (Ampere) on.
    """
    if dtype == "fp16" and capability is None and not cpu_fp16:
        return ["precision.dtype = fp16: this CPU does not compute in fp16; set bf16 or fp32"]
    if dtype != "bf16" or capability is None or capability >= (8, 0):
        return []
    major, minor = capability
    return [
        f"precision.dtype = bf16: this GPU has compute capability {major}.{minor}, and bf16 needs "
        "8.0; set fp16 (with loss scaling) or fp32"
    ]


def _free_memory(ranks_here: int) -> FreeMemory:
    """Return the memory that one of the ranks on this machine may use."""
    host = free_host_memory() / ranks_here
    if torch.cuda.is_available():
        return FreeMemory(float(torch.cuda.mem_get_info()[0]), host, is_shared=False)
    return FreeMemory(host, host, is_shared=True)


def free_host_memory() -> int:
    """Return the bytes of host memory that this process may still take, within every cgroup."""
    own = Path("/proc/self/cgroup")
    lines: list[str] = []
    if own.exists():
        lines = own.read_text().splitlines()
    return min([psutil.virtual_memory().available, *left_in_cgroups(CGROUPS, lines)])


def left_in_cgroups(root: Path, own: Sequence[str]) -> list[int]:
    """Return the bytes that each cgroup of this process leaves free.

    `own` are the lines of /proc/self/cgroup. Reads version 2 (`memory.max`) and version 1
    (`memory/.../memory.limit_in_bytes`). Pages of files count as free.
    """
    left: list[int] = []
    for line in own:
        _, controllers, path = line.split(":", 2)
        if controllers not in CGROUP_FILES:
            continue
        base = root / controllers
        limit_file, used_file = CGROUP_FILES[controllers]

        # Every level of the tree has a limit of its own.
        folder = base / path.lstrip("/")
        for level in (folder, *folder.parents):
            limit = _number(level / limit_file)
            used = _number(level / used_file)
            if limit is not None and used is not None:
                left.append(max(0, limit - used + _file_pages(level)))
            if level == base:
                break
    return left


def _number(path: Path) -> int | None:
    """Return the number in a file; None if the file does not exist or holds "max" (no limit)."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    if not text.isdigit():
        return None
    return int(text)


def _file_pages(level: Path) -> int:
    """Return the bytes of a cgroup's pages of files, which the system gives up when needed."""
    try:
        stat = dict(line.split() for line in (level / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(stat.get("active_file", 0)) + int(stat.get("inactive_file", 0))
