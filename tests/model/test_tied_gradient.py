"""The shared gradient of embedding and head against autograd's own, bit by bit."""

from collections.abc import Callable

import pytest
import torch
from transformers import GPT2Config, LlamaConfig, PretrainedConfig
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from pipeline.model import tied_gradient
from pipeline.model.language_model import LanguageModel

VOCABULARY = 300
SIZES = {"vocab_size": VOCABULARY, "max_position_embeddings": 16, "tie_word_embeddings": True}
LLAMA = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
MODELS = {
    "llama": LlamaConfig(num_attention_heads=2, **LLAMA, **SIZES),
    "llama with padding": LlamaConfig(num_attention_heads=2, pad_token_id=7, **LLAMA, **SIZES),
    "gpt2": GPT2Config(n_embd=16, n_layer=2, n_head=2, **SIZES),
}


def language_model(config: PretrainedConfig, dtype: torch.dtype) -> LanguageModel:
    torch.manual_seed(1)
    model = LanguageModel(AutoModelForCausalLM.from_config(config, dtype=dtype)).eval()
    assert not model.examine()
    assert model.chunks_logits
    return model


def gradients(model: LanguageModel, micro_batches: int = 2) -> dict[str, torch.Tensor]:
    """Return the sums of the gradients of some micro-batches, in which ids come more than once."""
    generator = torch.Generator().manual_seed(2)
    for _ in range(micro_batches):
        ids = torch.randint(1, 20, (2, 16), generator=generator)
        targets = torch.randint(VOCABULARY, (2, 16), generator=generator)
        objective, _ = model(ids, targets)
        (objective / 3).backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found
    return found


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gradients_are_those_of_autograd(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    separate = language_model(MODELS[name], dtype)
    assert separate._tying is not None
    separate._tying = None
    expected = gradients(separate)

    of_rows = tied_gradient._embedding_gradient
    rows_made: list[int] = []

    def noted(gradient: torch.Tensor, ids: torch.Tensor, rows: int, padding: int) -> torch.Tensor:
        rows_made.append(rows)
        return of_rows(gradient, ids, rows, padding)

    monkeypatch.setattr(tied_gradient, "_embedding_gradient", noted)
    found = gradients(language_model(MODELS[name], dtype))
    assert found.keys() == expected.keys()
    for parameter, gradient in found.items():
        assert torch.equal(gradient, expected[parameter]), parameter
    assert len(rows_made) == 2
    assert max(rows_made) <= 19  # ids below 20, not the vocabulary


def test_the_heads_gradient_is_stored_and_not_copied() -> None:
    model = language_model(MODELS["llama"], torch.float32)
    ids = torch.arange(16)[None] + 1
    objective, _ = model(ids, ids)
    made: list[int] = []
    take = tied_gradient.TiedGradient.take

    def noted(tied: tied_gradient.TiedGradient) -> torch.Tensor | None:
        gradient = take(tied)
        assert gradient is not None
        made.append(gradient.data_ptr())
        return gradient

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tied_gradient.TiedGradient, "take", noted)
        objective.backward()
    weight = model.causal_lm.get_input_embeddings().weight
    assert weight.grad is not None
    assert [weight.grad.data_ptr()] == made


def two_batches(model: LanguageModel) -> torch.Tensor:
    ids, others = torch.arange(16)[None] + 1, torch.arange(16)[None] + 9
    return model(ids, others)[0] + model(others, ids)[0]


def losses_and_logits(model: LanguageModel) -> torch.Tensor:
    ids = torch.arange(16)[None] + 1
    return model(ids, ids + 1)[0] + model(ids + 5).logsumexp(-1).sum()


def penalty_first(model: LanguageModel) -> torch.Tensor:
    ids = torch.arange(16)[None] + 1
    return model.causal_lm.get_input_embeddings().weight.square().sum() + model(ids, ids)[0]


def penalty_last(model: LanguageModel) -> torch.Tensor:
    ids = torch.arange(16)[None] + 1
    return model(ids, ids)[0] + model.causal_lm.get_input_embeddings().weight.square().sum()


@pytest.mark.parametrize(
    "objective_of", [two_batches, losses_and_logits, penalty_first, penalty_last]
)
def test_other_gradients_of_the_weights_are_not_lost(
    objective_of: Callable[[LanguageModel], torch.Tensor],
) -> None:
    found: list[torch.Tensor] = []
    for is_tied in (True, False):
        model = language_model(MODELS["llama"], torch.float32)
        if not is_tied:
            model._tying = None
        objective_of(model).backward()
        gradient = model.causal_lm.get_input_embeddings().weight.grad
        assert gradient is not None
        found.append(gradient)
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


def test_frozen_weights_get_no_gradient_and_keep_none() -> None:
    model = language_model(MODELS["llama"], torch.float32)
    weight = model.causal_lm.get_input_embeddings().weight.requires_grad_(False)
    ids = torch.arange(16)[None] + 1
    model(ids, ids)[0].backward()
    assert weight.grad is None


def test_without_the_heads_gradient_the_embedding_has_its_own() -> None:
    embedding = torch.nn.Embedding(10, 4, padding_idx=3)
    ids = torch.tensor([[1, 3, 1]])
    tied_gradient.embed(embedding, ids, tied_gradient.TiedGradient()).sum().backward()
    assert embedding.weight.grad is not None
    assert embedding.weight.grad.sum(1).tolist() == [0, 8, 0, 0, 0, 0, 0, 0, 0, 0]


def test_what_is_tied() -> None:
    embedding, head = torch.nn.Embedding(10, 4), torch.nn.Linear(4, 10, bias=False)
    assert not tied_gradient.can_tie(embedding, head)
    head.weight = embedding.weight
    assert tied_gradient.can_tie(embedding, head)
    embedding.max_norm = 1.0  # it would change the weights while it looks them up
    assert not tied_gradient.can_tie(embedding, head)
