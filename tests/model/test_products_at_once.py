"""Products of several chunks of logits at once: the same bits as one chunk after another."""

import pytest
import torch

from pipeline.model import products_at_once
from pipeline.model.chunked_loss import head_losses
from pipeline.model.products_at_once import add_products, chunks_together
from pipeline.sampling.batches import IGNORED

ROWS, HIDDEN, VOCABULARY, CHUNK = 112, 64, 5003, 16


@pytest.fixture
def head() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states, weight and bias of a head whose vocabulary is no multiple of anything."""
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(ROWS, HIDDEN, generator=generator)
    weight = torch.randn(VOCABULARY, HIDDEN, generator=generator)
    return hidden, weight, torch.randn(VOCABULARY, generator=generator)


@pytest.fixture
def always_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every larger number of chunks seem faster than the one before."""
    clock = iter(range(10**6))
    monkeypatch.setattr(products_at_once.time, "thread_time", lambda: next(clock))


@pytest.mark.parametrize("with_bias", [False, True])
def test_losses_and_gradients_keep_their_bits(
    head: tuple[torch.Tensor, torch.Tensor, torch.Tensor], with_bias: bool, always_faster: None
) -> None:
    hidden, weight, bias = head
    # (64 - 16) / 16 = 3 chunks at once at most; 112 rows are two times three chunks and one.
    together = chunks_together(hidden, weight, bias if with_bias else None, CHUNK)
    assert together == 3
    targets = torch.arange(ROWS) * 41 % VOCABULARY
    targets[[3, 20]] = IGNORED
    results: list[list[torch.Tensor]] = []
    for number in (1, together):
        leaves = [part.clone().requires_grad_() for part in head]
        given_bias = leaves[2] if with_bias else None
        objective, losses = head_losses(
            leaves[0], leaves[1], given_bias, targets, 0.01, CHUNK, together=number
        )
        (objective / 3).backward()
        gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
        results.append([objective.detach(), losses, *gradients])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_products_are_added_in_the_order_of_the_chunks() -> None:
    # 2^24 + 1 is rounded to 2^24 in fp32: what is added first decides.
    gradients = torch.tensor([[2.0**24, 1.0], [1.0, 1.0], [-(2.0**24), 1.0]])
    total = torch.zeros(2, 1)
    add_products(total, gradients, torch.ones(3, 1), chunk=1)
    assert total.tolist() == [[0.0], [3.0]]


def test_one_chunk_at_once_where_more_would_take_memory_or_change_bits(
    head: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
    always_faster: None,
) -> None:
    hidden, weight, _ = head
    # Two chunks of 24 rows and the copy of one are 72 rows of logits, more than 64 dimensions.
    assert chunks_together(hidden, weight, None, 24) == 1
    assert chunks_together(hidden.bfloat16(), weight.bfloat16(), None, CHUNK) == 1
    monkeypatch.setattr(products_at_once, "_keeps_bits", lambda *_: False)
    assert chunks_together(hidden, weight, None, CHUNK) == 1


def test_a_number_that_changes_bits_gives_way_to_a_smaller_one(
    head: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
    always_faster: None,
) -> None:
    hidden, weight, _ = head
    monkeypatch.setattr(products_at_once, "_keeps_bits", lambda *given: given[-1] < 3)
    assert chunks_together(hidden, weight, None, CHUNK) == 2


@pytest.mark.parametrize(
    ("seconds", "useful"),
    [
        # Of 1, 2 and 3 chunks in turn; in each turn another number is measured while something
        # else runs.
        ([9, 1, 1, 4, 9, 1, 4, 1, 9], [3, 2]),
        # Three chunks are a little slower in all turns, then twice as slow as two.
        ([4, 1, 1.2, 4, 1, 1.2, 4, 1, 1.2], [3, 2]),
        ([4, 1, 2, 4, 1, 2, 4, 1, 2], [2]),
        ([1, 2, 2, 1, 2, 2, 1, 2, 2], []),
    ],
)
def test_only_clearly_slower_numbers_are_left_out(
    seconds: list[float],
    useful: list[int],
    head: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    per_row = iter(seconds)
    monkeypatch.setattr(products_at_once, "_seconds_per_row", lambda *_: next(per_row))
    hidden, weight, _ = head
    head_weights = products_at_once._HeadWeights(weight, None)
    assert products_at_once._useful_numbers(hidden, head_weights, CHUNK, 3) == useful


def test_a_second_backward_pass_is_refused(
    head: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    hidden, weight, _ = head
    targets = torch.zeros(ROWS, dtype=torch.int64)
    objective, _ = head_losses(hidden.requires_grad_(), weight, None, targets, 0.0, CHUNK)
    objective.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="only one backward pass"):
        objective.backward()
