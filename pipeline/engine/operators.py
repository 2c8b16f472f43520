"""Which of DeepSpeed's operators a run makes every rank load. Free of torch.

`python -m pipeline.engine.operators` compiles what training on CPUs may need (`jobs/setup.sh dev`).
"""

import os
import time
from typing import Any

from pipeline.config.sections import Optimizer
from pipeline.engine.deepspeed_config import offload_device
from pipeline.engine.extensions import (
    Operator,
    is_operator_built,
    provide_operator,
    use_operator_folder,
)
from pipeline.engine.optimizers.adamw import CPU_ADAM
from pipeline.engine.optimizers.optimizer_kind import optimizer_kind
from pipeline.logs import note

ASYNC_IO = Operator(
    "async_io",
    "DeepSpeed's reader and writer of NVMe disks",
    "from deepspeed.ops.op_builder import AsyncIOBuilder; AsyncIOBuilder().load(verbose=True)",
    usual="1 minute",
    remedy="install libaio and a C++ compiler (Debian: apt install libaio-dev g++), or offload to device cpu",
)


def needed_operators(resolved: dict[str, Any], optimizer: Optimizer) -> list[Operator]:
    """Return what a DeepSpeed config and an optimizer make every rank load."""
    devices = [offload_device(resolved, what) for what in ("optimizer", "param")]
    of_optimizer = optimizer_kind(optimizer).operators(optimizer, devices[0] != "none")
    return [*of_optimizer, ASYNC_IO] if "nvme" in devices else of_optimizer


def main() -> None:
    """Compile DeepSpeed's CPU optimizer for this machine, unless it is there, and say what takes so
    long."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    if is_operator_built(CPU_ADAM):
        return
    note(CPU_ADAM.announcement)
    started = time.monotonic()
    provide_operator(CPU_ADAM)
    note(f"built in {time.monotonic() - started:.0f} s in {use_operator_folder()}")


if __name__ == "__main__":
    main()
