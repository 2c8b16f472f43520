"""What is trained here against what each architecture's own code trains: loss, gradients, documents
in one row."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from registry import config_of, names
from transformers.utils import logging as transformers_logging

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.errors import ConfigError
from pipeline.model import objective
from pipeline.model.language_model import LanguageModel
from pipeline.model.model_check import check_model_settings
from pipeline.model.objective import (
    build_copy,
    keeps_documents_apart,
    objective_differences,
    objective_problems,
    structure_problems,
    training_differences,
)
from pipeline.model.sizes import build_on_meta
from pipeline.model.small_copy import small_copy

README = Path(objective.__file__).with_name("README.md")
APART, NOT_APART = (
    "same loss and gradients",
    "same loss and gradients; refused with `data.document_mask: true`",
)
EXPERTS = "refused, unless asked for: experts"
PARTS = "refused: made of parts, of which text is one"
NO_COPY = "no small copy can be built: the ranks compare the losses before their first step"
NOT_BUILT = "transformers cannot build it with the settings that its config has by default"

HEADS: dict[str, tuple[dict[str, Any], bool, bool]] = {
    # settings; whether hidden states and head alone make the logits; whether documents in one row
    # are kept apart
    "llama": ({}, True, True),
    "gpt2": ({}, True, True),  # tied, dropout of 0.1 in three places
    "gpt_neox": ({"attention_dropout": 0.1, "hidden_dropout": 0.1}, True, True),
    "phi": ({}, True, True),  # a bias in the head
    "cohere": ({"use_qk_norm": True}, False, True),  # logits times logit_scale
    "granite": ({"logits_scaling": 8.0}, False, True),
    "gemma2": ({}, False, True),  # bounded logits, sliding windows in every second layer
    "gemma3_text": ({}, True, True),
    "mistral": ({"sliding_window": 4096}, True, True),
    "minicpm3": ({}, False, True),  # hidden states divided before the head
    "modernbert-decoder": ({}, False, True),  # a layer between hidden states and head
    "electra": (
        {"is_decoder": True},
        False,
        False,
    ),  # a head of another width than the hidden states
    "mamba": ({}, True, False),  # a state instead of attention
    "bloom": ({}, True, False),
    "doge": ({}, True, False),  # its own mask takes the place of that which keeps documents apart
}
REFUSED: dict[str, str] = {
    "bert": "see the tokens after",  # an encoder
    "xlm": "see the tokens after",
    "bart": "loss of its own",  # targets that are not shifted
    "prophetnet": "loss of its own",  # several tokens ahead
    "git": "cannot compute",  # images
    "mllama": "no text trains",  # layers that see images alone
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    yield
    transformers_logging.set_verbosity(before)


def copy_of(name: str, **settings: Any) -> LanguageModel:
    config = config_of(name, **settings)
    assert config is not None
    copy = build_copy(config)
    assert copy is not None
    return copy


@pytest.mark.parametrize("name", HEADS)
def test_loss_and_gradients_are_the_architectures_own(name: str) -> None:
    settings, chunks, is_apart = HEADS[name]
    copy = copy_of(name, **settings)
    assert training_differences(copy) == [], "all logits at once"
    assert objective_differences(copy) == [], "as the ranks take them"
    assert copy.chunks_logits is chunks
    assert keeps_documents_apart(copy) is is_apart


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_trained_for_something_else_is_refused(name: str) -> None:
    (problem, *_) = objective_differences(copy_of(name))
    assert REFUSED[name] in problem


def test_a_difference_in_one_gradient_is_found() -> None:
    """A copy whose own loss has a scale on one matrix's gradient that its logits do not have."""
    copy = copy_of("llama")
    weight = copy.causal_lm.get_parameter("model.layers.0.mlp.up_proj.weight")
    calls = []

    def scale_every_second(gradient: torch.Tensor) -> torch.Tensor:
        calls.append(gradient)
        return gradient * (1.01 if len(calls) % 2 == 0 else 1)

    weight.register_hook(scale_every_second)
    (problem,) = objective_differences(copy)
    assert "model.layers.0.mlp.up_proj.weight" in problem


