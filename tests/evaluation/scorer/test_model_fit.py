"""Which models share contexts: those that compute trees as plain text, and no others."""

import numpy as np
import pytest
import torch
from answer_requests import MAX_LENGTH, built, many_kinds_of_requests, reference_likelihoods
from tiny_models import tiny_config, tiny_model
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from pipeline.evaluation.scorer.model_fit import UnfitModel
from pipeline.evaluation.scorer.sharing_scorer import SharingScorer

BANDS = {torch.bfloat16: 0.06, torch.float16: 0.01}
"""Precision -> nats by which a token of an answer may differ from the reference."""


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("bloom", "ValueError"),  # positions as slopes, made from a mask of two dimensions
        ("mpt", "differ from plain text"),  # positions as slopes
        ("gemma2", "differ from plain text"),  # caps the logits after the head
        ("cohere", "differ from plain text"),  # scales them
        ("mamba", "RuntimeError"),  # no attention
    ],
)
def test_the_probe_finds_what_does_not_fit(architecture: str, reason: str) -> None:
    with pytest.raises(UnfitModel, match=f"^token trees.*{reason}"):
        SharingScorer(built(architecture), MAX_LENGTH)


def test_a_window_that_no_probe_reaches_is_refused() -> None:
    model = built("mistral", sliding_window=40)
    with pytest.raises(UnfitModel, match="sliding_window is 40, less than the context of 64 tok"):
        SharingScorer(model, MAX_LENGTH)
    assert SharingScorer(model, 40).log_likelihoods([([1], [2])])


def test_a_window_that_no_text_leaves_does_not_matter() -> None:
    model = built("qwen2", use_sliding_window=True, sliding_window=64, max_window_layers=0)
    assert model.config.use_sliding_window
    requests = many_kinds_of_requests(5)
    found = SharingScorer(model, MAX_LENGTH).log_likelihoods(requests)
    expected = reference_likelihoods(model, requests)
    assert np.allclose([v for v, _ in found], [v for v, _ in expected], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_rotations_by_the_length_of_the_batch_are_refused(kind: str) -> None:
    scaling: dict[str, object] = {"rope_type": kind, "factor": 2.0}
    if kind == "longrope":
        factors = [1.0] * 8
        scaling |= {
            "short_factor": factors, "long_factor": [2.0] * 8, "original_max_position_embeddings": 32
        }  # fmt: skip
    model = tiny_model(tiny_config("llama", {}, scaling))
    assert model is not None
    with pytest.raises(UnfitModel, match=f"{kind} rotary positions"):
        SharingScorer(model, MAX_LENGTH)


def test_a_kernel_without_such_masks_is_refused() -> None:
    model = built("llama")
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(UnfitModel, match="flash_attention_2 takes no mask"):
        SharingScorer(model, MAX_LENGTH)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_ignores_positions_is_found(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    model = built("llama").to(dtype)
    forward = model.base_model.forward

    def by_place(**inputs: object) -> object:
        return forward(**inputs | {"position_ids": None})

    monkeypatch.setattr(model.base_model, "forward", by_place)
    with pytest.raises(UnfitModel, match="token trees differ from plain text"):
        SharingScorer(model, MAX_LENGTH)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("max_length", [1, 2, 3, 5, 8])
def test_short_contexts_are_probed_too(architecture: str, max_length: int) -> None:
    model = built(architecture)
    requests = [([1, 2, 3], [4]), ([1], [5])]
    found = SharingScorer(model, max_length).log_likelihoods(requests)
    expected = reference_likelihoods(model, requests, max_length)
    assert np.allclose([v for v, _ in found], [v for v, _ in expected], atol=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt_neox", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_within_its_band(architecture: str, dtype: torch.dtype) -> None:
    model = built(architecture)
    requests = [request for request in many_kinds_of_requests() if len(request[1]) < 10]
    exact = np.array([value for value, _ in reference_likelihoods(model, requests)])
    model = model.to(dtype)
    found = np.array([v for v, _ in SharingScorer(model, MAX_LENGTH).log_likelihoods(requests)])
    reference = np.array([value for value, _ in reference_likelihoods(model, requests)])

    # The reference rounds log-probabilities and their sums to the model's precision, so it is
    # farther from fp32 than we are.
    tokens = np.array([len(answer) for _, answer in requests])
    assert (abs(found - reference) <= BANDS[dtype] * tokens).all()
    assert abs(found - exact).mean() <= abs(reference - exact).mean()


@pytest.mark.parametrize("architecture", ["mpt", "cohere"])
def test_the_probe_finds_in_half_precision_what_does_not_fit(architecture: str) -> None:
    with pytest.raises(UnfitModel, match="differ from plain text"):
        SharingScorer(built(architecture).to(torch.bfloat16), MAX_LENGTH)


@pytest.mark.full
@pytest.mark.parametrize("architecture", sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
def test_whatever_fits_scores_as_plain_text(architecture: str) -> None:
    """Every causal architecture that can be built small is refused or equal."""
    model = None
    try:
        model = tiny_model(tiny_config(architecture, {}, {}))
    except Exception as error:  # whatever a config raises that takes no small sizes
        print(f"{architecture}: {error}")
    if model is None:
        return
    try:
        scorer = SharingScorer(model, 60)
    except UnfitModel as error:
        assert str(error)
        return
    requests = [request for request in many_kinds_of_requests(4, 60) if request[1]]
    for (context, answer), (found, is_greedy) in zip(
        requests, scorer.log_likelihoods(requests), strict=True
    ):
        kept = [*context, *answer][-61:]
        with torch.no_grad():
            logits = model(torch.tensor([kept[:-1]]), use_cache=False).logits[0, -len(answer) :]
        expected = float(logits.log_softmax(-1)[range(len(answer)), answer].sum())
        assert abs(found - expected) < 1e-4
        assert is_greedy == (logits.argmax(-1).tolist() == answer)
