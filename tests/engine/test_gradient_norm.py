"""The norm of gradients by pieces against that of whole ones."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline.engine.gradient_norm import PIECE_ELEMENTS, in_pieces, sum_norms_by_pieces


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
    gradients = [torch.randn(2 * PIECE_ELEMENTS + 3), torch.randn(10, 10), torch.randn(0)]
    optimizer = SimpleNamespace(get_grad_norm_direct=norm_as_deepspeed)
    whole = optimizer.get_grad_norm_direct(gradients, [1, 2, 3])
    sum_norms_by_pieces(optimizer)
    assert optimizer.get_grad_norm_direct(gradients, [1, 2, 3]) == whole
    together = torch.cat([gradient.flatten() for gradient in gradients]).double()
    assert whole.item() == pytest.approx(together.norm().item())


def test_an_optimizer_without_such_a_norm_stays_as_it_is() -> None:
    optimizer = SimpleNamespace(step=1)
    sum_norms_by_pieces(optimizer)
    assert vars(optimizer) == {"step": 1}
