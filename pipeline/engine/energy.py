"""Energy that this rank's device has used: NVIDIA's management library, or the CPUs' own counters.

Reads counters of the driver and of the kernel. Where a device has none, or this user may not read
them, there is no meter: nothing is estimated.
"""

import ctypes
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.store.heartbeat import EnergyReading

NVML = "libnvidia-ml.so.1"
"""NVIDIA's management library, which comes with the driver."""
POWERCAP = Path("/sys/class/powercap")
"""Folder of the kernel's power zones. Source: docs.kernel.org/power/powercap/powercap.html."""
COUNTED_ZONES = ("package", "dram")
"""Beginnings of the names of zones that are counted. Zones of cores are parts of a package."""


@dataclass(frozen=True)
class EnergyCounter:
    """A counter of a device that only grows, but may begin again at 0."""

    read: Callable[[], float]
    """Returns joules; raises OSError where the counter cannot be read."""
    range: float | None = None
    """Joules at which the counter begins again at 0; None if it never does."""


class EnergyMeter:
    """Adds up the energy that some counters have counted since the meter was made."""

    def __init__(self, counters: Sequence[EnergyCounter]) -> None:
        """Read the counters for the first time. Raises OSError where one cannot be read."""
        self._counters = counters
        self._last = [counter.read() for counter in counters]
        self._began = time.monotonic()
        self._reading: EnergyReading = {"joules": 0.0, "seconds": 0.0}

    def read(self) -> EnergyReading:
        """Return the energy since the meter was made.

        Must be called more often than a counter begins again. Returns the reading before where a
        counter cannot be read now.
        """
        try:
            now = [counter.read() for counter in self._counters]
        except OSError:
            return self._reading
        joules = self._reading["joules"]
        for counter, before, after in zip(self._counters, self._last, now, strict=True):
            joules += after - before
            if after < before:
                joules += counter.range or 0.0
        self._last = now
        self._reading = {"joules": joules, "seconds": time.monotonic() - self._began}
        return self._reading


def device_energy_meter(device: torch.device, *, is_first_on_machine: bool) -> EnergyMeter | None:
    """Return a meter of a rank's GPU; without GPUs one of all CPUs, for one rank a machine.

    None where the device has no counter that this process may read.
    """
    counters: list[EnergyCounter] = []
    if device.type == "cuda":
        counter = nvml_counter(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        if counter is not None:
            counters = [counter]
    elif is_first_on_machine:
        counters = rapl_counters(POWERCAP)
    if not counters:
        return None
    try:
        return EnergyMeter(counters)
    except OSError:
        return None


def nvml_counter(uuid: str, library: str = NVML) -> EnergyCounter | None:
    """Return the energy counter of an NVIDIA GPU, None without one (before Volta, in MIG slices).

    Source: NVML's `nvmlDeviceGetTotalEnergyConsumption`, millijoules since the driver was loaded.
    """
    try:
        nvml = ctypes.CDLL(library)
    except OSError:
        return None
    device = ctypes.c_void_p()
    if nvml.nvmlInit_v2() != 0:
        return None
    if nvml.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(device)) != 0:
        return None

    def read() -> float:
        millijoules = ctypes.c_ulonglong()
        code = nvml.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(millijoules))
        if code != 0:
            raise OSError(code, "NVML does not tell the energy of this GPU")
        return millijoules.value / 1e3

    return EnergyCounter(read)


def rapl_counters(powercap: Path) -> list[EnergyCounter]:
    """Return the counters of all CPU packages of this machine and of their memory.

    Empty where there is none, or where this user may not read one: a part would look like a whole.
    """
    counters: list[EnergyCounter] = []
    for zone in sorted(powercap.glob("intel-rapl:*")):
        try:
            name = (zone / "name").read_text().strip()
            if not name.startswith(COUNTED_ZONES):
                continue
            wraps_at = int((zone / "max_energy_range_uj").read_text()) / 1e6
            counter = EnergyCounter(_microjoules_reader(zone / "energy_uj"), wraps_at)
            counter.read()
        except (OSError, ValueError):
            return []
        counters.append(counter)
    return counters


def _microjoules_reader(path: Path) -> Callable[[], float]:
    return lambda: int(path.read_text()) / 1e6
