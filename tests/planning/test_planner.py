"""Allocations of a plan, and utilisation in another count of attention."""

from pathlib import Path

import pytest
from plans import HARDWARE, facts_of
from test_plan import rates

from pipeline.config.run_file import load
from pipeline.config.sites import read_site
from pipeline.errors import ConfigError
from pipeline.planning.planner import allocation_of, plan_on_site, with_all_attention


@pytest.mark.parametrize(
    ("attention", "counted"),
    [("all", 6e6 + 19_200), ("causal", 6e6 + 9_600), ("none", 6e6)],
)
def test_utilisation_is_converted_from_its_own_count(attention: str, counted: float) -> None:
    """The same seconds a token: the share of the peak is as much larger as the FLOPs are more."""
    hardware = HARDWARE.model_copy(update={"mfu_attention": attention})
    found = with_all_attention(rates(), hardware, facts_of(), 8)
    assert found.mfu.value == pytest.approx(0.5 * (6e6 + 19_200) / counted)


def test_nodes_are_whole_unless_ranks_are_given(run_file: Path) -> None:
    two = load(run_file, ["launch.ranks=10"])
    found = allocation_of(two, "h100-sxm", None, 24)
    assert (found.nodes, found.devices) == (2, 10)
    assert allocation_of(two, "h100-sxm", 3, 24).devices == 24
    assert allocation_of(load(run_file), "gh200", None, 24).devices == 4


SITE = """\
description: one node
hardware: h100-sxm
gpu_nodes: {gpus: 2, cores: 8, longest_time: 1-00}
nodes_have_network: true
"""


@pytest.mark.ranks  # a process of its own looks at the model
def test_jobs_that_cannot_be_planned_on_a_site_are_refused(run_file: Path, tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(SITE)
    site = read_site(str(tmp_path / "site.yaml"))
    message = r"--time: a job of 5 min is over before its first step, with 5 min for the start-up"
    with pytest.raises(ConfigError, match=message):
        plan_on_site(load(run_file), site, 1, 300.0, [])
    offloading = load(run_file, ["deepspeed=zero3_offload", "optimizer.kind=adamw"])
    message = r"zero3_offload.*: how long a step takes with states in host memory is not predicted"
    with pytest.raises(ConfigError, match=message):
        plan_on_site(offloading, site, 1, 86_400.0, [])


def test_a_device_without_the_number_format_is_refused(run_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"precision\.dtype = bf16: NVIDIA V100"):
        allocation_of(load(run_file), "v100-32gb", None, 24)
