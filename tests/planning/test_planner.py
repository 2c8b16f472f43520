"""Allocations of a plan, and utilisation in another count of attention."""

from pathlib import Path

import pytest
from plans import HARDWARE, facts_of
from test_plan import rates

from pipeline.config.run_file import load
from pipeline.config.sites import read_site
from pipeline.errors import ConfigError
from pipeline.planning.planner import (
    allocation_of,
    job_length_problems,
    jobs_of_plan,
    plan_on_site,
    training_jobs,
    with_all_attention,
)

pytestmark = pytest.mark.usefixtures("forked_checks")


@pytest.mark.parametrize(
    ("attention", "counted"),
    [("all", 6e6 + 19_200), ("causal", 6e6 + 9_600), ("none", 6e6)],
)
def test_utilisation_is_converted_from_its_own_count(attention: str, counted: float) -> None:
    """The same seconds a token: the share of the peak is as much larger as the FLOPs are more."""
    hardware = HARDWARE.model_copy(update={"mfu_attention": attention})
    found = with_all_attention(rates(), hardware, facts_of(), 8)
    assert found.mfu.value == pytest.approx(0.5 * (6e6 + 19_200) / counted)


def test_ranks_take_as_many_nodes_as_hold_them(run_file: Path) -> None:
    ten = load(run_file, ["launch.ranks=10"])
    for nodes in (None, 2):
        found = allocation_of(ten, "h100-sxm", nodes, 24)
        assert (found.nodes, found.devices, found.devices_left_out) == (2, 10, 0)


def test_nodes_that_contradict_ranks_are_refused(run_file: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        allocation_of(load(run_file, ["launch.ranks=10"]), "h100-sxm", 3, 24)
    assert refused.value.problems == [
        "--nodes = 3 and launch.ranks = 10: 10 ranks take 2 nodes of 8 devices; give --nodes 2, or "
        "set launch.ranks to 24 or auto"
    ]


def test_one_node_is_planned_with_the_devices_that_divide_the_batch(run_file: Path) -> None:
    """4 sequences in micro-batches of 2 divide among 2 devices of 8; 16 of them among all 8."""
    small = allocation_of(load(run_file), "h100-sxm", None, 24)
    assert (small.nodes, small.devices, small.devices_left_out) == (1, 2, 6)
    large = load(run_file, ["batch.global_batch_tokens=128"])
    whole = allocation_of(large, "h100-sxm", None, 24)
    assert (whole.nodes, whole.devices, whole.devices_left_out) == (1, 8, 0)


def test_nodes_that_do_not_divide_the_batch_are_refused(run_file: Path) -> None:
    """128 tokens are 8 micro-batches of 2 x 8: for one node of 8 devices, not for 3."""
    config = load(run_file, ["batch.global_batch_tokens=128"])
    assert allocation_of(config, "h100-sxm", 1, 24).devices == 8
    with pytest.raises(ConfigError) as refused:
        allocation_of(config, "h100-sxm", 3, 24)
    assert refused.value.problems == [
        "batch.global_batch_tokens = 128: must be a multiple of 3 nodes x 8 ranks x "
        "batch.micro_batch_sequences = 2 x data.sequence_length = 8; set 384 or 768, or give "
        "--nodes 1"
    ]


SITE = """\
description: one node
hardware: h100-sxm
gpu_nodes: {gpus: 2, cores: 8, longest_time: 1-00}
nodes_have_network: true
"""


@pytest.mark.ranks  # a process of its own looks at the model
def test_states_in_host_memory_need_the_hours_of_the_training(
    run_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "site.yaml").write_text(SITE)
    site = read_site(str(tmp_path / "site.yaml"))
    offloading = load(run_file, ["deepspeed=zero3_offload", "optimizer.kind=adamw"])
    plan = plan_on_site(offloading, site, 1, 36_000.0, [])
    message = r"zero3_offload.*: how long a step takes with states in host memory is not predicted"
    with pytest.raises(ConfigError, match=message):
        training_jobs(plan, offloading, None)
    # 10 h less 5 min of start-up and 6 min before the signal: 9 h 49 min of 20 h.
    jobs = training_jobs(plan, offloading, 20.0)
    assert jobs_of_plan(jobs) == 3
    assert job_length_problems(jobs, plan.rates.start_up_seconds, "--time = 10:00:00") == []
    assert jobs.device_hours == pytest.approx(2 * (20 + 3 * 300 / 3600))


def test_a_device_without_the_number_format_is_refused(run_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"precision\.dtype = bf16: NVIDIA V100"):
        allocation_of(load(run_file), "v100-32gb", None, 24)
