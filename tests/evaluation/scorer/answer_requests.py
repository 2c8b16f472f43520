"""Answers to score and tiny models to score them, beside lm-eval's own way of scoring."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from lm_eval.models.huggingface import HFLM
from tiny_models import VOCABULARY, tiny_config, tiny_model
from tokenizers import Tokenizer, models
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from pipeline.evaluation.scorer.sharing_scorer import Likelihood
from pipeline.evaluation.scorer.slices import AnswerRequest

MAX_LENGTH = 64
"""Tokens in the context of the tiny models."""


def built(architecture: str, **changes: Any) -> PreTrainedModel:
    """Return a tiny model with random weights that make every part matter."""
    model = tiny_model(tiny_config(architecture, changes, {}))
    assert model is not None
    return model


def reference_likelihoods(
    model: PreTrainedModel, requests: Sequence[AnswerRequest], max_length: int = MAX_LENGTH
) -> list[Likelihood]:
    """Score with lm-eval's own transformers model."""
    words = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="a")
    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, max_length=max_length)
    # Texts are keys of a cache only.
    named = [
        (("", str(number)), list(context), list(answer))
        for number, (context, answer) in enumerate(requests)
    ]
    return harness._loglikelihood_tokens(named, disable_tqdm=True)


def some_ids(generator: np.random.Generator, count: int) -> list[int]:
    return generator.integers(0, VOCABULARY, count).tolist()


def many_kinds_of_requests(seed: int = 0, max_length: int = MAX_LENGTH) -> list[AnswerRequest]:
    """Return requests of every kind that a task makes, also such that are cut."""
    generator = np.random.default_rng(seed)
    examples = some_ids(generator, 40)
    requests: list[AnswerRequest] = []

    # Choices after a context of their own, of one token and more, after fixed examples and none.
    for number in range(6):
        for context in (some_ids(generator, 3 + 4 * number), examples + some_ids(generator, 9)):
            requests += [(context, some_ids(generator, 1 + choice)) for choice in range(4)]

    # Answers that begin alike, one that is the beginning of another, the same one twice.
    context = some_ids(generator, 12)
    answer = some_ids(generator, 8)
    requests += [(context, answer), (context, [*answer[:-1], 5]), (context, answer[:3])]
    requests.append((context, answer))

    # The same answer to contexts that begin alike (winogrande).
    question = some_ids(generator, 30)
    requests += [([*question, name, *question[:4]], answer) for name in (7, 8)]

    # Answers without a question.
    requests += [([0], some_ids(generator, 1 + number)) for number in range(5)]

    # Requests that just fit, lose one token, lose nearly all of the context, or all but a token.
    for length in (max_length - 3, max_length - 2, max_length + 30):
        context = some_ids(generator, length)
        requests += [(context, some_ids(generator, 4)) for _ in range(2)]
        requests.append((context, some_ids(generator, 2)))
    requests.append((some_ids(generator, 50), some_ids(generator, max_length)))
    return requests
