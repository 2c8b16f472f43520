"""What a device can do: number formats by compute capability, the limits of cgroups, settings read
from a run."""

from collections.abc import Callable
from pathlib import Path

import pytest
from ranks import run_ranks

from pipeline.config.groups import group_sizes
from pipeline.config.run_file import load
from pipeline.engine.capacity import (
    left_in_cgroups,
    memory_setting,
    precision_problems,
)
from pipeline.engine.deepspeed_config import fit_buckets, read_template, resolve_template

TEMPLATES = Path(__file__).parents[2] / "ds_configs"


def test_number_formats_need_hardware() -> None:
    assert precision_problems("bf16", (7, 5), False) == [
        "precision.dtype = bf16: this GPU has compute capability 7.5, and bf16 needs 8.0; set fp16 "
        "(with loss scaling) "
        "or fp32"
    ]
    assert precision_problems("fp16", None, False) == [
        "precision.dtype = fp16: this CPU does not compute in fp16; set bf16 or fp32"
    ]
    fine = [("bf16", (8, 0)), ("bf16", (9, 0)), ("bf16", None), ("fp16", (7, 0)), ("fp32", (6, 1))]
    assert [precision_problems(dtype, capability, False) for dtype, capability in fine] == [[]] * 5
    assert precision_problems("fp16", None, True) == []


def test_the_tightest_cgroup_counts(tmp_path: Path) -> None:
    """The job may have 1,000 of which 400 are taken, 150 of those by pages of files; its step 900,
    of which 100."""
    step = tmp_path / "job" / "step"
    step.mkdir(parents=True)
    (step.parent / "memory.max").write_text("1000\n")
    (step.parent / "memory.current").write_text("400\n")
    (step.parent / "memory.stat").write_text("anon 250\nactive_file 100\ninactive_file 50\n")
    (step / "memory.max").write_text("900\n")
    (step / "memory.current").write_text("100\n")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("5000\n")
    assert left_in_cgroups(tmp_path, ["0::/job/step"]) == [800, 750]


def test_version_1_of_cgroups(tmp_path: Path) -> None:
    folder = tmp_path / "memory" / "job"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text("1000")
    (folder / "memory.usage_in_bytes").write_text("1200")
    assert left_in_cgroups(tmp_path, ["7:cpu:/job", "9:memory:/job"]) == [0]
    assert left_in_cgroups(tmp_path / "none", ["9:memory:/job", "0::/job"]) == []


@pytest.mark.parametrize(
    ("template", "dtype", "on_gpu", "buckets"),
    [
        ("zero0", "fp32", True, 0),
        ("zero1", "bf16", True, 0),  # its optimizer reduces gradients where they lie
        ("zero1", "fp32", True, 4 * 500_000_000),
        ("zero2", "bf16", True, 2 * 2 * 500_000_000),  # overlap_comm: two
        ("zero3", "bf16", True, 2 * 50_000_000),
        ("zero2", "bf16", False, 0),
    ],
)
def test_buffers_of_each_template(
    run_file: Path, template: str, dtype: str, on_gpu: bool, buckets: int
) -> None:
    config = load(run_file, [f"precision.dtype={dtype}"])
    resolved = resolve_template(
        read_template(TEMPLATES / f"{template}.json"), config, group_sizes(2)
    )
    assert memory_setting(config, resolved, 2, on_gpu).bucket_bytes == buckets
    of_small_model = memory_setting(config, fit_buckets(resolved, 1000), 2, on_gpu).bucket_bytes
    assert of_small_model == (
        buckets and buckets // (50_000_000 if template == "zero3" else 500_000_000) * 1000
    )
    assert (
        fit_buckets(resolved, 10**12)["zero_optimization"].items()
        >= resolved["zero_optimization"].items()
    )


def test_what_is_offloaded_is_read_from_the_template(run_file: Path) -> None:
    config = load(run_file, ["optimizer.kind=adamw"])
    resolved = resolve_template(
        read_template(TEMPLATES / "zero3_offload.json"), config, group_sizes(2)
    )
    setting = memory_setting(config, resolved, 2, on_gpu=False)
    assert (setting.offloads_optimizer, setting.offloads_parameters, setting.to_nvme) == (
        True,
        True,
        False,
    )


@pytest.mark.ranks
def test_a_model_too_big_is_refused_before_it_is_built(make_run: Callable[..., Path]) -> None:
    """Llama 3 70B, on a machine that has less than the 1,000 GiB of its states."""
    preset = [
        "model.config={hidden_size: 8192, intermediate_size: 28672, num_hidden_layers: 80, "
        "num_attention_heads: 64}"
    ]
    outcome = run_ranks(make_run(), 2, preset)
    assert outcome["status"] == "refused"
    assert "do not fit into a rank's share of" in outcome["message"]
