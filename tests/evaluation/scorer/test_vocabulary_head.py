"""Blocks of the vocabulary give what all logits at once give."""

import pytest
import torch

from pipeline.evaluation.scorer import vocabulary_head
from pipeline.evaluation.scorer.vocabulary_head import VocabularyHead

IDS = 37
CPU = torch.device("cpu")


class ScaledHead(torch.nn.Linear):
    """A head that is more than a product."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


@pytest.mark.parametrize("kind", [torch.nn.Linear, ScaledHead])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(("rows_at_once", "ids_at_once"), [(4, 8), (1, 1), (3, 37), (100, 100)])
def test_blocks_give_what_all_logits_give(
    monkeypatch: pytest.MonkeyPatch,
    kind: type[torch.nn.Linear],
    has_bias: bool,
    rows_at_once: int,
    ids_at_once: int,
) -> None:
    monkeypatch.setitem(vocabulary_head.ROWS_AT_ONCE, "cpu", rows_at_once)
    monkeypatch.setitem(vocabulary_head.IDS_AT_ONCE, "cpu", ids_at_once)
    torch.manual_seed(0)
    head = kind(8, IDS, bias=has_bias)
    hidden = torch.randn(10, 8) * 5
    logits = head(hidden)

    # Each state predicts several ids, its likeliest and a random one, but for one state.
    rows = torch.tensor([row for row in range(10) for _ in range(3) if row != 6])
    targets = torch.randint(0, IDS, (len(rows),))
    targets[::3] = logits.argmax(-1)[rows[::3]]
    with torch.no_grad():
        found, is_likeliest = VocabularyHead(head, CPU).predict(hidden, rows, targets)
    torch.testing.assert_close(found, logits.log_softmax(-1)[rows, targets].detach())
    assert is_likeliest.tolist() == (logits.argmax(-1)[rows] == targets).tolist()
    assert is_likeliest[::3].all()


def test_logits_by_hand() -> None:
    head = torch.nn.Linear(1, 3, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0], [3.0], [3.0]]).log())
        found, is_likeliest = VocabularyHead(head, CPU).predict(
            torch.ones(1, 1), torch.tensor([0, 0, 0]), torch.tensor([0, 1, 2])
        )
    torch.testing.assert_close(found.exp(), torch.tensor([1.0, 3.0, 3.0]) / 7)
    assert is_likeliest.tolist() == [False, True, False]  # of equals the first


def test_large_logits_do_not_overflow() -> None:
    head = torch.nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[5e3], [-5e3]]))
        found, _ = VocabularyHead(head, CPU).predict(
            torch.ones(1, 1), torch.tensor([0, 0]), torch.tensor([0, 1])
        )
    assert found.tolist() == [0.0, -1e4]


def test_half_precision_is_summed_in_fp32() -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(4, 5000, bias=False).bfloat16()
    hidden = torch.randn(3, 4).bfloat16()
    with torch.no_grad():
        found, _ = VocabularyHead(head, CPU).predict(
            hidden, torch.arange(3), torch.tensor([1, 2, 3])
        )
        expected = head(hidden).log_softmax(-1, dtype=torch.float32)[range(3), [1, 2, 3]]
    torch.testing.assert_close(found, expected)
