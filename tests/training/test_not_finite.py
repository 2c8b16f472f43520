"""A gradient that is no number on one rank: all ranks decide together, and it never reaches the weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from ranks import NEEDS_FP16, in_ranks

from pipeline.config import RunConfig
from pipeline.errors import UserError

MakeRun = Callable[..., Path]
FULL = pytest.mark.full
POISONED_STEP = 3


def train_with_poison(config: RunConfig) -> dict[str, Any]:
    """Train until rank 1's gradient is no number; return what each rank said, and whether its weights stayed."""
    from pipeline.training import loop
    from pipeline.training.job import run_job
    from pipeline.training.stop import StopSignal

    step_as_it_is, kept = loop.train_step, {}

    def step_with_poison(run: loop.Run, micro_batches: Any, step: int) -> Any:
        if step == POISONED_STEP:
            kept["engine"], kept["before"] = run.engine, weights(run.engine)
            if dist.get_rank() == 1:
                next(iter(run.engine.module.parameters())).register_hook(lambda gradient: gradient * torch.nan)
        return step_as_it_is(run, micro_batches, step)

    loop.train_step = step_with_poison
    try:
        run_job(config, StopSignal())
        said = "trained on"
    except UserError as error:
        said = str(error)
    stayed = all(map(torch.equal, kept["before"], weights(kept["engine"])))
    answers: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(answers, [said, stayed])
    return {"said": [a[0] for a in answers], "stayed": [a[1] for a in answers]}


def weights(engine: Any) -> list[torch.Tensor]:
    """Return copies of what this rank holds: the fp32 weights, and those of the forward pass."""
    from pipeline.training.shards import flat_tensors

    held = [] if engine.zero_optimization_stage() == 0 else flat_tensors(engine)
    own = [getattr(parameter, "ds_tensor", parameter) for parameter in engine.module.parameters()]
    return [tensor.detach().clone() for tensor in [*held, *own]]


@pytest.mark.parametrize(
    ("zero", "dtype", "kind"),
    [
        ("zero0", "fp32", "muon"),
        ("zero1", "bf16", "adamw"),
        ("zero2", "fp32", "adamw"),
        ("zero3", "bf16", "muon"),
        *(
            pytest.param(f"zero{z}", d, k, marks=FULL)
            for z in (1, 2, 3)
            for d in ("fp32", "bf16")
            for k in ("adamw", "muon")
        ),
    ],
)
def test_a_gradient_that_is_no_number_on_one_rank_stops_all(
    make_run: MakeRun, zero: str, dtype: str, kind: str
) -> None:
    overrides = [f"precision.dtype={dtype}", f"optimizer.kind={kind}"]
    found = in_ranks(make_run(zero=zero), 2, train_with_poison, overrides)
    assert found["stayed"] == [True, True]
    assert len(set(found["said"])) == 1
    assert f"at step {POISONED_STEP}. The checkpoints are those before it." in found["said"][0]


@NEEDS_FP16
def test_fp16_skips_the_step_and_lowers_its_scale(make_run: MakeRun) -> None:
    """The poison stays for all later steps, each of which is skipped."""
    found = in_ranks(make_run(zero="zero2"), 2, train_with_poison, ["precision.dtype=fp16", "train.train_tokens=1024"])
    assert found == {"said": ["trained on"] * 2, "stayed": [True, True]}
