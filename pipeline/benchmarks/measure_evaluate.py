"""Measure one way of scoring answers, alone in a fresh process.

`python -m pipeline.benchmarks.measure_evaluate ARGUMENTS` scores requests of HellaSwag's lengths with
a model of random weights; the arguments are JSON. Prints one line of JSON: CPU seconds of scoring
alone, and the sum of all log-likelihoods.
"""

import json
import sys
import time
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils.logging import set_verbosity_error

from pipeline.evaluation.scorer.sharing_scorer import SharingScorer
from pipeline.evaluation.scorer.slices import AnswerRequest, Likelihood

# lm-eval's decorators hide the real signature from a type checker.
_TransformersModel: Any = HFLM
HARNESS = "HFLM"
SHARING = "sharing"
ANSWERS = 4
WARM_UP = 2 * ANSWERS
"""Requests that are scored before the clock starts."""
BATCH_SEQUENCES = 16
"""Rows in a batch of HFLM."""
CONTEXT_SPREAD = 0.36
"""Standard deviation of a context's length in relation to its mean."""
ANSWER_SPREAD = 0.2
"""The same for the answers to one context."""
ANSWER_EXPONENT = 1.2
"""Answers grow with this power of their context's length."""


class ScoringShape(TypedDict):
    """What is scored. Lengths are means, in tokens."""

    vocabulary: int
    max_length: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    context_tokens: int
    answer_tokens: int
    shots: int
    """Solved examples before each question."""
    has_fixed_examples: bool
    """Whether every question has the same examples."""
    items: int


def random_requests(shape: ScoringShape) -> list[AnswerRequest]:
    """Return requests of random tokens; lengths are distributed as those of HellaSwag."""
    generator = np.random.default_rng(1)

    def ids(mean: float) -> list[int]:
        return generator.integers(1, shape["vocabulary"], max(3, round(mean))).tolist()

    def item() -> tuple[list[int], list[list[int]]]:
        length = generator.gamma(CONTEXT_SPREAD**-2, CONTEXT_SPREAD**2)
        answer = shape["answer_tokens"] * length**ANSWER_EXPONENT
        spread = ANSWER_SPREAD * shape["answer_tokens"]
        context = ids(shape["context_tokens"] * length)
        return context, [ids(generator.normal(answer, spread)) for _ in range(ANSWERS)]

    def examples() -> list[int]:
        tokens: list[int] = []
        for _ in range(shape["shots"]):
            context, answers = item()
            tokens += context + answers[0]
        return tokens

    # The questions after their examples.
    fixed = examples()
    requests: list[AnswerRequest] = []
    for _ in range(shape["items"]):
        before = fixed
        if not shape["has_fixed_examples"]:
            before = examples()
        context, answers = item()
        requests += [(before + context, answer) for answer in answers]
    return requests


def random_model(shape: ScoringShape) -> PreTrainedModel:
    """Return a llama of this shape with tied embeddings, in fp32."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=shape["vocabulary"],
        hidden_size=shape["hidden_size"],
        intermediate_size=shape["intermediate_size"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["heads"],
        max_position_embeddings=shape["max_length"],
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


class ReferenceScorer:
    """Scores token ids with lm-eval's transformers model."""

    def __init__(self, model: PreTrainedModel, max_length: int) -> None:
        words = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="a")
        self._harness = _TransformersModel(
            pretrained=model, tokenizer=tokenizer, batch_size=BATCH_SEQUENCES, max_length=max_length
        )

    def log_likelihoods(self, requests: Sequence[AnswerRequest]) -> list[Likelihood]:
        """Return the likelihood of each request's answer."""
        named = [
            (("", str(number)), list(context), list(answer))
            for number, (context, answer) in enumerate(requests)
        ]
        return self._harness._loglikelihood_tokens(named, disable_tqdm=True)


def measure_scoring(side: str, shape: ScoringShape) -> dict[str, float]:
    """Score all requests with one side: `HARNESS` or `SHARING`."""
    set_verbosity_error()
    requests = random_requests(shape)
    model = random_model(shape)
    scorer = ReferenceScorer(model, shape["max_length"])
    if side == SHARING:
        scorer = SharingScorer(model, shape["max_length"])
    scorer.log_likelihoods(requests[:WARM_UP])

    # Scoring alone.
    started = time.process_time()
    likelihoods = scorer.log_likelihoods(requests)
    seconds = time.process_time() - started
    return {"cpu_seconds": seconds, "log_likelihood": sum(value for value, _ in likelihoods)}


def main() -> None:
    """Measure what the arguments name and print it."""
    arguments = json.loads(sys.argv[1])
    print(json.dumps(measure_scoring(**arguments)))


if __name__ == "__main__":
    main()
