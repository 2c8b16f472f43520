"""Which checkpoints stay."""

from pathlib import Path

import pytest

from pipeline.checkpoint.retention import (
    checkpoints_to_prune,
    is_save_due,
    kept_at_the_end,
    most_kept_at_once,
    saves_of_run,
)
from pipeline.config.run_sections import Checkpoint
from pipeline.store.layout import checkpoint_step
from pipeline.store.lease import Lease


@pytest.mark.parametrize(
    ("steps", "saved", "keep_last", "deleted"),
    [
        ([5], 5, 1, []),
        ([5, 10], 10, 1, [5]),
        ([5, 10, 15], 15, 2, [5]),
        ([5, 10, 15], 15, 5, []),
        (
            [10, 15, 20],
            15,
            1,
            [10, 20],
        ),  # 20 was damaged: the run went back to 10 and has just saved 15
        ([10, 15, 20], 15, 2, [20]),
    ],
)
def test_damaged_later_checkpoints_never_push_out_good_ones(
    steps: list[int], saved: int, keep_last: int, deleted: list[int]
) -> None:
    paths = [Path(f"step_{step:08d}") for step in steps]
    found = checkpoints_to_prune(paths, Path(f"step_{saved:08d}"), Checkpoint(keep_last=keep_last))
    assert found == [Path(f"step_{step:08d}") for step in deleted]


def test_a_checkpoint_that_another_process_reads_is_kept_until_the_next_save(
    tmp_path: Path,
) -> None:
    paths = [tmp_path / f"step_{step:08d}" for step in (5, 10, 15, 20)]
    for path in paths:
        path.mkdir()
    settings = Checkpoint(keep_last=1)
    with Lease(paths[1], "reading"):
        assert checkpoints_to_prune(paths, paths[2], settings) == [paths[0], paths[3]]
    assert checkpoints_to_prune(paths, paths[2], settings) == [paths[0], paths[1], paths[3]]
    # One past which the run has rolled back is deleted all the same.
    with Lease(paths[3], "reading"):
        assert paths[3] in checkpoints_to_prune(paths, paths[2], settings)


def test_some_stay_for_ever() -> None:
    """Every 6, powers of two and 7 are made beside every 5, and stay; the newest two too."""
    settings = Checkpoint(
        save_every_steps=5,
        keep_last=2,
        keep_every_steps=6,
        keep_log_spaced=True,
        keep_steps=(7, 30),
    )
    saved = [step for step in range(1, 21) if is_save_due(step, settings)]
    assert saved == [1, 2, 4, 5, 6, 7, 8, 10, 12, 15, 16, 18, 20]
    assert saves_of_run(20, settings) == len(saved)
    there: list[Path] = []
    most = 0
    for step in saved:
        there.append(Path(f"step_{step:08d}"))
        most = max(most, len(there))
        gone = checkpoints_to_prune(there, there[-1], settings)
        there = [path for path in there if path not in gone]
    assert [checkpoint_step(path) for path in there] == [1, 2, 4, 6, 7, 8, 12, 16, 18, 20]
    assert most <= most_kept_at_once(20, settings)
    assert len(there) == kept_at_the_end(20, settings)


def test_the_last_step_is_kept_beside_the_newest() -> None:
    settings = Checkpoint(save_every_steps=10, keep_last=2)
    assert kept_at_the_end(25, settings) == 2
    assert kept_at_the_end(5, settings) == 1
    assert saves_of_run(25, settings) == 3
    assert saves_of_run(20, settings) == 2
