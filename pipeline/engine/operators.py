"""Which of DeepSpeed's operators every rank of a run loads. Free of torch.

`python -m pipeline.engine.operators` compiles what training on CPUs may need (`jobs/setup.sh dev`).
"""

import os
import time

from pipeline.config.sections import Optimizer
from pipeline.engine.deepspeed_config import DeepSpeedConfig, offload_device
from pipeline.engine.extensions import (
    Operator,
    compile_program,
    is_operator_built,
    operator_folder,
    provide_operator,
)
from pipeline.engine.optimizers.adamw import CPU_ADAM
from pipeline.engine.optimizers.optimizer_kind import optimizer_kind
from pipeline.logs import note

ASYNC_IO = Operator(
    "async_io",
    "DeepSpeed's reader and writer of NVMe disks",
    compile_program("AsyncIOBuilder"),
    usual="1 minute",
    remedy=(
        "install libaio and a C++ compiler (Debian: apt install libaio-dev g++), or offload to "
        "device cpu"
    ),
    dependencies=("pin_memory",),
)


def needed_operators(resolved: DeepSpeedConfig, optimizer: Optimizer) -> list[Operator]:
    """Return the operators that a DeepSpeed config and an optimizer make every rank load."""
    optimizer_device = offload_device(resolved, "optimizer")
    parameter_device = offload_device(resolved, "param")
    operators = optimizer_kind(optimizer).operators(optimizer, optimizer_device != "none")
    if "nvme" in (optimizer_device, parameter_device):
        return [*operators, ASYNC_IO]
    return operators


def main() -> None:
    """Compile DeepSpeed's CPU optimizer for this machine, unless that has been done before."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    if is_operator_built(CPU_ADAM.name):
        return
    note(CPU_ADAM.announcement)
    started = time.monotonic()
    provide_operator(CPU_ADAM)
    note(f"built in {time.monotonic() - started:.0f} s in {operator_folder()}")


if __name__ == "__main__":
    main()
