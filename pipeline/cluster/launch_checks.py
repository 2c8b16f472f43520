"""Checks before the first stage of whether the ranks can be started from this machine."""

import os
import socket

from pipeline.cluster.gpus import gpu_count
from pipeline.cluster.launch import launch_kind, plan_launch
from pipeline.cluster.ports import is_occupied
from pipeline.config.batch_division import batches_that_ranks_do_not_divide
from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError
from pipeline.store.layout import run_folder
from pipeline.work.separate_checks import run_separate_check


def check_launch(config: RunConfig) -> None:
    """Raise UserError if the ranks cannot be started from here.

    Causes: GPUs, allocation, hosts, a batch that the ranks do not divide, an occupied port.
    """
    launch = plan_launch(config, run_folder(config).config)
    problems = batches_that_ranks_do_not_divide(config, launch.groups)
    port = config.launch.master_port
    if port and launch.kind.meets_here(launch) and is_occupied(port):
        problems.append(
            f"launch.master_port = {port}: another program listens on it (see `ss -ltnp`); set "
            "another port, or leave out launch.master_port, so that a free port is chosen"
        )
    if problems:
        raise ConfigError(problems)


def check_device(config: RunConfig) -> None:
    """Raise ConfigError if the devices of this machine cannot compute in `precision.dtype`.

    A separate process with torch finds out.
    """
    dtype = config.precision.dtype
    if not launch_kind(config).runs_here or dtype == "fp32":
        return
    # Every CPU computes in bf16.
    if dtype == "bf16" and not gpu_count():
        return
    decides = {
        "precision": dtype,
        "host": socket.gethostname(),
        "devices": [os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("DS_ACCELERATOR")],
    }
    run_separate_check(
        "pipeline.engine.device_check", dict, config, decides, "this machine's number formats"
    )
