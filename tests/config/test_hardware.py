"""Hardware: every shipped file, and the devices that drivers report."""

from pathlib import Path

import pytest
import yaml

from pipeline.config.hardware import device_peak_flops, hardware_of_device, read_hardware
from pipeline.config.shipped_files import HARDWARE, shipped_files
from pipeline.errors import ConfigError


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100-SXM-64GB", "a100-64gb"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H100 NVL", "h100-nvl"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA GH200 120GB", "gh200"),
        ("NVIDIA B200", "b200"),
        ("AMD Instinct MI250X", "mi250x"),
        ("AMD Instinct MI300X", "mi300x"),
        ("NVIDIA L40S", "l40s"),
        ("Tesla V100-SXM2-32GB", "v100-32gb"),
        ("CPU", None),
        ("NVIDIA GeForce GTX 1080", None),
    ],
)
def test_a_device_goes_by_the_name_that_its_driver_reports(reported: str, name: str | None) -> None:
    assert hardware_of_device(reported) == name


def test_peaks_are_those_of_matrix_products_without_sparsity() -> None:
    assert device_peak_flops("NVIDIA H200") == 989e12
    assert device_peak_flops("NVIDIA H100 PCIe") == 756e12
    assert device_peak_flops("NVIDIA A100-SXM4-80GB") == 312e12
    assert device_peak_flops("Tesla V100-SXM2-32GB") == 125e12  # fp16: Volta has no bf16
    assert read_hardware("v100-32gb").peak_flops("bf16") is None
    assert device_peak_flops("CPU") is None


@pytest.mark.parametrize("name", shipped_files(HARDWARE))
def test_shipped_hardware_is_plausible(name: str) -> None:
    hardware = read_hardware(name)
    assert hardware.peak_flops("fp32")
    assert hardware.network_gb_per_second < hardware.link_gb_per_second
    assert hardware.host_memory_gib >= hardware.devices_per_node
    source = (HARDWARE / f"{name}.yaml").read_text().splitlines()[0]
    assert source.startswith("# ")


def test_unknown_hardware_is_refused_with_all_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"h100: no such hardware; there are a10, a100-40gb"):
        read_hardware("h100")
    with pytest.raises(ConfigError, match=r"site\.hardware = h100: no such hardware; there are a1"):
        read_hardware("h100", "site.hardware")


def test_every_wrong_value_of_a_file_is_named(tmp_path: Path) -> None:
    document: dict[str, object] = yaml.safe_load((HARDWARE / "h200.yaml").read_text())
    document |= {"assumed_mfu": True, "memory_gib": -1, "devices_per_node": False, "memory": 3}
    del document["cores_per_node"]
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError) as refused:
        read_hardware(str(own))
    assert str(refused.value).startswith(f"5 problems in {own}:\n")
    assert sorted(refused.value.problems) == [
        "assumed_mfu = True: value error, must be a number, not yes or no",
        "cores_per_node: is required and not set",
        "devices_per_node = False: value error, must be a number, not yes or no",
        "memory: unknown key; did you mean memory_gib?",
        "memory_gib = -1: input should be greater than 0",
    ]
