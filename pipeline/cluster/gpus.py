"""The NVIDIA GPUs of this machine, counted and named without torch."""

import os
import re
import shutil
import subprocess

from pipeline.errors import ConfigError

DEVICE_NAMES = {"number": r"\d+", "GPU": r"GPU-[0-9A-Fa-f-]+", "MIG": r"MIG-[0-9A-Za-z/-]+"}
"""What CUDA_VISIBLE_DEVICES may list: patterns of a name, by its form."""


def gpu_count() -> int:
    """Return the number of NVIDIA GPUs that this process may use, without torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name for name in _listed(visible) if not name.startswith("-")]
        if any(name.startswith("MIG-") for name in names):
            return 1  # CUDA shows a process the first MIG device alone
        return len(names)
    if os.environ.get("DS_ACCELERATOR") == "cpu" or not shutil.which("nvidia-smi"):
        return 0
    asked = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        return 0
    return sum(line.startswith("GPU ") for line in asked.stdout.splitlines())


def visible_devices(ranks: int) -> list[str]:
    """Return the GPUs of CUDA_VISIBLE_DEVICES that this number of ranks gets: numbers, UUIDs, or
    one MIG device.

    Raises ConfigError for other names, and for more than one MIG device, of which CUDA shows a
    process the first alone.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = _listed(visible)
    forms = [_form_of_device(name) for name in names]
    if None in forms or len(set(forms)) > 1:
        raise ConfigError(
            [
                f"CUDA_VISIBLE_DEVICES = {visible}: takes numbers, as in `0,1`, or UUIDs as "
                "`nvidia-smi -L` prints them"
            ]
        )
    if "MIG" in forms and ranks > 1:
        raise ConfigError([f"launch.ranks = {ranks}: on MIG devices one rank can run; set it to 1"])
    return names[:ranks]


def _listed(visible: str) -> list[str]:
    return [name.strip() for name in visible.split(",") if name.strip()]


def _form_of_device(name: str) -> str | None:
    for form, pattern in DEVICE_NAMES.items():
        if re.fullmatch(pattern, name):
            return form
    return None
