"""What a rank's device can do: its free memory and number formats, held against what the run asks
for."""

import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import PretrainedConfig

from pipeline.config.groups import RankGroups
from pipeline.config.run_config import RunConfig
from pipeline.engine.deepspeed_config import BUCKET_ELEMENTS, offload_device
from pipeline.engine.groups import gather_from_world_ranks
from pipeline.engine.memory import WIDTH, FreeMemory, MemorySetting, ModelShape, refuse_if_too_big
from pipeline.errors import ConfigError
from pipeline.model.chunked_loss import rows_at_once
from pipeline.model.costs import head_width
from pipeline.model.sizes import ModelParameters, moment_bytes

CGROUPS = Path("/sys/fs/cgroup")


def device_problems(
    config: RunConfig,
    groups: RankGroups,
    resolved: dict[str, Any],
    architecture: PretrainedConfig,
    sizes: ModelParameters,
) -> list[str]:
    """Return why this rank cannot run the model: number format, memory. Process groups must exist;
    allocates nothing."""
    hosts = gather_from_world_ranks(socket.gethostname(), groups)
    on_gpu = torch.cuda.is_available()
    capability = torch.cuda.get_device_capability() if on_gpu else None
    problems = precision_problems(config.precision.dtype, capability, cpu_has_fp16())
    shape = model_shape(architecture, sizes)
    setting = memory_setting(config, resolved, groups.sizes.world, on_gpu)
    setting = replace(setting, moment_bytes=moment_bytes(config, sizes))
    tokens = setting.micro_batch_sequences * setting.sequence_length
    logit_tokens = rows_at_once(tokens, shape.hidden, shape.layers, shape.vocabulary)
    where = (
        f"on {torch.cuda.get_device_name()}"
        if on_gpu
        else f"into a rank's share of {socket.gethostname()}'s memory"
    )
    try:
        refuse_if_too_big(
            shape, setting, _room(hosts.count(socket.gethostname())), where, logit_tokens
        )
    except ConfigError as error:
        problems += error.problems
    return problems


def cpu_has_fp16() -> bool:
    """Tell whether this machine's CPU computes in fp16, as DeepSpeed asks (0.19.8,
    cpu_accelerator.py)."""
    return torch.ops.mkldnn._is_mkldnn_fp16_supported()


def precision_problems(dtype: str, capability: tuple[int, int] | None, cpu_fp16: bool) -> list[str]:
    """Name what is wrong with a number format on a CUDA device of this compute capability; None is
    a CPU.

    Source: NVIDIA, CUDA C++ Programming Guide, "Compute Capabilities": bf16 from 8.0 (Ampere) on.
    """
    if dtype == "fp16" and capability is None and not cpu_fp16:
        return ["precision.dtype = fp16: this CPU does not compute in fp16; set bf16 or fp32"]
    if dtype != "bf16" or capability is None or capability >= (8, 0):
        return []
    found = ".".join(map(str, capability))
    return [
        f"precision.dtype = bf16: this GPU has compute capability {found}, and bf16 needs 8.0; set "
        "fp16 (with loss "
        "scaling) or fp32"
    ]


def model_shape(architecture: PretrainedConfig, sizes: ModelParameters) -> ModelShape:
    """Read what the sums need from a transformers config, by the names that most architectures
    share."""
    hidden = architecture.hidden_size
    heads = architecture.num_attention_heads
    head = head_width(architecture)
    return ModelShape(
        parameters=sizes.total,
        layers=architecture.num_hidden_layers,
        hidden=hidden,
        heads=heads,
        attention=heads * head,
        key_value=(getattr(architecture, "num_key_value_heads", None) or heads) * head,
        feed_forward=getattr(architecture, "intermediate_size", None) or 4 * hidden,
        is_gated=getattr(architecture, "hidden_act", "") in ("silu", "swish"),
        vocabulary=architecture.vocab_size,
        normalises_heads=architecture.model_type.startswith(
            "qwen3"
        ),  # a part of the architecture, not of its config
    )


def memory_setting(
    config: RunConfig, resolved: dict[str, Any], ranks: int, on_gpu: bool
) -> MemorySetting:
    """Put together what the sums need of a run."""
    zero = resolved["zero_optimization"]
    devices = [offload_device(resolved, what) for what in ("optimizer", "param")]
    return MemorySetting(
        dtype=config.precision.dtype,
        zero_stage=zero["stage"],
        ranks=ranks,
        micro_batch_sequences=config.batch.micro_batch_sequences,
        global_batch_sequences=config.global_batch_sequences,
        sequence_length=config.data.sequence_length,
        activation_checkpointing=config.train.activation_checkpointing,
        stores_scores=config.model.config.get("attn_implementation") == "eager",
        offloads_optimizer=devices[0] != "none",
        offloads_parameters=devices[1] != "none",
        to_nvme="nvme" in devices,
        copies_saves=config.checkpoint.asynchronous,
        # On a CPU the buffers' pages are not there until they are written to: the gradients' own
        # size at most.
        bucket_bytes=_bucket_bytes(zero, config.precision.dtype) if on_gpu else 0,
    )


def _bucket_bytes(zero: dict[str, Any], dtype: str) -> int:
    """Return the size of the buffers in which DeepSpeed gathers gradients: two where communication
    overlaps."""
    stage = zero["stage"]
    if stage == 0 or (stage == 1 and dtype == "bf16") or not zero.get("contiguous_gradients", True):
        return 0
    buffers = 2 if stage < 3 and zero.get("overlap_comm", False) else 1
    return int(zero.get("reduce_bucket_size", BUCKET_ELEMENTS)) * WIDTH[dtype] * buffers


def _room(ranks_here: int) -> FreeMemory:
    host = free_host_memory() / ranks_here
    if torch.cuda.is_available():
        return FreeMemory(float(torch.cuda.mem_get_info()[0]), host, is_shared=False)
    return FreeMemory(host, host, is_shared=True)


def free_host_memory() -> int:
    """Return bytes of memory that processes here may still take: what the machine has, within every
    cgroup's limit."""
    own = Path("/proc/self/cgroup")
    lines = own.read_text().splitlines() if own.exists() else []
    return min([psutil.virtual_memory().available, *left_in_cgroups(CGROUPS, lines)])


def left_in_cgroups(root: Path, own: Sequence[str]) -> list[int]:
    """Return what each cgroup of this process leaves it; `own` are the lines of /proc/self/cgroup.

    Reads version 2 (`memory.max`) and 1 (`memory/.../memory.limit_in_bytes`); pages of files count
    as free.
    """
    left = []
    for line in own:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        base = root / controllers
        names = (
            ("memory.max", "memory.current")
            if not controllers
            else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        )
        folder = base / path.lstrip("/")
        for level in (folder, *folder.parents):
            limit, used = (_number(level / name) for name in names)
            if limit is not None and used is not None:
                left.append(max(0, limit - used + _file_pages(level)))
            if level == base:
                break
    return left


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # "max": no limit


def _file_pages(level: Path) -> int:
    try:
        stat = dict(line.split() for line in (level / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(stat.get("active_file", 0)) + int(stat.get("inactive_file", 0))
