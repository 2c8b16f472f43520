"""Going on with another number of ranks than wrote the checkpoint, on real DeepSpeed engines and
gloo ranks."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from ranks import NEEDS_FP16, run_ranks
from training_data import TEMPLATES

from pipeline.checkpoint.files import load_file
from pipeline.config.run_file import load
from pipeline.store.events import all_events
from pipeline.store.metrics import read_metrics

pytestmark = pytest.mark.ranks

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
    events = all_events(load(run_file).paths.run_dir)
    converted = [event for event in events if event["event"] == "convert"]
    assert all(
        event["checkpoint"] == "step_00000010" and event["seconds"] > 0 for event in converted
    )
    return [(event["from_ranks"], event["to_ranks"]) for event in converted]


@pytest.mark.parametrize(
    ("zero", "before", "after"),
    [
        ("zero1", 2, (4,)),
        ("zero3", 2, (1,)),
        *(pytest.param(f"zero{stage}", 2, (1, 4), marks=FULL) for stage in range(4)),
        *(pytest.param(f"zero{stage}", 1, (2, 4), marks=FULL) for stage in range(4)),
        *(pytest.param(f"zero{stage}", 4, (2, 1), marks=FULL) for stage in range(4)),
    ],
)
def test_another_number_of_ranks_continues_the_losses(
    make_run: MakeRun, zero: str, before: int, after: tuple[int, ...]
) -> None:
    """Only the order of additions in the mean over the batch differs: 1e-7 of a loss around 5,
    grown over ten steps.

    For scale: Adam's step counted from zero again costs 0.2.
    """
    run_file = make_run(zero=zero)
    run_ranks(run_file, before)
    whole = losses(run_file)
    for ranks in after:
        assert largest_difference(whole, go_on(run_file, ranks, [])) < 1e-5
    assert conversions(run_file) == [(before, ranks) for ranks in after]
    saved = next(
        (load(run_file).paths.run_dir / "checkpoints" / "step_00000020").glob("*model_states.pt")
    )
    counters = load_file(saved)
    assert (counters["global_steps"], counters["global_samples"], counters["skipped_steps"]) == (
        20,
        160,
        0,
    )


@pytest.mark.parametrize(
    ("zero", "after"),
    [
        ("zero1", 4),
        ("zero3", 1),
        *(pytest.param(f"zero{z}", r, marks=FULL) for z in (1, 2, 3) for r in (1, 4)),
    ],
)
def test_muons_momentum_comes_along(make_run: MakeRun, zero: str, after: int) -> None:
    run_file, muon = make_run(zero=zero), ["optimizer.kind=muon"]
    run_ranks(run_file, 2, muon)
    whole = losses(run_file)
    assert largest_difference(whole, go_on(run_file, after, muon)) < 1e-5


@pytest.mark.parametrize(
    "zero", ["zero2", *(pytest.param(f"zero{stage}", marks=FULL) for stage in (1, 3))]
)
def test_another_number_of_ranks_continues_bf16_within_a_band(make_run: MakeRun, zero: str) -> None:
    """Gradients of other portions of the batch are rounded to bf16 separately, so that a step
    differs by 2^-9 of itself: 6e-4 was seen over ten steps."""
    run_file, overrides = make_run(zero=zero), ["precision.dtype=bf16"]
    run_ranks(run_file, 2, overrides)
    whole = losses(run_file)
    assert largest_difference(whole, go_on(run_file, 4, overrides)) < 3e-3


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({"stage": 3, "sub_group_size": 5000}, {"stage": 3}, marks=FULL),
        pytest.param({"stage": 3}, {"stage": 3, "sub_group_size": 5000}, marks=FULL),
        ({"stage": 2}, {"stage": 2, "round_robin_gradients": True}),
        pytest.param({"stage": 2, "round_robin_gradients": True}, {"stage": 2}, marks=FULL),
    ],
)
def test_another_layout_of_the_same_stage_comes_along(
    make_run: MakeRun, tmp_path: Path, before: dict[str, object], after: dict[str, object]
) -> None:
    run_file = make_run()
    overrides = []
    for name, zero in (("before", before), ("after", after)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"zero_optimization": zero}))
        overrides.append([f"deepspeed={tmp_path / name}.json"])
    run_ranks(run_file, 2, overrides[0])
    whole = losses(run_file)
    for ranks in (1, 2, 4):
        assert largest_difference(whole, go_on(run_file, ranks, overrides[1])) < 1e-5


PAIRS = [(before, after) for before in range(4) for after in range(4) if before != after]
CHOSEN = [(1, 3), (3, 0), (0, 2)]


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        *((*pair, "muon") for pair in CHOSEN),
        *(pytest.param(*pair, kind, marks=FULL) for pair in PAIRS for kind in ("adamw", "muon")),
    ],
)
def test_another_zero_stage_continues_the_losses(
    make_run: MakeRun, before: int, after: int, kind: str
) -> None:
    """Also with another number of ranks at the same time."""
    run_file, optimizer = make_run(zero=f"zero{before}"), [f"optimizer.kind={kind}"]
    run_ranks(run_file, 2, optimizer)
    whole = losses(run_file)
    for ranks in (2, 1):
        found = go_on(run_file, ranks, [*optimizer, f"deepspeed={TEMPLATES / f'zero{after}.json'}"])
        assert largest_difference(whole, found) < 1e-5


@pytest.mark.full
def test_optimizer_states_move_to_host_memory_and_back(make_run: MakeRun) -> None:
    """DeepSpeed's CPU optimizer counts its steps in plain numbers, torch's in tensors."""
    run_file = make_run(zero="zero1")
    run_ranks(run_file, 2)
    whole = losses(run_file)
    for template in ("zero3_offload", "zero1"):
        found = go_on(run_file, 2, [f"deepspeed={TEMPLATES / f'{template}.json'}"])
        assert largest_difference(whole, found) < 1e-5


def test_dropout_begins_anew_from_seed_step_and_rank(make_run: MakeRun) -> None:
    """It cannot be what it was, as other ranks draw it; but it is the same at each attempt."""
    run_file, dropout = make_run(zero="zero0"), ["model.config.attention_dropout=0.1"]
    run_ranks(run_file, 2, dropout)
    whole = losses(run_file)
    once = go_on(run_file, 1, dropout)
    assert 1e-5 < largest_difference(whole, once) < 0.5
    assert go_on(run_file, 1, dropout) == once


@NEEDS_FP16
@pytest.mark.full
@pytest.mark.parametrize("zero", ["zero1", "zero2", "zero3"])
def test_fp16_with_its_loss_scaler_goes_on_too(make_run: MakeRun, zero: str) -> None:
    run_file, overrides = make_run(zero=zero), ["precision.dtype=fp16"]
    run_ranks(run_file, 2, overrides)
    whole = losses(run_file)
    assert largest_difference(whole, go_on(run_file, 1, overrides)) < 1e-2


def test_optimizer_states_outside_the_shards_are_refused(make_run: MakeRun) -> None:
    run_file = make_run()
    no_warmup = ["schedule.warmup_tokens=0"]
    assert run_ranks(run_file, 1, [*no_warmup, "train.train_tokens=256"])["status"] == "done"
    (
        load(run_file).paths.run_dir / "checkpoints" / "step_00000001" / "offloaded_tensors"
    ).mkdir()  # as NVMe has them
    two_steps = [*no_warmup, "train.train_tokens=512"]
    outcome = run_ranks(run_file, 2, two_steps)
    assert outcome["status"] == "refused"
    assert (
        "ranks = 1 at ZeRO stage 1, this job has 2 at 1, and optimizer states on NVMe cannot be "
        "resharded" in outcome["message"]
    )
    assert (
        "Start 1 ranks, and use the deepspeed template of the earlier start" in outcome["message"]
    )
    # As it was divided, DeepSpeed loads it, by our reader of files.
    assert run_ranks(run_file, 1, two_steps)["status"] == "done"
    events = all_events(load(run_file).paths.run_dir)
    assert [event["step"] for event in events if event["event"] == "resume"] == [1]
    assert len(losses(run_file)) == 2


@pytest.mark.fault("other ranks and ZeRO stages on the way", tried=3)
def test_a_run_that_changes_ranks_and_stage_again_and_again_keeps_its_course(
    make_run: MakeRun,
) -> None:
    """Killed after each part: what was not saved is gone, and other ranks at another stage go
    on."""
    run_file, whole = make_run(), make_run(name="whole")
    constant = ["schedule.kind=constant", "checkpoint.save_every_steps=5"]
    for part, (ranks, stage) in enumerate([(2, 1), (1, 3), (4, 2), (2, 1)], 1):
        overrides = [
            *constant,
            f"train.train_tokens={part * 10 * 256}",
            f"deepspeed={TEMPLATES}/zero{stage}.json",
        ]
        assert run_ranks(run_file, ranks, overrides)["status"] == "done"
        if part < 4:
            shutil.rmtree(load(run_file).paths.run_dir / "checkpoints" / f"step_{part * 10:08d}")
    assert run_ranks(whole, 2, [*constant, f"train.train_tokens={40 * 256}"])["status"] == "done"
    assert len(losses(run_file)) == len(losses(whole)) == 40
    assert max(abs(a - b) for a, b in zip(losses(run_file), losses(whole), strict=True)) < 1e-5
