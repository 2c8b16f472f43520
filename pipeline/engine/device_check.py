"""Asks this machine's devices for the run's number format: `separate_checks` runs this, where the
ranks will be local."""

import os
from typing import Any

import torch

from pipeline.config.run_config import RunConfig
from pipeline.engine.capacity import cpu_has_fp16, precision_problems
from pipeline.errors import ConfigError
from pipeline.work.separate_checks import answer


def check_precision(config: RunConfig) -> dict[str, Any]:
    """Return nothing. Raises ConfigError where the device, a GPU or else the CPU, does not compute
    in `precision.dtype`."""
    on_gpu = os.environ.get("DS_ACCELERATOR") != "cpu" and torch.cuda.is_available()
    capability = torch.cuda.get_device_capability() if on_gpu else None
    problems = precision_problems(config.precision.dtype, capability, cpu_has_fp16())
    if problems:
        raise ConfigError(problems)
    return {}


if __name__ == "__main__":
    answer(check_precision)