def test_gradients_that_are_no_numbers_are_refused() -> None:
    """Both losses give the same NaN, which no comparison finds to be above a tolerance."""
    copy = copy_of("llama")
    weight = copy.causal_lm.get_parameter("model.layers.0.mlp.up_proj.weight")
    weight.register_hook(lambda gradient: gradient * math.nan)
    (problem,) = objective_differences(copy)
    assert "not finite" in problem
    assert "model.layers.0.mlp.up_proj.weight" in problem


def test_an_encoder_that_decodes_is_trained(run_file: Path) -> None:
    assert [len(refusals(run_file, "bert", is_decoder=value)) for value in (False, True)] == [1, 0]


def test_the_check_before_training_refuses(run_file: Path) -> None:
    sizes = (
        "model.config={num_hidden_layers: 1, hidden_size: 16, intermediate_size: 32, "
        "num_attention_heads: 2}"
    )
    config = load(run_file, ["model.architecture=bert", "optimizer.kind=adamw", sizes])
    with pytest.raises(ConfigError, match=r"model\.architecture = bert: .*is_decoder"):
        check_model_settings(config)


def test_where_no_copy_can_be_built_the_ranks_are_left_to_compare() -> None:
    config = config_of("gemma3n_text")
    assert config is not None
    assert build_copy(config) is None


def test_windows_are_shorter_than_the_texts_that_a_copy_is_tried_on() -> None:
    for name in ("mistral", "gemma2", "gemma3_text"):
        window = copy_of(name, **HEADS[name][0]).config.sliding_window
        assert window < objective.LENGTH // 2, "so that a document is longer than a window, too"


@pytest.mark.parametrize(("name", "settings"), [("doge", {}), ("roberta", {"is_decoder": True})])
def test_documents_are_compared_with_documents_alone(
    run_file: Path, name: str, settings: dict[str, Any]
) -> None:
    """Doge's second document sees the first once its weights are large; RoBERTa's positions do not
    count from 0."""
    plain, masked = (refusals(run_file, name, mask, **settings) for mask in (False, True))
    assert (plain, len(masked)) == ([], 1)
    assert masked[0].startswith("data.document_mask = true: ")


def refusals(run_file: Path, name: str, document_mask: bool = False, **settings: Any) -> list[str]:
    config, architecture = (
        run_of(run_file, name, document_mask),
        config_of(name, num_hidden_layers=2, **settings),
    )
    assert architecture is not None
    return objective_problems(config, architecture, build_on_meta(small_copy(architecture)))


def run_of(run_file: Path, name: str, document_mask: bool = False) -> RunConfig:
    overrides = [
        f"model.architecture={name}",
        "model.config={}",
        f"data.document_mask={str(document_mask).lower()}",
    ]
    return load(run_file, overrides)


def verdict(run_file: Path, name: str) -> str:
    """Return the row of the table that an architecture belongs to."""
    architecture = config_of(name)
    if architecture is None:
        return NOT_BUILT
    if architecture.get_text_config(decoder=True).model_type != architecture.model_type:
        return PARTS
    copy = build_copy(architecture)
    try:
        model = copy.causal_lm if copy else build_on_meta(architecture)
    except Exception:  # whatever modeling code raises
        return NOT_BUILT
    if structure_problems(run_of(run_file, name), model):
        return EXPERTS
    if copy is None:
        return NO_COPY
    if problems := objective_differences(copy):
        return f"refused: {re.sub(r' ?[:(,].*', '', problems[0])}"
    return APART if keeps_documents_apart(copy) else NOT_APART


def table(verdicts: dict[str, str]) -> str:
    rows = {
        row: [name for name in verdicts if verdicts[name] == row]
        for row in sorted(set(verdicts.values()))
    }
    lines = [f"| {row} | {', '.join(members)} |" for row, members in rows.items()]
    return "\n".join(["| | `model.architecture` |", "| --- | --- |", *lines])


@pytest.mark.full
def test_the_table_of_architectures_is_that_of_the_readme(run_file: Path) -> None:
    found = table({name: verdict(run_file, name) for name in names()})
    print(f"\n{found}")
    assert found in README.read_text(), "put the table that is printed (-s) into the README"


def test_the_readme_has_the_architectures_that_are_tried_here() -> None:
    text = README.read_text()
    for name, (settings, _, is_apart) in HEADS.items():
        if not settings.get("is_decoder"):
            row = next(
                line
                for line in text.splitlines()
                if line.startswith(f"| {APART if is_apart else NOT_APART} |")
            )
            assert name in re.split(r"[ ,|]+", row)
