"""Slices: the parts of a cell that are scored alone, each with the same bits wherever it runs.

Pure functions of the requests. A slice is what must not be divided: the last bits of a
log-likelihood depend on the sequences that are computed with it, and these are those of its slice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from pipeline.evaluation.scorer.token_trees import ScoredSequence, shared_inputs

AnswerRequest: TypeAlias = tuple[Sequence[int], Sequence[int]]
"""Token ids of a context, at least one, and of an answer, at least one."""
Likelihood: TypeAlias = tuple[float, bool]
"""Log-likelihood of an answer in nats; whether greedy decoding gives that answer."""

TOKENS_PER_SLICE = 32_768
"""Different tokens after which a slice ends with its context: about a second of a small model on
one core, and enough to sort rows by length and to compute the slice's fixed examples only once."""


@dataclass(frozen=True)
class Part:
    """Every `count`th slice of a cell, from slice `number` on."""

    number: int
    count: int


WHOLE = Part(0, 1)


def slices(requests: Sequence[AnswerRequest], max_length: int) -> list[list[int]]:
    """Return the indices of the requests of each slice, in the order in which they are scored.

    `max_length`: tokens in the model's context. Every request is in one slice, equal requests are in
    the same one. The order of the requests does not matter, and the slices of a slice's requests
    are that one slice.
    """
    sequences, places = sorted_sequences(requests, max_length)
    slice_of_sequence = np.zeros(len(sequences), np.int64)
    for number, (start, stop) in enumerate(slice_ranges(sequences)):
        slice_of_sequence[start:stop] = number
    indices: list[list[int]] = [[] for _ in range(int(slice_of_sequence.max(initial=-1)) + 1)]
    for request, place in enumerate(places):
        indices[slice_of_sequence[place]].append(request)
    return indices


def sorted_sequences(
    requests: Sequence[AnswerRequest], max_length: int
) -> tuple[list[ScoredSequence], list[int]]:
    """Return the different sequences in ascending order, and each request's place among them.

    A sequence is the last `max_length + 1` tokens of a context and its answer, as in lm-eval's
    `HFLM._loglikelihood_tokens`.
    """
    # Tokens as big-endian bytes are ordered as the tokens are, and compare fast.
    keys: list[tuple[bytes, int]] = []
    for context, answer in requests:
        assert context, "a context has at least one token"
        assert 0 < len(answer) <= max_length, "an answer has 1 to max_length tokens"
        kept = [*context[-(max_length + 1) :], *answer][-(max_length + 1) :]
        keys.append((np.array(kept, ">u4").tobytes(), len(answer)))

    ascending = sorted(set(keys))
    place_of_key = {key: place for place, key in enumerate(ascending)}
    sequences = [
        ScoredSequence(place, np.frombuffer(tokens, ">u4").astype(np.int64), answer_tokens)
        for place, (tokens, answer_tokens) in enumerate(ascending)
    ]
    return sequences, [place_of_key[key] for key in keys]


def slice_ranges(sequences: Sequence[ScoredSequence]) -> list[tuple[int, int]]:
    """Return (start, stop) of each slice among sorted sequences.

    Decides about a cut by the tokens since the slice's start and the next sequence alone, so that
    a slice is not divided differently without the others.
    """
    ranges: list[tuple[int, int]] = []
    start = 0
    tokens = 0
    for place, sequence in enumerate(sequences):
        shared = 0
        if place > start:
            shared = shared_inputs(sequences[place - 1], sequence)
            # Answers to one context stay together, unless they are very many.
            same_context = (
                shared > sequence.first_scored
                and sequence.first_scored == sequences[place - 1].first_scored
            )
            is_full = tokens >= TOKENS_PER_SLICE and not same_context
            if is_full or tokens >= 2 * TOKENS_PER_SLICE:
                ranges.append((start, place))
                start = place
                tokens = 0
                shared = 0
        tokens += sequence.inputs - shared
    if sequences:
        ranges.append((start, len(sequences)))
    return ranges
