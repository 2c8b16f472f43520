"""The norm of gradients by pieces against that of whole ones."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ranks import in_ranks, run_ranks

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.engine.gradient_norm import PIECE_ELEMENTS, in_pieces, sum_norms_by_pieces
from pipeline.store.metrics import read_metrics


def norm_as_deepspeed(
    gradients: list[torch.Tensor], params: list[Any], norm_type: float = 2
) -> torch.Tensor:
    norms = [
        gradient.double().norm(norm_type) for gradient, _ in zip(gradients, params, strict=True)
    ]
    return torch.stack(norms).pow(norm_type).sum().float().pow(1 / norm_type)


def test_pieces_hold_every_element_once_and_know_their_parameter() -> None:
    large, small = torch.rand(3, PIECE_ELEMENTS), torch.rand(5)
    padding: Any = torch.rand(7)
    padding._zero_padding = True
    pieces, owners = in_pieces([large, padding, small], ["large", "small"])
    assert owners == ["large"] * 3 + ["small"]
    assert torch.equal(torch.cat(pieces), torch.cat([large.flatten(), small]))
    assert pieces[0].data_ptr() == large.data_ptr()  # no copy


def test_the_norm_is_that_of_whole_gradients() -> None:
    seen: list[int] = []

    def noted(gradients: list[torch.Tensor], params: list[Any], norm_type: float) -> torch.Tensor:
        seen.extend(map(len, gradients))
        return norm_as_deepspeed(gradients, params, norm_type)

    gradients = [torch.randn(2 * PIECE_ELEMENTS + 3), torch.randn(10, 10), torch.randn(0)]
    optimizer = SimpleNamespace(get_grad_norm_direct=noted)
    sum_norms_by_pieces(optimizer)
    found = optimizer.get_grad_norm_direct(gradients, [1, 2, 3])
    assert seen == [PIECE_ELEMENTS, PIECE_ELEMENTS, 3, 100, 0]
    assert found == norm_as_deepspeed(gradients, [1, 2, 3])
    together = torch.cat([gradient.flatten() for gradient in gradients]).double()
    assert found.item() == pytest.approx(together.norm().item())


def test_an_optimizer_without_such_a_norm_stays_as_it_is() -> None:
    optimizer = SimpleNamespace(step=1)
    sum_norms_by_pieces(optimizer)
    assert vars(optimizer) == {"step": 1}


def train_with_small_pieces(config: RunConfig) -> dict[str, Any]:
    from pipeline.engine import gradient_norm
    from pipeline.training.job import run_job
    from pipeline.training.stop import StopSignal

    largest: list[int] = []
    of_gradients = gradient_norm.in_pieces

    def noted(gradients: Any, params: Any) -> Any:
        pieces, owners = of_gradients(gradients, params)
        largest.append(max(map(len, pieces)))
        return pieces, owners

    gradient_norm.PIECE_ELEMENTS, gradient_norm.in_pieces = 100, noted
    run_job(config, StopSignal())
    return {"largest": largest}


@pytest.mark.ranks
@pytest.mark.parametrize("zero", ["zero1", "zero3"])
def test_every_step_of_a_run_takes_the_norm_of_pieces(
    make_run: Callable[..., Path], zero: str
) -> None:
    norms: list[list[float]] = []
    for name in ("small", "usual"):
        run_file = make_run(name=name, zero=zero)
        if name == "small":
            largest = in_ranks(run_file, 1, train_with_small_pieces)["largest"]
            # In each step of 20 one norm of matrices and one of vectors, which are shorter.
            assert largest == [100, 32] * 20
        else:
            run_ranks(run_file, 1)
        records = read_metrics(load(run_file).paths.run_dir)
        norms.append([record["grad_norm"] for record in records])
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)
