"""Which checkpoints stay."""

from pathlib import Path

import pytest

from pipeline.sections import Checkpoint
from pipeline.training.retention import surplus


@pytest.mark.parametrize(
    ("steps", "saved", "keep_last", "deleted"),
    [
        ([5], 5, 1, []),
        ([5, 10], 10, 1, [5]),
        ([5, 10, 15], 15, 2, [5]),
        ([5, 10, 15], 15, 5, []),
        ([10, 15, 20], 15, 1, [10, 20]),  # 20 was damaged: the run went back to 10 and has just saved 15
        ([10, 15, 20], 15, 2, [20]),
    ],
)
def test_damaged_later_checkpoints_never_push_out_good_ones(
    steps: list[int], saved: int, keep_last: int, deleted: list[int]
) -> None:
    paths = [Path(f"step_{step:08d}") for step in steps]
    found = surplus(paths, Path(f"step_{saved:08d}"), Checkpoint(keep_last=keep_last))
    assert found == [Path(f"step_{step:08d}") for step in deleted]
