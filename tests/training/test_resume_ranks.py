"""Going on with another number of ranks than wrote the checkpoint, on real DeepSpeed engines and gloo ranks."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from ranks import run_ranks

from pipeline.run_file import load
from pipeline.training.metrics import read_metrics

MakeRun = Callable[..., Path]
FULL = pytest.mark.full


def losses(run_file: Path) -> list[float]:
    return [record["loss"] for record in read_metrics(load(run_file).paths.run_dir)]


def go_on(run_file: Path, ranks: int, overrides: list[str]) -> list[float]:
    """Lose everything after step 10 of 20, go on with `ranks` ranks, and return all losses."""
    shutil.rmtree(load(run_file).paths.run_dir / "checkpoints" / "step_00000020")
    assert run_ranks(run_file, ranks, overrides)["status"] == "done"
    return losses(run_file)


def largest_difference(whole: list[float], resumed: list[float]) -> float:
    assert len(whole) == len(resumed) == 20
    assert resumed[:10] == whole[:10]
    return max(abs(a - b) for a, b in zip(whole[10:], resumed[10:], strict=True))


def conversions(run_file: Path) -> list[tuple[int, int]]:
    events = [json.loads(line) for line in (load(run_file).paths.run_dir / "events.jsonl").read_text().splitlines()]
    converted = [event for event in events if event["event"] == "convert"]
    assert all(event["checkpoint"] == "step_00000010" and event["seconds"] > 0 for event in converted)
    return [(event["from_ranks"], event["to_ranks"]) for event in converted]


@pytest.mark.parametrize(
    ("zero", "before", "after"),
    [
        ("zero1", 2, (1, 4)),
        ("zero3", 2, (1, 4)),
        pytest.param("zero0", 2, (1, 4), marks=FULL),
        pytest.param("zero2", 2, (1, 4), marks=FULL),
        *(pytest.param(f"zero{stage}", 1, (2, 4), marks=FULL) for stage in range(4)),
        *(pytest.param(f"zero{stage}", 4, (2, 1), marks=FULL) for stage in range(4)),
    ],
)
def test_another_number_of_ranks_continues_the_losses(
    make_run: MakeRun, zero: str, before: int, after: tuple[int, int]
) -> None:
    """Only the order of additions in the mean over the batch differs: 1e-7 of a loss around 5, grown over ten steps.

    A lost moment, Adam's step counted from zero or weight decay on vectors would show in the third decimal.
    """
    run_file = make_run(zero=zero)
    run_ranks(run_file, before)
    whole = losses(run_file)
    for ranks in after:
        assert largest_difference(whole, go_on(run_file, ranks, [])) < 1e-5
    assert conversions(run_file) == [(before, ranks) for ranks in after]


@pytest.mark.parametrize("zero", ["zero2", *(pytest.param(f"zero{stage}", marks=FULL) for stage in (0, 1, 3))])
def test_another_number_of_ranks_continues_bf16_within_a_band(make_run: MakeRun, zero: str) -> None:
    """Gradients of other portions of the batch are rounded to bf16 separately, so that a step differs by 2^-9 of itself:
    1e-2 after ten steps is far more, and far less than a restart of the moments costs."""
    run_file, overrides = make_run(zero=zero), ["precision.dtype=bf16"]
    run_ranks(run_file, 2, overrides)
    whole = losses(run_file)
    for ranks in (1, 4):
        assert largest_difference(whole, go_on(run_file, ranks, overrides)) < 1e-2
