"""Each rank's share of the order, read ahead: the same for any number of ranks, from any step,
under any latency."""

import random
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from token_files import make_data, write_stream

from pipeline.config.groups import group_sizes, groups_of_rank
from pipeline.config.step_plan import StepPlan, plan_steps
from pipeline.errors import DataError
from pipeline.sampling.batches import Batch
from pipeline.sampling.loader import READING_THREADS, Loader, RankShare
from pipeline.sampling.stream import OpenFiles

DIVISIONS = [
    (ranks, micro)
    for ranks in (1, 2, 3, 4, 8, 16, 32, 48, 64)
    for micro in (1, 2, 4)
    if 192 % (ranks * micro) == 0
]


def keep(batch: Batch) -> Batch:
    return batch


def equal_steps(samples: int) -> StepPlan:
    """Return a plan of steps of so many samples of 4 tokens, as many as any test here takes."""
    return plan_steps(4, 4 * samples, 4 * samples * 1000)


@pytest.mark.parametrize(("ranks", "micro"), DIVISIONS)
def test_any_number_of_ranks_reads_the_same_positions_in_the_same_global_order(
    ranks: int, micro: int
) -> None:
    shares = [
        RankShare(groups_of_rank(group_sizes(ranks), rank), micro, equal_steps(192))
        for rank in range(ranks)
    ]
    for step in (1, 5):
        found = [
            i
            for a in range(shares[0].accumulation(step))
            for share in shares
            for i in share.positions(step, a)
        ]
        assert found == list(range((step - 1) * 192, step * 192))


@pytest.mark.parametrize(("ranks", "micro"), [(1, 8), (2, 4), (2, 1), (4, 2), (8, 1)])
@pytest.mark.parametrize("block", [0, 8])
def test_simulated_ranks_read_together_what_one_reads(
    tmp_path: Path, ranks: int, micro: int, block: int
) -> None:
    streams = {
        "a": write_stream(tmp_path / "a", [101, 30]),
        "tiny": write_stream(tmp_path / "tiny", [3], start=900),
    }
    data = make_data(streams, [3.0, 1.0], block=block)
    rows: dict[tuple[int, int], list[list[int]]] = {}
    for rank in range(ranks):
        with Loader(
            data,
            RankShare(groups_of_rank(group_sizes(ranks), rank), micro, equal_steps(8)),
            range(1, 13),
            keep,
        ) as loader:
            for step, batches in enumerate(loader, 1):
                for a, batch in enumerate(batches):
                    rows[step, a * ranks + rank] = batch.inputs.tolist()
    found = [row for _, batch in sorted(rows.items()) for row in batch]
    assert found == data.read(np.arange(96)).inputs.tolist()


@pytest.mark.parametrize(
    ("share", "steps"),
    [
        (RankShare(groups_of_rank(group_sizes(2), 1), 2, equal_steps(8)), 12),
        (RankShare(groups_of_rank(group_sizes(1), 0), 1, equal_steps(1)), 60),
    ],
)
def test_resuming_at_any_step_or_sample_reads_on_as_if_never_stopped(
    tmp_path: Path, share: RankShare, steps: int
) -> None:
    data = make_data(
        {
            "a": write_stream(tmp_path / "a", [101]),
            "tiny": write_stream(tmp_path / "tiny", [3], start=900),
        }
    )
    with Loader(data, share, range(1, steps + 1), keep) as loader:
        whole = [[batch.inputs.tolist() for batch in step] for step in loader]
    for start in range(1, steps + 1):
        with Loader(data, share, range(start, steps + 1), keep) as loader:
            assert [[batch.inputs.tolist() for batch in step] for step in loader] == whole[
                start - 1 :
            ]


def test_a_change_of_ranks_in_mid_run_changes_no_global_batch(tmp_path: Path) -> None:
    data = make_data({"a": write_stream(tmp_path, [401])})
    checksums = []
    for ranks, steps in ((2, range(1, 4)), (1, range(4, 6)), (4, range(6, 11))):
        totals = [0] * len(steps)
        for rank in range(ranks):
            with Loader(
                data,
                RankShare(groups_of_rank(group_sizes(ranks), rank), 2, equal_steps(8)),
                steps,
                keep,
            ) as loader:
                for i, batches in enumerate(loader):
                    totals[i] = (totals[i] + sum(batch.checksum for batch in batches)) % 2**64
        checksums += totals
    assert checksums == [
        data.read(np.arange(8 * step, 8 * step + 8)).checksum for step in range(10)
    ]


def test_the_loader_gives_what_the_order_says(tmp_path: Path) -> None:
    data, share = (
        make_data({"a": write_stream(tmp_path, [101])}),
        RankShare(groups_of_rank(group_sizes(2), 1), 2, equal_steps(8)),
    )
    with Loader(data, share, range(3, 6), keep) as loader:
        steps = list(loader)
    assert [len(step) for step in steps] == [2, 2, 2]
    for step, batches in zip(range(3, 6), steps, strict=True):
        for micro, batch in enumerate(batches):
            np.testing.assert_array_equal(
                batch.inputs, data.read(share.positions(step, micro)).inputs
            )
    assert steps[0][0].inputs.shape == (2, 4)


