"""The NVIDIA GPUs of this machine, counted and named without torch."""

import os
import re
import shutil
import subprocess

from pipeline.errors import ConfigError

DEVICE_NAMES = {"number": r"\d+", "GPU": r"GPU-[0-9A-Fa-f-]+", "MIG": r"MIG-[0-9A-Za-z/-]+"}
"""Patterns of the names in CUDA_VISIBLE_DEVICES, by their form."""


def gpu_count() -> int:
    """Return the number of NVIDIA GPUs that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name for name in _listed(visible) if not name.startswith("-")]
        if any(name.startswith("MIG-") for name in names):
            return 1  # CUDA shows a process only the first MIG device.
        return len(names)
    if os.environ.get("DS_ACCELERATOR") == "cpu" or not shutil.which("nvidia-smi"):
        return 0
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        return 0
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())


def visible_devices(ranks: int) -> list[str]:
    """Return the first `ranks` GPUs in CUDA_VISIBLE_DEVICES: numbers, UUIDs, or one MIG device.

    Raises ConfigError for other names, and for several ranks on MIG devices, because CUDA shows a
    process only the first MIG device.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = _listed(visible)
    forms = [_form_of_device(name) for name in names]
    if None in forms or len(set(forms)) > 1:
        raise ConfigError(
            [
                f"CUDA_VISIBLE_DEVICES = {visible}: must be numbers, as in `0,1`, or UUIDs as "
                "`nvidia-smi -L` prints them"
            ]
        )
    if "MIG" in forms and ranks > 1:
        raise ConfigError(
            [f"launch.ranks = {ranks}: only one rank can run on MIG devices; set it to 1"]
        )
    return names[:ranks]


def _listed(visible: str) -> list[str]:
    return [name.strip() for name in visible.split(",") if name.strip()]


def _form_of_device(name: str) -> str | None:
    for form, pattern in DEVICE_NAMES.items():
        if re.fullmatch(pattern, name):
            return form
    return None
