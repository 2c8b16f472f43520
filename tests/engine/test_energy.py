"""Energy from counters in a folder like the kernel's, and from a library like NVIDIA's."""

import subprocess
from pathlib import Path

import pytest
import torch

from pipeline.engine.energy import (
    EnergyCounter,
    EnergyMeter,
    device_energy_meter,
    nvml_counter,
    rapl_counters,
)

NVML_OF_ONE_GPU = """\
#include <string.h>
static int handle;
static unsigned long long millijoules = 5000;
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    *device = &handle;
    return strcmp(uuid, "GPU-here") ? 6 : 0;
}
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *energy) {
    *energy = millijoules;
    millijoules += 1500;
    return device == &handle && millijoules < 9000 ? 0 : 3;
}
"""
"""Each reading is 1.5 J more; the third one fails."""


def write_zone(powercap: Path, zone: str, name: str, microjoules: int, most: int = 10**12) -> Path:
    folder = powercap / zone
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder / "energy_uj"


def test_packages_and_their_memory_count_and_cores_do_not(tmp_path: Path) -> None:
    package = write_zone(tmp_path, "intel-rapl:0", "package-0", 7_000_000)
    other = write_zone(tmp_path, "intel-rapl:1", "package-1", 1_000_000)
    memory = write_zone(tmp_path, "intel-rapl:0:1", "dram", 2_000_000)
    cores = write_zone(tmp_path, "intel-rapl:0:0", "core", 3_000_000)
    meter = EnergyMeter(rapl_counters(tmp_path))
    assert meter.read()["joules"] == 0
    package.write_text("9000000")
    other.write_text("1500000")
    memory.write_text("2250000")
    cores.write_text("4000000")
    assert meter.read()["joules"] == 2 + 0.5 + 0.25
    assert 0 <= meter.read()["seconds"] < 60


def test_a_counter_that_begins_again_goes_on(tmp_path: Path) -> None:
    energy = write_zone(tmp_path, "intel-rapl:0", "package-0", 9_000_000, most=10_000_000)
    meter = EnergyMeter(rapl_counters(tmp_path))
    energy.write_text("500000")
    assert meter.read()["joules"] == 1.5
    energy.write_text("1000000")
    assert meter.read()["joules"] == 2


def test_a_part_that_cannot_be_read_leaves_nothing(tmp_path: Path) -> None:
    assert rapl_counters(tmp_path / "none") == []
    write_zone(tmp_path, "intel-rapl:0", "package-0", 1)
    write_zone(tmp_path, "intel-rapl:1", "package-1", 1).write_text("not a number")
    assert rapl_counters(tmp_path) == []


def test_a_counter_that_fails_later_leaves_what_was_counted() -> None:
    values = iter([1.0, 4.0])

    def read() -> float:
        try:
            return next(values)
        except StopIteration:
            raise OSError("gone") from None

    meter = EnergyMeter([EnergyCounter(read)])
    assert meter.read()["joules"] == 3
    assert meter.read()["joules"] == 3


def test_only_one_rank_of_a_machine_reads_its_cpus() -> None:
    assert device_energy_meter(torch.device("cpu"), is_first_on_machine=False) is None


def test_without_the_library_of_nvidia_there_is_no_counter() -> None:
    assert nvml_counter("GPU-here", library="libnot-there.so.1") is None


@pytest.mark.ranks
def test_a_gpu_is_found_by_its_name_and_read_in_joules(tmp_path: Path) -> None:
    (tmp_path / "nvml.c").write_text(NVML_OF_ONE_GPU)
    library = tmp_path / "libnvml.so"
    command = ["cc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "nvml.c")]
    subprocess.run(command, check=True)
    assert nvml_counter("GPU-elsewhere", str(library)) is None
    counter = nvml_counter("GPU-here", str(library))
    assert counter is not None
    meter = EnergyMeter([counter])
    assert meter.read()["joules"] == 1.5
    assert meter.read()["joules"] == 1.5, "the reading before the one that failed"
