"""Groups of ranks as numbers: the batch is divided among data ranks, whatever the world is."""

from pathlib import Path

import pytest

from pipeline.config.batch_division import batches_that_ranks_do_not_divide
from pipeline.config.groups import GroupSizes, group_sizes, groups_of_rank
from pipeline.config.run_file import load
from pipeline.config.step_plan import plan_steps
from pipeline.engine.deepspeed_config import resolve_template
from pipeline.sampling.loader import RankShare

PAIRS = GroupSizes(world=4, data=2)
"""Four ranks, of which two and two read the same samples."""


def test_with_data_parallelism_alone_every_rank_is_a_data_rank() -> None:
    assert group_sizes(3) == GroupSizes(world=3, data=3)
    places = [groups_of_rank(group_sizes(3), rank) for rank in range(3)]
    assert [(place.world_rank, place.data_rank) for place in places] == [(0, 0), (1, 1), (2, 2)]
    assert [place.is_rank_0 for place in places] == [True, False, False]


def test_neighbours_in_the_world_read_the_same_samples() -> None:
    places = [groups_of_rank(PAIRS, rank) for rank in range(4)]
    assert [place.data_rank for place in places] == [0, 0, 1, 1]


def test_world_ranks_divide_work_whoever_reads_the_same_samples() -> None:
    """Seven files among four ranks: each file is one rank's."""
    parts = [groups_of_rank(PAIRS, rank).own_part(range(7)) for rank in range(4)]
    assert [list(part) for part in parts] == [[0, 4], [1, 5], [2, 6], [3]]


def test_a_world_holds_whole_groups() -> None:
    with pytest.raises(AssertionError, match="3 data ranks in a world of 4"):
        GroupSizes(world=4, data=3)


def test_a_batch_is_divided_among_data_ranks(run_file: Path) -> None:
    """8 rows of 8 tokens, in micro-batches of 2: 4 of them, 2 for each of 2 data ranks."""
    config = load(run_file, ["batch.global_batch_tokens=64"])
    assert config.accumulation(PAIRS) == config.accumulation(group_sizes(2)) == 2
    assert config.step_plan.accumulation(1, 2, PAIRS) == 2
    template = {"zero_optimization": {"stage": 1}}
    assert resolve_template(template, config, PAIRS)["gradient_accumulation_steps"] == 2


def test_the_launcher_asks_for_batches_that_data_ranks_divide(run_file: Path) -> None:
    """4 rows in micro-batches of 2 are 2 micro-batches: for 2 data ranks in any world, not for 4
    data ranks."""
    config = load(run_file, ["launch.ranks=auto"])
    assert batches_that_ranks_do_not_divide(config, PAIRS) == []
    assert batches_that_ranks_do_not_divide(config, GroupSizes(world=8, data=2)) == []
    (problem,) = batches_that_ranks_do_not_divide(config, group_sizes(4))
    assert problem.startswith("batch.global_batch_tokens = 32: must be a multiple of 4 ranks x ")


def test_ranks_that_share_samples_read_the_same_positions() -> None:
    """Steps of 8 rows in micro-batches of 2: data rank 0 reads rows 0, 1 and 4, 5."""
    plan = plan_steps(sample_tokens=4, batch_tokens=32, train_tokens=64)
    shares = [RankShare(groups_of_rank(PAIRS, rank), 2, plan) for rank in range(4)]
    read = [[list(share.positions(1, micro)) for micro in range(2)] for share in shares]
    assert [share.accumulation(1) for share in shares] == [2, 2, 2, 2]
    assert read[0] == read[1] == [[0, 1], [4, 5]]
    assert read[2] == read[3] == [[2, 3], [6, 7]]
