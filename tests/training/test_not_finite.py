"""A loss or gradient that is no number on one rank: all ranks skip that update together, and go on
as if it were nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from ranks import NEEDS_FP16, in_ranks

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.store.events import ROLLBACK, read_events
from pipeline.store.metrics import read_metrics

MakeRun = Callable[..., Path]
pytestmark = pytest.mark.ranks
FULL = pytest.mark.full
POISONED_STEP = 3
STEPS = ["train.train_tokens=2048"]
"""8 of them."""


def train_with_poison(
    config: RunConfig, poison: Callable[[Any], Any], until: int = POISONED_STEP
) -> dict[str, Any]:
    """Train while rank 1 is poisoned from one step to another; says how it ended and whether the
    weights stayed.

    `poison` takes the module and returns a handle that removes it again.
    """
    from pipeline.training import loop
    from pipeline.training.job import run_job
    from pipeline.training.run import Run
    from pipeline.training.stop import StopSignal

    step_as_it_is, stayed = loop.train_step, []

    def step_with_poison(run: Run, micro_batches: Any, step: int) -> Any:
        if not POISONED_STEP <= step <= until:
            return step_as_it_is(run, micro_batches, step)
        before = weights(run.engine)
        handle = poison(run.engine.module) if dist.get_rank() == 1 else None
        result = step_as_it_is(run, micro_batches, step)
        if handle:
            handle.remove()
        stayed.append(all(map(torch.equal, before, weights(run.engine))))
        return result

    loop.train_step = step_with_poison
    outcome = run_job(config, StopSignal())["status"]
    answers: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(answers, [outcome, stayed])
    return {
        "ended": [a[0] for a in answers],
        "stayed": [all(a[1]) for a in answers],
        "steps": len(stayed),
    }


def poison_gradient(module: Any) -> Any:
    return next(iter(module.parameters())).register_hook(lambda gradient: gradient * torch.nan)


def poison_loss(module: Any) -> Any:
    return module.register_forward_hook(
        lambda module, given, made: tuple(part * torch.nan for part in made)
    )


def train_with_bad_gradient(config: RunConfig) -> dict[str, Any]:
    return train_with_poison(config, poison_gradient)


def train_with_bad_loss(config: RunConfig) -> dict[str, Any]:
    return train_with_poison(config, poison_loss)


def train_with_bad_gradients_for_ever(config: RunConfig) -> dict[str, Any]:
    return train_with_poison(config, poison_gradient, until=1000)


def weights(engine: Any) -> list[torch.Tensor]:
    """Return copies of what this rank holds: the fp32 weights, and those of the forward pass."""
    from pipeline.engine.deepspeed_engine import flat_tensors

    held = [] if engine.zero_optimization_stage() == 0 else flat_tensors(engine)
    own = [getattr(parameter, "ds_tensor", parameter) for parameter in engine.module.parameters()]
    return [tensor.detach().clone() for tensor in [*held, *own]]


@pytest.fixture(scope="module")
def losses_by_kind() -> dict[tuple[str, str], list[float]]:
    """Losses of the first ZeRO stage that was tried, by optimizer and precision."""
    return {}


@pytest.mark.parametrize(
    ("zero", "dtype", "kind"),
    [
        ("zero0", "fp32", "muon"),
        ("zero0", "fp32", "adamw"),
        ("zero1", "bf16", "adamw"),
        ("zero2", "fp32", "adamw"),
        ("zero3", "bf16", "adamw"),
        ("zero3", "fp32", "muon"),
        *(
            pytest.param(f"zero{z}", d, k, marks=FULL)
            for z in (1, 2, 3)
            for d in ("fp32", "bf16")
            for k in ("adamw", "muon")
        ),
    ],
)
@pytest.mark.fault("bad numbers and bad data")
def test_an_update_of_a_bad_gradient_on_one_rank_is_not_made(
    make_run: MakeRun,
    zero: str,
    dtype: str,
    kind: str,
    losses_by_kind: dict[tuple[str, str], list[float]],
) -> None:
    run_file = make_run(zero=zero)
    found = in_ranks(
        run_file,
        2,
        train_with_bad_gradient,
        [*STEPS, f"precision.dtype={dtype}", f"optimizer.kind={kind}"],
    )
    assert found == {"ended": ["done", "done"], "stayed": [True, True], "steps": 1}
    records = read_metrics(load(run_file).paths.run_dir)
    assert [r["step"] for r in records if r["grad_norm"] is None] == [POISONED_STEP]
    (event,) = read_events(load(run_file).paths.run_dir, "update not made")
    assert event["step"] == POISONED_STEP
    losses = [record["loss"] for record in records]
    reference = losses_by_kind.setdefault((dtype, kind), losses)
    assert losses == pytest.approx(reference, abs=1e-4 if dtype == "fp32" else 0.02)


@pytest.mark.parametrize("zero", ["zero0", "zero1", "zero3"])
@pytest.mark.fault("bad numbers and bad data")
def test_an_update_of_a_bad_loss_on_one_rank_is_not_made(make_run: MakeRun, zero: str) -> None:
    run_file = make_run(zero=zero)
    assert in_ranks(run_file, 2, train_with_bad_loss, STEPS)["stayed"] == [True, True]
    losses = [record["loss"] for record in read_metrics(load(run_file).paths.run_dir)]
    assert [step for step, loss in enumerate(losses, 1) if loss is None] == [POISONED_STEP]


@pytest.mark.fault("bad numbers and bad data")
def test_bad_gradients_again_and_again_make_the_run_go_back(make_run: MakeRun) -> None:
    run_file = make_run()
    found = in_ranks(run_file, 2, train_with_bad_gradients_for_ever, STEPS)
    assert found == {"ended": ["rolled back"] * 2, "stayed": [True, True], "steps": 4}
    (event,) = read_events(load(run_file).paths.run_dir, ROLLBACK)
    assert (event["step"], event["to_step"]) == (POISONED_STEP + 3, 0)
    assert event["samples"] == [(POISONED_STEP - 1) * 8, (POISONED_STEP + 3) * 8]


@NEEDS_FP16
@pytest.mark.fault("bad numbers and bad data")
def test_fp16_skips_the_step_and_lowers_its_scale(make_run: MakeRun) -> None:
    """The poison stays for all later steps, each of which is skipped, as often as it takes: that is
    the scaler's way."""
    found = in_ranks(
        make_run(zero="zero2"),
        2,
        train_with_bad_gradients_for_ever,
        ["precision.dtype=fp16", *STEPS],
    )
    assert found == {"ended": ["done"] * 2, "stayed": [True, True], "steps": 6}