def test_an_error_while_reading_ahead_reaches_the_iteration(tmp_path: Path) -> None:
    data = make_data({"a": write_stream(tmp_path, [101])})
    (tmp_path / "train_0.bin").unlink()
    with (
        Loader(
            data, RankShare(groups_of_rank(group_sizes(1), 0), 2, equal_steps(2)), range(1, 3), keep
        ) as loader,
        pytest.raises(DataError, match="cannot be read"),
    ):
        next(iter(loader))


def test_leaving_early_ends_the_threads(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    data = make_data({"a": write_stream(tmp_path, [101])})
    with Loader(
        data, RankShare(groups_of_rank(group_sizes(1), 0), 2, equal_steps(2)), range(1, 1000), keep
    ) as loader:
        next(iter(loader))
    assert set(threading.enumerate()) <= before


class SlowFiles(OpenFiles):
    """Every read takes a while, as on a parallel file system under load; several are answered at
    once."""

    def __init__(self, seconds: float) -> None:
        super().__init__(64)
        self._seconds, self._reading, self._counting = seconds, 0, threading.Lock()
        self.most_at_once = 0

    def read_into(self, path: Path, buffer: memoryview, offset: int) -> int:
        with self._counting:
            self._reading += 1
            self.most_at_once = max(self.most_at_once, self._reading)
        time.sleep(self._seconds)
        with self._counting:
            self._reading -= 1
        return super().read_into(path, buffer, offset)


@pytest.mark.parametrize("block", [0, 16])
def test_slow_reads_overlap(tmp_path: Path, block: int) -> None:
    files = SlowFiles(0.02)
    data = make_data({"a": write_stream(tmp_path, [8001], files=files)}, block=block)
    with Loader(
        data, RankShare(groups_of_rank(group_sizes(1), 0), 2, equal_steps(64)), range(1, 9), keep
    ) as loader:
        assert len(list(loader)) == 8
    assert READING_THREADS // 2 <= files.most_at_once <= READING_THREADS


def random_steps(seed: int, ranks: int, micro: int) -> StepPlan:
    """Return a plan of rows of 4 tokens under random ramps, which so many ranks can divide."""
    draw, one_pass = random.Random(seed), 4 * ranks * micro
    untils = [sorted(draw.sample(range(1, 700), 3)) for _ in range(2)]
    sizes = [(until, one_pass * draw.randint(1, 4)) for until in untils[0]]
    lengths = [(until, draw.choice([1, 2, 4])) for until in untils[1]]
    return plan_steps(4, one_pass * draw.randint(1, 4), draw.randint(500, 900), sizes, lengths)


@pytest.mark.parametrize(("ranks", "micro"), [(1, 1), (1, 4), (2, 2), (4, 1), (3, 2)])
@pytest.mark.parametrize("seed", range(4))
def test_under_ramps_ranks_read_the_tokens_of_the_run_without_them(
    tmp_path: Path, ranks: int, micro: int, seed: int
) -> None:
    data, plan = make_data({"a": write_stream(tmp_path, [701])}), random_steps(seed, ranks, micro)
    shares = [
        RankShare(groups_of_rank(group_sizes(ranks), rank), micro, plan) for rank in range(ranks)
    ]
    rows: dict[tuple[int, int], Batch] = {}
    for share in shares:
        with Loader(data, share, range(1, plan.total_steps + 1), keep) as loader:
            for step, batches in enumerate(loader, 1):
                assert len(batches) == share.accumulation(step)
                rows |= {
                    (step, a * ranks + share.groups.data_rank): batch
                    for a, batch in enumerate(batches)
                }
    positions = [i for step in range(1, plan.total_steps + 1) for i in positions_of(shares, step)]
    assert positions == list(range(plan.total_samples))
    in_order = [batch for _, batch in sorted(rows.items())]
    whole = data.read(np.arange(plan.total_samples))
    for part in ("inputs", "targets"):
        found = np.concatenate([getattr(batch, part).ravel() for batch in in_order])
        np.testing.assert_array_equal(found, getattr(whole, part).ravel())
    assert sum(batch.checksum for batch in in_order) % 2**64 == whole.checksum
    for (step, _), batch in rows.items():
        assert batch.inputs.shape == (
            micro * 4 // plan.sequence_length(step),
            plan.sequence_length(step),
        )


def positions_of(shares: list[RankShare], step: int) -> list[int]:
    return [
        i
        for a in range(shares[0].accumulation(step))
        for share in shares
        for i in share.positions(step, a)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_under_ramps_too_any_step_can_be_the_first_after_a_resume(
    tmp_path: Path, seed: int
) -> None:
    data, plan = make_data({"a": write_stream(tmp_path, [301])}), random_steps(seed, 2, 2)
    with Loader(
        data,
        RankShare(groups_of_rank(group_sizes(2), 1), 2, plan),
        range(1, plan.total_steps + 1),
        keep,
    ) as loader:
        whole = [[batch.inputs.tolist() for batch in step] for step in loader]
    for start in range(1, plan.total_steps + 1):
        with Loader(
            data,
            RankShare(groups_of_rank(group_sizes(2), 1), 2, plan),
            range(start, plan.total_steps + 1),
            keep,
        ) as loader:
            assert [[batch.inputs.tolist() for batch in step] for step in loader] == whole[
                start - 1 :
            ]
