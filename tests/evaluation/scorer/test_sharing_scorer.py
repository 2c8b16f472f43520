"""Scores with shared contexts equal those of lm-eval's own transformers model."""

from typing import Any

import numpy as np
import pytest
import torch
from answer_requests import (
    MAX_LENGTH,
    built,
    many_kinds_of_requests,
    reference_likelihoods,
    some_ids,
)
from transformers import PreTrainedModel

from pipeline.evaluation.scorer import slices as slicing
from pipeline.evaluation.scorer.sharing_scorer import SharingScorer
from pipeline.evaluation.scorer.slices import AnswerRequest, slices

WITHIN = 1e-4
"""Nats."""
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    f"{architecture}-{'tied' if is_tied else 'untied'}": (
        architecture,
        {"tie_word_embeddings": is_tied},
    )
    for architecture in ("llama", "qwen3", "gpt_neox", "gpt2")
    for is_tied in (False, True)
}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    architecture, changes = ARCHITECTURES[request.param]
    return built(architecture, **changes)


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    return built("llama")


def largest_difference(model: PreTrainedModel, requests: list[AnswerRequest]) -> float:
    """Return the largest difference in nats; greedy answers have to be the same ones."""
    ours = SharingScorer(model, MAX_LENGTH).log_likelihoods(requests)
    reference = reference_likelihoods(model, requests)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in reference]
    pairs = zip(ours, reference, strict=True)
    return max(abs(found - expected) for (found, _), (expected, _) in pairs)


def test_all_kinds_of_requests_score_as_in_the_reference(model: PreTrainedModel) -> None:
    assert largest_difference(model, many_kinds_of_requests()) < WITHIN


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_each_attention_kernel_scores_as_the_reference(kernel: str) -> None:
    model = built("llama")
    model.set_attn_implementation(kernel)
    assert largest_difference(model, many_kinds_of_requests(3)) < WITHIN


def test_a_greedy_answer_is_found(llama: PreTrainedModel) -> None:
    """Random answers are hardly ever the likeliest ones: decode some."""
    generator = np.random.default_rng(5)
    requests: list[AnswerRequest] = []
    for length in (1, 4, 20):
        context = some_ids(generator, length)
        tokens = list(context)
        for _ in range(5):
            with torch.no_grad():
                tokens.append(int(llama(torch.tensor([tokens])).logits[0, -1].argmax()))
        answer = tokens[length:]
        requests += [(context, answer), (context, [*answer[:-1], (answer[-1] + 1) % 64])]
    assert largest_difference(llama, requests) < WITHIN
    greedy = [is_greedy for _, is_greedy in SharingScorer(llama, 64).log_likelihoods(requests)]
    assert greedy == [True, False] * 3


def test_an_answer_may_begin_within_another_context(llama: PreTrainedModel) -> None:
    """The reference takes wrong logits where two requests divide one text at different places."""
    text = some_ids(np.random.default_rng(6), 20)
    requests: list[AnswerRequest] = [(text[:12], text[12:]), (text[:10], text[10:])]
    with torch.no_grad():
        logits = llama(torch.tensor([text[:-1]])).logits[0]
    of_tokens = logits.log_softmax(-1)[range(19), text[1:]]
    expected = [float(of_tokens[11:].sum()), float(of_tokens[9:].sum())]
    found = SharingScorer(llama, MAX_LENGTH).log_likelihoods(requests)
    assert [value for value, _ in found] == pytest.approx(expected, abs=WITHIN)


def test_no_requests_have_no_scores(llama: PreTrainedModel) -> None:
    assert SharingScorer(llama, MAX_LENGTH).log_likelihoods([]) == []


def test_the_model_stays_as_it_is(llama: PreTrainedModel) -> None:
    weights = {name: value.clone() for name, value in llama.state_dict().items()}
    config = llama.config.to_dict()
    SharingScorer(llama, MAX_LENGTH).log_likelihoods(many_kinds_of_requests())
    assert llama.config.to_dict() == config
    assert all(torch.equal(value, weights[name]) for name, value in llama.state_dict().items())
    assert not any(module._forward_hooks for module in llama.modules())


def test_the_order_of_requests_changes_no_bit(llama: PreTrainedModel) -> None:
    requests = many_kinds_of_requests()
    scorer = SharingScorer(llama, MAX_LENGTH)
    expected = scorer.log_likelihoods(requests)
    order = np.random.default_rng(1).permutation(len(requests))
    shuffled = scorer.log_likelihoods([requests[place] for place in order])
    assert shuffled == [expected[place] for place in order]


def test_slices_scored_alone_give_the_same_bits(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slicing, "TOKENS_PER_SLICE", 150)
    requests = [*many_kinds_of_requests(0), *many_kinds_of_requests(1)]
    expected = SharingScorer(llama, MAX_LENGTH).log_likelihoods(requests)
    parts = slices(requests, MAX_LENGTH)
    assert len(parts) > 5

    # Another worker takes the slices in another order, each in another order.
    other = SharingScorer(llama, MAX_LENGTH)
    for part in reversed(parts):
        found = other.log_likelihoods([requests[place] for place in reversed(part)])
        assert found == [expected[place] for place in reversed(part)]


@pytest.mark.parametrize("tokens_per_pass", [1, 100, 100_000])
def test_the_size_of_passes_changes_no_score(llama: PreTrainedModel, tokens_per_pass: int) -> None:
    requests = many_kinds_of_requests(2)
    ours = SharingScorer(llama, MAX_LENGTH, tokens_per_pass).log_likelihoods(requests)
    reference = reference_likelihoods(llama, requests)
    for (found, is_greedy), (expected, is_greedy_there) in zip(ours, reference, strict=True):
        assert abs(found - expected) < WITHIN
        assert is_greedy == is_greedy_there


def test_progress_ends_at_all_requests(llama: PreTrainedModel) -> None:
    completed: list[float] = []
    requests = many_kinds_of_requests()
    scorer = SharingScorer(llama, MAX_LENGTH)
    scorer.log_likelihoods(requests, lambda count, detail: completed.append(count))
    assert completed == sorted(completed)
    assert completed[-1] == len(requests)
