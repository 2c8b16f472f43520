"""Losses computed a few rows of logits at a time, against autograd on all logits in double
precision."""

from typing import Any

import pytest
import torch

from pipeline.model.chunked_loss import head_losses, logit_losses
from pipeline.model.shape import rows_at_once
from pipeline.sampling.batches import IGNORED

ROWS, HIDDEN, VOCABULARY = 13, 8, 29


def inputs(dtype: torch.dtype, with_bias: bool) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    made: dict[str, Any] = {
        "hidden": torch.randn(ROWS, HIDDEN, generator=generator).to(dtype).requires_grad_(),
        "weight": torch.randn(VOCABULARY, HIDDEN, generator=generator).to(dtype).requires_grad_(),
        "bias": torch.randn(VOCABULARY, generator=generator).to(dtype).requires_grad_()
        if with_bias
        else None,
        "targets": torch.randint(VOCABULARY, (ROWS,), generator=generator),
    }
    made["targets"][[2, 12]] = IGNORED
    return made


def expected(
    given: dict[str, Any], z: float
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Return the objective, the losses and the gradients of three times the objective, by autograd
    in float64."""
    leaves = [
        given[n].detach().double().requires_grad_()
        for n in ("hidden", "weight", "bias")
        if given[n] is not None
    ]
    logits = torch.nn.functional.linear(
        leaves[0], leaves[1], leaves[2] if len(leaves) > 2 else None
    )
    losses = torch.nn.functional.cross_entropy(
        logits, given["targets"], reduction="none", ignore_index=IGNORED
    )
    log_z = logits.exp().sum(1).log()
    objective = losses.sum() + z * (log_z**2)[given["targets"] != IGNORED].sum()
    (3 * objective).backward()
    return (
        objective.detach(),
        losses.detach(),
        [leaf.grad for leaf in leaves if leaf.grad is not None],
    )


@pytest.mark.parametrize("chunk", [1, 4, 13, 100])
@pytest.mark.parametrize("z", [0.0, 0.1])
@pytest.mark.parametrize("with_bias", [False, True])
def test_any_chunk_gives_the_losses_and_gradients_of_all_logits(
    chunk: int, z: float, with_bias: bool
) -> None:
    given = inputs(torch.float32, with_bias)
    objective, losses = head_losses(*given.values(), z, chunk)
    wanted_objective, wanted_losses, gradients = expected(given, z)
    (3 * objective).backward()
    torch.testing.assert_close(objective.double(), wanted_objective, rtol=1e-6, atol=0)
    torch.testing.assert_close(losses.double(), wanted_losses, rtol=1e-5, atol=1e-6)
    assert losses[[2, 12]].tolist() == [0, 0]
    for name, gradient in zip(("hidden", "weight", "bias"), gradients, strict=False):
        torch.testing.assert_close(given[name].grad.double(), gradient, rtol=1e-5, atol=1e-5)
    assert given["hidden"].grad[2].abs().sum() == 0


def test_bf16_is_within_its_rounding_and_adds_up_chunks_in_fp32() -> None:
    """bf16 keeps 8 bits: 2^-9 of a gradient's size, whatever the number of chunks."""
    given = inputs(torch.bfloat16, with_bias=True)
    objective, losses = head_losses(*given.values(), 0.0, 1)
    _, wanted_losses, gradients = expected(given, 0.0)
    (3 * objective).backward()
    torch.testing.assert_close(losses.double(), wanted_losses, rtol=0.01, atol=0.05)
    for name, gradient in zip(("hidden", "weight", "bias"), gradients, strict=True):
        assert given[name].grad.dtype == torch.bfloat16
        assert (given[name].grad.double() - gradient).norm() < 0.01 * gradient.norm()


@pytest.mark.parametrize("z", [0.0, 0.1])
def test_whole_logits_give_the_same(z: float) -> None:
    given = inputs(torch.float32, with_bias=False)
    logits = given["hidden"] @ given["weight"].T
    objective, losses = logit_losses(logits, given["targets"], z)
    wanted_objective, wanted_losses, gradients = expected(given, z)
    (3 * objective).backward()
    torch.testing.assert_close(objective.double(), wanted_objective, rtol=1e-6, atol=0)
    torch.testing.assert_close(losses.double(), wanted_losses, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(given["weight"].grad.double(), gradients[1], rtol=1e-5, atol=1e-5)
    assert not losses.requires_grad


def test_nothing_is_kept_without_gradients() -> None:
    given = inputs(torch.float32, with_bias=False)
    with torch.no_grad():
        objective, losses = head_losses(*given.values(), 0.0, 4)
    torch.testing.assert_close(losses.double(), expected(given, 0.0)[1], rtol=1e-5, atol=1e-6)
    assert not objective.requires_grad


@pytest.mark.parametrize(
    ("sizes", "rows"),
    [
        (
            (512, 128, 4, 2048),
            64,
        ),  # 512 x 128 x 4 x 2 bytes of activations = 64 x 2048 x 4 bytes of logits
        ((8192, 4096, 32, 128_256), 4185),
        ((8, 128, 4, 2048), 8),  # no more rows than there are
        ((512, 16, 1, 100_000), 16),  # a floor
    ],
)
def test_logits_take_no_more_memory_than_activations(
    sizes: tuple[int, int, int, int], rows: int
) -> None:
    assert rows_at_once(*sizes) == rows


def test_logits_are_never_there_all_at_once() -> None:
    """The largest tensor that the loss allocates, forward and backward, is far below rows x
    vocabulary."""
    hidden, weight = (
        torch.randn(1024, 16, requires_grad=True),
        torch.randn(4096, 16, requires_grad=True),
    )
    with torch.profiler.profile(profile_memory=True) as profile:
        objective, _ = head_losses(
            hidden, weight, None, torch.zeros(1024, dtype=torch.int64), 0.0, 32
        )
        objective.backward()
    allocated = [event.cpu_memory_usage for event in profile.events() or []]
    assert max(allocated) <= 32 * 4096 * 4 + 4096 * 16 * 4
    assert max(allocated) >= 32 * 4096 * 4, (
        "the logits of a chunk must have been seen, or the check sees nothing"
    )
