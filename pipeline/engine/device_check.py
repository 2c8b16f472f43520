"""Check, in a process of its own, that this machine's devices compute in `precision.dtype`.

`work/separate_checks.py` starts this module where the ranks will run on this machine. Reads the
settings from standard input, writes the verdict to standard output.
"""

import os

import torch

from pipeline.config.run_config import RunConfig
from pipeline.engine.capacity import compute_capability, cpu_has_fp16, precision_problems
from pipeline.errors import ConfigError
from pipeline.work.separate_checks import serve_separate_check


def check_precision(config: RunConfig) -> dict[str, str]:
    """Return no facts. Raises ConfigError where the GPU, or else the CPU, lacks the format."""
    on_gpu = os.environ.get("DS_ACCELERATOR") != "cpu" and torch.cuda.is_available()
    capability = compute_capability(on_gpu)
    problems = precision_problems(config.precision.dtype, capability, cpu_has_fp16())
    if problems:
        raise ConfigError(problems)
    return {}


if __name__ == "__main__":
    serve_separate_check(check_precision)
