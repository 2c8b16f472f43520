"""Real questions of PIPELINE_TEST_TASKS, a folder that `pipeline tasks fetch` wrote, by both scorers."""

import os
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pipeline.evaluation.grid.harness import HarnessModel, score_task
from pipeline.evaluation.known_tasks import build_tasks, silence_libraries
from pipeline.evaluation.models import LoadedModel
from pipeline.store.environment import user_variable

pytestmark = pytest.mark.skipif(
    user_variable("PIPELINE_TEST_TASKS") is None,
    reason="real questions were not asked: PIPELINE_TEST_TASKS, a fetched folder, is not set",
)
IDS = 1000
FEW = ("copa", "winogrande", "mmlu_anatomy", "hellaswag")
MANY = (
    *("openbookqa", "piqa", "arc_easy", "sciq", "boolq", *FEW),
    # lm-eval computes the error of a perplexity in processes.
    pytest.param("lambada_openai", marks=pytest.mark.ranks),
)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    """Return a random model whose tokens are pieces of words."""
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=IDS, initial_alphabet=alphabet, special_tokens=["<end>"], show_progress=False
    )
    words.train_from_iterator([__doc__ or "", *(build_tasks.__doc__ or "").split("\n")], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=IDS,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.1,
    )
    return LoadedModel(LlamaForCausalLM(config).eval(), tokenizer, "random", None, None)


def assert_both_score_alike(loaded: LoadedModel, name: str, shots: int, limit: int) -> None:
    with silence_libraries():
        task = build_tasks([name], [], Path(os.environ["PIPELINE_TEST_TASKS"])).single[name]
    reference = HarnessModel(loaded, 8, shares_contexts=False)
    sharing = HarnessModel(loaded, 8, shares_contexts=True)
    assert sharing.scorer == "sharing"
    expected, expected_items = score_task(reference, name, task, shots, 1234, limit)
    found, found_items = score_task(sharing, name, task, shots, 1234, limit)
    assert len(found_items) == limit

    # Every answer within rounding, and equal scores.
    for item, expected_item in zip(found_items, expected_items, strict=True):
        for one, other in zip(item["answers"], expected_item["answers"], strict=True):
            nats = other["log_likelihood"]
            assert abs(one["log_likelihood"] - nats) < 1e-4 * max(1, -nats / 100)
            assert one["is_greedy"] == other["is_greedy"]
    for metric, value in expected["results"][name].items():
        if isinstance(value, float):
            assert found["results"][name][metric] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("shots", [0, 5])
@pytest.mark.parametrize("name", FEW)
def test_real_questions_score_as_in_the_reference(
    loaded: LoadedModel, name: str, shots: int
) -> None:
    assert_both_score_alike(loaded, name, shots, 8)


@pytest.mark.full
@pytest.mark.parametrize("shots", [0, 5])
@pytest.mark.parametrize("name", MANY)
def test_many_real_questions_score_as_in_the_reference(
    loaded: LoadedModel, name: str, shots: int
) -> None:
    assert_both_score_alike(loaded, name, shots, 60)
