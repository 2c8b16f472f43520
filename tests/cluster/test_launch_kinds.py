"""A kind of launch is one class and one line in the table: a new one needs nothing else."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.cluster.launch import WORKER, LaunchKind, LaunchPlan, plan_launch
from pipeline.cluster.launch_checks import check_launch
from pipeline.config.groups import group_sizes
from pipeline.config.kinds import LAUNCH_KINDS
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.errors import ConfigError


class BareProcess(LaunchKind):
    """One rank, which no launcher starts."""

    ranks_are_set_by = "the kind"

    def rank_count(self, config: RunConfig) -> int:
        return 1

    def plan(self, config: RunConfig, run_file: Path, port: int) -> LaunchPlan:
        environment = {"RANK": "0", "MASTER_PORT": str(port)}
        return LaunchPlan(
            self, [sys.executable, "-m", WORKER], environment, group_sizes(1), "bare rank", port
        )

    def meets_here(self, launch: LaunchPlan) -> bool:
        return True

    def is_launcher(self, command: Sequence[str]) -> bool:
        return False


def test_a_new_kind_is_one_class_and_one_line(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="should be 'local', 'slurm' or 'hostfile'"):
        load(run_file, ["launch.kind=bare"])
    monkeypatch.setitem(LAUNCH_KINDS.paths, "bare", f"{__name__}:BareProcess")
    config = load(run_file, ["launch.kind=bare"])
    check_launch(config)
    launch = plan_launch(config, run_file)
    assert (launch.groups.world, launch.where) == (1, "bare rank")
    assert launch.kind.hosts_out_of_reach(launch) is None


@pytest.mark.parametrize("name", LAUNCH_KINDS.paths)
def test_each_name_in_the_table_is_a_kind(name: str) -> None:
    assert isinstance(LAUNCH_KINDS[name], LaunchKind)
    assert LAUNCH_KINDS[name] is LAUNCH_KINDS[name]


def test_a_word_that_names_no_kind_is_refused_like_any_other_choice(run_file: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load(run_file, ["launch.kind=ssh", "launch.ranks=0", "checkpoint.verify=all"])
    message = str(refused.value)
    assert "launch.kind = 'ssh': input should be 'local', 'slurm' or 'hostfile'" in message
    assert "checkpoint.verify = 'all': input should be 'checksums' or 'sizes'" in message
