"""Devices and the servers that hold them: the one table of peaks, memory and links.

Reads `presets/hardware/*.yaml`. Imports no torch.
"""

import functools
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError

from pipeline.config.run_file import problems_in
from pipeline.config.shipped_files import HARDWARE, shipped_file, shipped_files
from pipeline.config.values import Section
from pipeline.config.yaml_files import YamlValue, read_yaml
from pipeline.errors import ConfigError

CPU = "CPU"
"""Name under which runs record a device that is no GPU."""


def _no_switch(value: YamlValue) -> YamlValue:
    """Refuse `yes` and `no`, which pydantic would take as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not yes or no")
    return value


Number = Annotated[float, BeforeValidator(_no_switch)]
Count = Annotated[int, BeforeValidator(_no_switch)]


class Hardware(Section):
    """A kind of device, as one rank sees it, and a server with several of them.

    Rates are those on paper. A link's rate counts one direction.
    """

    description: str
    """Name for people, with the memory."""
    device_names: tuple[str, ...]
    """Parts of the names under which drivers report the device."""
    peak_bf16_tflops: Number | None = Field(gt=0)
    """Dense matrix products in bf16, 10^12 FLOP/s; none where the device has no bf16."""
    peak_fp16_tflops: Number | None = Field(gt=0)
    """The same in fp16."""
    peak_fp32_tflops: Number = Field(gt=0)
    """The same in fp32, without TF32."""
    memory_gib: Number = Field(gt=0)
    """Memory of a device, in GiB."""
    devices_per_node: Count = Field(ge=1)
    """Devices of a server."""
    link_gb_per_second: Number = Field(gt=0)
    """From a device to the others of its server, 10^9 bytes a second."""
    network_gb_per_second: Number = Field(gt=0)
    """From a device to other servers, 10^9 bytes a second: its share of the server's ports."""
    host_memory_gib: Number = Field(gt=0)
    """Memory of a server beside that of its devices, in GiB."""
    cores_per_node: Count = Field(ge=1)
    """CPU cores of a server."""
    assumed_mfu: Number = Field(gt=0, lt=1)
    """Share of the peak that training reaches on one server; `--from RUN` replaces it by what a run
    reached."""
    mfu_attention: Literal["all", "causal", "none"] = "all"
    """Attention's FLOPs a token in that share's count, besides 6 N: all 12 L d T, the causal half
    of them, or none."""

    @property
    def is_cpu(self) -> bool:
        """Whether ranks run on the cores of the host and in its memory."""
        return not self.device_names

    def describes(self, device_name: str) -> bool:
        """Tell whether this is the hardware of a device that a driver reports under this name.

        It is not where shipped hardware has a longer part of the name (`H100 PCIe` for `H100`).
        """
        if self.is_cpu:
            return device_name == CPU
        parts = [part for part in self.device_names if part in device_name]
        if not parts:
            return False
        shipped = _shipped_parts(device_name)
        return len(max(parts, key=len)) >= max(map(len, shipped), default=0)

    def peak_flops(self, dtype: str) -> float | None:
        """Return the FLOP/s of a number format; None where the device does not compute in it."""
        tflops = {
            "bf16": self.peak_bf16_tflops,
            "fp16": self.peak_fp16_tflops,
            "fp32": self.peak_fp32_tflops,
        }[dtype]
        if tflops is None:
            return None
        return tflops * 1e12


def is_hardware_file(written: str) -> bool:
    """Tell whether hardware is given as a file, with slash or suffix, and not by a shipped name."""
    return "/" in written or bool(Path(written).suffix)


def read_hardware(written: str, setting: str = "--hardware") -> Hardware:
    """Return the shipped hardware of a name, or that of a YAML file, named with slash or suffix.

    `setting`: what the user wrote it for. Raises ConfigError for an unknown name, with all names,
    and for a file that cannot be used.
    """
    path = Path(written)
    if not is_hardware_file(written):
        try:
            path = shipped_file(written, HARDWARE, "hardware")
        except ValueError as error:
            raise ConfigError([f"{setting} = {written}: {error}; or name a file"]) from None
    return _read(path)


@functools.cache
def _read(path: Path) -> Hardware:
    try:
        return Hardware.model_validate(read_yaml(path))
    except ValidationError as error:
        raise ConfigError(problems_in(error, Hardware), str(path)) from None


def hardware_of_device(device_name: str) -> str | None:
    """Return the name of the shipped hardware whose device a driver reports under this name.

    Of several parts that the name has, the longest decides. None for a device that is not shipped.
    """
    names = _shipped_parts(device_name)
    if not names:
        return None
    return names[max(names, key=len)]


def _shipped_parts(device_name: str) -> dict[str, str]:
    """Return the parts of a device's name that shipped hardware has, with the hardware's name."""
    if device_name == CPU:
        return {}  # known without reading every file, as each run on CPUs would
    return {
        part: name
        for name, path in shipped_files(HARDWARE).items()
        for part in _read(path).device_names
        if part in device_name
    }


def device_peak_flops(device_name: str) -> float | None:
    """Return a device's peak dense bf16 FLOP/s, or that in fp16 where it has no bf16.

    None for a device that is not shipped, CPUs among them.
    """
    name = hardware_of_device(device_name)
    if name is None:
        return None
    hardware = read_hardware(name)
    return hardware.peak_flops("bf16") or hardware.peak_flops("fp16")
