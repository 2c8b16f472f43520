"""Documents kept apart by their positions, in every architecture that can; losses of targets that count."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    MptConfig,
    Qwen3Config,
)

from pipeline.errors import ConfigError
from pipeline.sampling.batches import IGNORED, Batch
from pipeline.training.device_batch import Mover, check_document_mask, predict, token_losses

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100}
CONFIGS = {
    "llama": LlamaConfig(**SIZES, intermediate_size=64, max_position_embeddings=64),
    "gpt_neox": GPTNeoXConfig(**SIZES, intermediate_size=64, max_position_embeddings=64),
    "qwen3": Qwen3Config(**SIZES, intermediate_size=64, num_key_value_heads=2, head_dim=8, max_position_embeddings=64),
    "gpt2": GPT2Config(
        n_embd=32, n_layer=2, n_head=4, vocab_size=100, n_positions=64, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
    ),
}
FIRST, SECOND, THIRD = 5, 1, 7
"""Lengths of the documents in a row; the second one is a single token."""


class Engine:
    """A model with the few names of a DeepSpeed engine that are used here."""

    def __init__(self, config: Any, attention: str = "sdpa") -> None:
        torch.manual_seed(0)
        self.module = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
        with torch.no_grad():
            for parameter in self.module.parameters():
                parameter.mul_(3)  # initial weights are so small that attention hardly moves a logit
        self.module.eval()
        self.device = torch.device("cpu")

    def __call__(self, **arguments: Any) -> Any:
        return self.module(**arguments)

    def eval(self) -> None:
        self.module.eval()

    def train(self) -> None:
        self.module.train()


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    """Return two rows of three documents, alike but for the second and third one, and their positions."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randint(1, 100, (1, FIRST + SECOND + THIRD), generator=generator).repeat(2, 1)
    inputs[1, :FIRST] = torch.randint(1, 100, (FIRST,), generator=generator)
    positions = torch.cat([torch.arange(n) for n in (FIRST, SECOND, THIRD)]).repeat(2, 1)
    return inputs, positions


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_another_document_in_the_row_changes_no_logit(name: str, attention: str) -> None:
    engine, (inputs, positions) = Engine(CONFIGS[name], attention), rows()
    logits = predict(engine, inputs, positions)
    torch.testing.assert_close(logits[0, FIRST:], logits[1, FIRST:], rtol=0, atol=1e-6)
    assert (logits[0, :FIRST] - logits[1, :FIRST]).abs().max() > 0.01
    alone = predict(engine, inputs[:1, FIRST + SECOND :], None)
    torch.testing.assert_close(logits[:1, FIRST + SECOND :], alone, rtol=0, atol=1e-5)
    unmasked = predict(engine, inputs, None)
    assert (unmasked[0, FIRST:] - unmasked[1, FIRST:]).abs().max() > 0.01


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_all_rows_as_one_give_what_rows_give(name: str) -> None:
    """As flash-attention's variable-length form takes them; here the same positions mask plain attention."""
    engine, (inputs, positions) = Engine(CONFIGS[name]), rows()
    logits = predict(engine, inputs, positions)
    engine.module.config._attn_implementation_internal = "sdpa"
    one_row = engine(input_ids=inputs.reshape(1, -1), position_ids=positions.reshape(1, -1), use_cache=False).logits
    torch.testing.assert_close(one_row.view_as(logits), logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("sequence_length", [2, 3, 16, 64])
def test_the_check_at_the_start_passes_what_keeps_documents_apart(name: str, sequence_length: int) -> None:
    engine = Engine(CONFIGS[name])
    before = torch.get_rng_state()
    check_document_mask(engine, sequence_length)
    assert torch.equal(torch.get_rng_state(), before)
    assert engine.module.training


@pytest.mark.parametrize(
    "config",
    [
        MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=100, state_size=4),
        MptConfig(d_model=32, n_heads=4, n_layers=2, vocab_size=100, max_seq_len=64),
    ],
    ids=["mamba", "mpt"],
)
def test_the_check_refuses_what_does_not(config: Any) -> None:
    with pytest.raises(
        ConfigError, match=rf"data\.document_mask = true: {config.model_type} does not keep documents apart"
    ):
        check_document_mask(Engine(config, "eager"), 16)


def test_ignored_targets_cost_nothing_and_teach_nothing() -> None:
    logits = torch.randn(2, 3, 5, requires_grad=True)
    targets = torch.tensor([[1, IGNORED, 4], [IGNORED, IGNORED, 0]])
    losses = token_losses(logits, targets)
    for row, column in ((0, 0), (0, 2), (1, 2)):
        expected = -torch.log_softmax(logits[row, column], -1)[targets[row, column]]
        torch.testing.assert_close(losses[row, column], expected)
    assert losses[targets == IGNORED].tolist() == [0, 0, 0]
    losses.sum().backward()
    assert logits.grad is not None
    assert logits.grad[targets == IGNORED].abs().max() == 0


def test_a_batch_arrives_as_it_was_read() -> None:
    batch = Batch(
        np.arange(6).reshape(2, 3), np.arange(6).reshape(2, 3) + 1, np.zeros((2, 3), int), np.array([90, 9], np.uint64)
    )
    moved = Mover(torch.device("cpu"))(batch)
    moved.wait()
    assert moved.positions is not None
    for there, here in (
        (moved.inputs, batch.inputs),
        (moved.targets, batch.targets),
        (moved.positions, batch.positions),
    ):
        assert there.tolist() == here.tolist()
    assert moved.checksum == 99
