"""Log-likelihoods of answers, with each context computed once for all of its answers.

Equal to lm-eval's `HFLM._loglikelihood_tokens` but for rounding. Holds a loaded transformers model;
reads and writes no file.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from transformers import Cache, PreTrainedModel

from pipeline.evaluation.scorer.model_fit import refuse_by_config, refuse_by_probe
from pipeline.evaluation.scorer.passes import NO_PREFIX, ModelPass, plan_passes
from pipeline.evaluation.scorer.shared_prefix import read_prefixes
from pipeline.evaluation.scorer.slices import (
    WHOLE,
    AnswerRequest,
    Likelihood,
    Part,
    slices,
    sorted_sequences,
)
from pipeline.evaluation.scorer.token_trees import Integers, ScoredSequence
from pipeline.evaluation.scorer.vocabulary_head import VocabularyHead

Predictions: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""`(answer tokens,)`: log-probability in nats in fp32; whether no other token is likelier."""
CPU_TOKENS_PER_PASS = 1024
"""Enough for products at full rate on a core; larger passes hold more filling."""
TOKENS_PER_PASS = 16_384
"""On other devices."""


class SharingScorer:
    """Scores answers with a model in evaluation mode, which stays unchanged.

    Beside the model, memory holds what the model needs for one pass (`tokens_per_pass` tokens, or
    one row of a longer context and its answers); keys and values of the prefixes of one pass, in
    all layers, and of at most 16 `tokens_per_pass` tokens in one layer; a mask of as many numbers
    for each token of a row; and one block of logits (`vocabulary_head.py`).
    """

    def __init__(
        self, model: PreTrainedModel, max_length: int, tokens_per_pass: int | None = None
    ) -> None:
        """Take a model and probe it; `max_length`: tokens in its context.

        `tokens_per_pass`: None for what suits the device. It decides the last bits, too.
        Raises UnfitModel where the model computes token trees otherwise than plain text.
        """
        assert not model.training, "dropout would act"
        refuse_by_config(model, max_length)
        head = model.get_output_embeddings()
        assert head is not None
        self._body: torch.nn.Module = model.base_model
        self._head = VocabularyHead(head, model.device)
        self._device = model.device
        self._dtype = model.dtype
        self._max_length = max_length
        self._tokens_per_pass = tokens_per_pass or TOKENS_PER_PASS
        if tokens_per_pass is None and model.device.type == "cpu":
            self._tokens_per_pass = CPU_TOKENS_PER_PASS
        refuse_by_probe(model, max_length, self._log_probabilities)

    def log_likelihoods(
        self,
        requests: Sequence[AnswerRequest],
        update: Callable[[float, str], None] = lambda completed, detail: None,
    ) -> list[Likelihood]:
        """Return the likelihood of each request's answer.

        `update` is told how many requests are completed.
        """
        likelihoods = self.likelihoods_of_part(requests, WHOLE, update)
        return [likelihoods[index] for index in range(len(requests))]

    def likelihoods_of_part(
        self,
        requests: Sequence[AnswerRequest],
        part: Part,
        update: Callable[[float, str], None] = lambda completed, detail: None,
    ) -> dict[int, Likelihood]:
        """Return the likelihoods of a part of the requests, by their indices.

        Each slice of the requests (see `slices`) gives the same bits alone as among all, on one
        kind of processor with one number of threads. `update` is told how many of all requests
        would be completed if the other parts were as far.
        """
        chosen = slices(requests, self._max_length)[part.number :: part.count]
        size = sum(map(len, chosen))
        likelihoods: dict[int, Likelihood] = {}
        for indices in chosen:
            of_slice = self._score_slice([requests[index] for index in indices])
            likelihoods.update(zip(indices, of_slice, strict=True))
            update(len(likelihoods) / size * len(requests), "")
        return likelihoods

    def _score_slice(self, requests: Sequence[AnswerRequest]) -> list[Likelihood]:
        """Return the likelihoods of a slice's requests."""
        sequences, places = sorted_sequences(requests, self._max_length)
        passes = plan_passes(sequences, self._tokens_per_pass)
        # The tokens of an answer are summed in fp32, as the reference does.
        likelihoods = [
            (float(log_probabilities.sum()), bool(is_likeliest.all()))
            for log_probabilities, is_likeliest in self._predict_answers(sequences, passes)
        ]
        return [likelihoods[place] for place in places]

    def _log_probabilities(
        self, sequences: Sequence[ScoredSequence], passes: Sequence[ModelPass]
    ) -> list[torch.Tensor]:
        """Return the log-probabilities of each sequence's answer tokens."""
        return [of_answer for of_answer, _ in self._predict_answers(sequences, passes)]

    def _predict_answers(
        self, sequences: Sequence[ScoredSequence], passes: Sequence[ModelPass]
    ) -> list[Predictions]:
        """Return the predictions of each sequence's answer tokens, on the processor."""
        log_probabilities: list[torch.Tensor] = []
        is_likeliest: list[torch.Tensor] = []
        prefixes = NO_PREFIX
        cache: Cache | None = None
        with torch.inference_mode():
            for model_pass in passes:
                # Passes with the same prefixes follow each other.
                if model_pass.prefixes is not prefixes:
                    prefixes = model_pass.prefixes
                    cache = None
                    if prefixes.width:
                        cache = read_prefixes(self._body, self._on_device(prefixes.tokens))
                of_pass = self._predict_pass(model_pass, cache)
                log_probabilities.append(of_pass[0].cpu())
                is_likeliest.append(of_pass[1].cpu())

        # From the order of the passes to that of the sequences.
        owners = np.concatenate([model_pass.owners for model_pass in passes])
        order = torch.from_numpy(np.argsort(owners, kind="stable"))
        lengths = [sequence.answer_tokens for sequence in sequences]
        return list(
            zip(
                torch.cat(log_probabilities)[order].split(lengths),
                torch.cat(is_likeliest)[order].split(lengths),
                strict=True,
            )
        )

    def _predict_pass(self, model_pass: ModelPass, cache: Cache | None) -> Predictions:
        """Return the predictions of a pass, in the order of its `targets`."""
        # The body reads all tokens.
        mask = None
        if not model_pass.is_plain:
            mask = tree_mask(
                self._on_device(model_pass.ends),
                self._on_device(model_pass.prefixes.lengths),
                model_pass.prefixes.width,
                self._dtype,
            )
        hidden = self._body(
            input_ids=self._on_device(model_pass.tokens),
            attention_mask=mask,
            position_ids=self._on_device(model_pass.positions),
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state

        # The head reads only those that predict.
        return self._head.predict(
            hidden.flatten(0, 1)[self._on_device(model_pass.places)],
            self._on_device(model_pass.predictions),
            self._on_device(model_pass.targets),
        )

    def _on_device(self, values: Integers) -> torch.Tensor:
        return torch.from_numpy(values).to(self._device)


def tree_mask(
    ends: torch.Tensor, prefix_lengths: torch.Tensor, prefix_width: int, dtype: torch.dtype
) -> torch.Tensor:
    """Return what is added to attention scores: 0 where a token sees another, else the least number.

    `ends`: `(rows, width)`, see `TokenTree`; `prefix_lengths`: `(1 or rows,)`. Shape
    `(rows, 1, width, prefix_width + width)`.
    """
    rows, width = ends.shape
    index = torch.arange(width, device=ends.device)
    is_seen = (index[:, None] >= index) & (index[:, None] < ends[:, None, :])
    is_prefix = torch.arange(prefix_width, device=ends.device) < prefix_lengths[:, None]
    is_hidden = torch.empty(
        rows, 1, width, prefix_width + width, dtype=torch.bool, device=ends.device
    )
    is_hidden[:, 0, :, :prefix_width] = ~is_prefix[:, None, :]
    is_hidden[:, 0, :, prefix_width:] = ~is_seen
    mask = torch.zeros(is_hidden.shape, dtype=dtype, device=ends.device)
    return mask.masked_fill_(is_hidden, torch.finfo(dtype).min)
