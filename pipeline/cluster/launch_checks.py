"""What refuses ranks that cannot be started from here, before anything has run."""

import os
import socket

from pipeline.cluster.gpus import gpu_count
from pipeline.cluster.launch import launch_kind, plan_launch
from pipeline.cluster.ports import is_occupied
from pipeline.config.groups import GroupSizes
from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError, nearest_multiples
from pipeline.store.layout import run_folder
from pipeline.work.separate_checks import found_by


def check_launch(config: RunConfig) -> None:
    """Raise UserError for ranks that cannot be started from here: GPUs, allocation, hosts, batch,
    an occupied port."""
    launch = plan_launch(config, run_folder(config).config)
    problems = indivisible_batches(config, launch.groups)
    port = config.launch.master_port
    if port and launch.kind.meets_here(launch) and is_occupied(port):
        problems.append(
            f"launch.master_port = {port}: another program listens there (see `ss -ltnp`); name "
            "another one, or leave it out to have a free one taken"
        )
    if problems:
        raise ConfigError(problems)


def check_device(config: RunConfig) -> None:
    """Raise ConfigError where ranks of this machine could not compute in `precision.dtype`; a
    process with torch is asked."""
    is_sure = config.precision.dtype == "fp32" or (
        config.precision.dtype == "bf16" and not gpu_count()
    )
    if is_sure or not launch_kind(config).runs_here:
        return
    decides = {
        "precision": config.precision.dtype,
        "host": socket.gethostname(),
        "devices": [os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("DS_ACCELERATOR")],
    }
    found_by("pipeline.engine.device_check", dict, config, decides, "this machine's number formats")


def indivisible_batches(config: RunConfig, sizes: GroupSizes) -> list[str]:
    """Name the batches that this number of data ranks does not divide, where not `launch.ranks` but
    an allocation says it."""
    if config.launch.ranks != "auto":  # its own check names more remedies
        return []
    return [
        f"{setting} = {tokens}: must be a multiple of {sizes.data} ranks x "
        f"batch.micro_batch_sequences = {config.batch.micro_batch_sequences} x "
        f"data.sequence_length = {config.data.sequence_length}; set "
        f"{nearest_multiples(tokens, config.tokens_per_pass(sizes))}, or start another number of "
        "ranks"
        for setting, tokens in config.indivisible_batches(sizes)
    ]
