"""Whether a model computes token trees as it computes plain text: by its config and by a probe."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from transformers import PretrainedConfig, PreTrainedModel

from pipeline.evaluation.scorer.passes import (
    NO_PREFIX,
    ModelPass,
    Prefixes,
    common_prefix,
    make_pass,
    own_prefixes,
    planned_row,
)
from pipeline.evaluation.scorer.slices import AnswerRequest, sorted_sequences
from pipeline.evaluation.scorer.token_trees import ScoredSequence
from pipeline.store.records import Json

KERNELS = ("sdpa", "eager")
"""Kinds of attention in transformers that take a mask of four dimensions as it is."""
COUNTS = ("layers", "pattern")
"""Ends of names in a config that count layers, whatever else they name."""
LENGTH_DEPENDENT_ROTATIONS = ("dynamic", "longrope")
"""Kinds of rotary scaling that turn a token by the length of its batch."""
LEAST_BAND = 3e-5
"""Nats by which the log-probability of a token may differ between a tree and plain text."""
BAND_IN_ROUNDINGS = 2.0
"""The same as a multiple of the largest logit's rounding, which is more in half precision."""
PROBE_SEED = 20
PROBE_CONTEXTS = 3
PROBE_ANSWERS = 3

ScorePasses = Callable[[Sequence[ScoredSequence], Sequence[ModelPass]], list[torch.Tensor]]
"""Function that returns the log-probabilities of each sequence's answer tokens."""


class UnfitModel(Exception):
    """The model cannot share contexts among answers; the message says why.

    No mistake of the user: its answers are scored one by one.
    """


def refuse_by_config(model: PreTrainedModel, max_length: int) -> None:
    """Raise UnfitModel for a model whose config says that trees are computed differently.

    Named are what a short probe would not find: windows that only a longer text leaves, and
    rotations that change with the length of the text.
    """
    config = model.config.get_text_config()
    kernel = str(config._attn_implementation)
    if kernel not in KERNELS:
        raise UnfitModel(f"attention by {kernel} takes no mask of token trees")
    if model.get_output_embeddings() is None:
        raise UnfitModel("it has no head that could be applied to single tokens")
    for name, value in config.to_dict().items():
        is_limit = ("window" in name or "chunk" in name) and not name.endswith(COUNTS)
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if is_limit and is_number and 0 < value < max_length:
            raise UnfitModel(f"{name} is {value}, less than the context of {max_length} tokens")
    for kind in _rotations(config):
        if kind in LENGTH_DEPENDENT_ROTATIONS:
            raise UnfitModel(f"{kind} rotary positions depend on the length of the text")


def _rotations(config: PretrainedConfig) -> list[Json]:
    """Return the kinds of rotary scaling that a config names, one or one for each kind of layer."""
    settings: Mapping[str, Json] = getattr(config, "rope_parameters", None) or {}
    parts = [settings, *(part for part in settings.values() if isinstance(part, dict))]
    return [part.get("rope_type") for part in parts]


def refuse_by_probe(model: PreTrainedModel, max_length: int, score: ScorePasses) -> None:
    """Raise UnfitModel where `score` does not give what the model gives on plain text.

    Compares random sequences: in trees, after one prefix for all and after a prefix for each row.
    """
    # Plain text, one sequence after the other.
    sequences, _ = sorted_sequences(_probe_requests(model, max_length), max_length)
    of_sequences: list[torch.Tensor] = []
    largest_logit = 0.0
    with torch.inference_mode():
        for sequence in sequences:
            inputs = torch.from_numpy(sequence.tokens[None, :-1]).to(model.device)
            logits = model(input_ids=inputs, use_cache=False).logits[0, -sequence.answer_tokens :]
            targets = torch.from_numpy(sequence.tokens[-sequence.answer_tokens :, None])
            probabilities = logits.log_softmax(-1, dtype=torch.float32).cpu()
            of_sequences.append(probabilities.gather(1, targets)[:, 0])
            largest_logit = max(largest_logit, float(logits.abs().max()))
    expected = torch.cat(of_sequences)
    band = max(LEAST_BAND, BAND_IN_ROUNDINGS * torch.finfo(model.dtype).eps * largest_logit)

    # The same tokens in each kind of pass.
    for kind, passes in _probe_passes(sequences).items():
        try:
            found = torch.cat(score(sequences, passes))
        except Exception as error:  # whatever an architecture raises that takes no such input
            reason = str(error).partition("\n")[0]
            raise UnfitModel(f"{kind}: {type(error).__name__}: {reason}") from error
        difference = float((found - expected).square().mean().sqrt())
        if not difference <= band:
            raise UnfitModel(
                f"{kind} differ from plain text by {difference:.2g} nats a token (root mean square), "
                f"more than {band:.2g}"
            )


def _probe_requests(model: PreTrainedModel, max_length: int) -> list[AnswerRequest]:
    """Return answers of different lengths to contexts of different lengths that begin alike."""
    generator = np.random.default_rng(PROBE_SEED)
    vocabulary = int(model.config.get_text_config().vocab_size)

    def some(count: int) -> list[int]:
        return generator.integers(0, vocabulary, max(1, count)).tolist()

    # All fit into the context of the model.
    unit = min(6, max_length // 4)
    beginning = some(2 * unit)
    requests: list[AnswerRequest] = []
    for number in range(PROBE_CONTEXTS):
        context = [*beginning, *some(unit - number)]
        requests += [(context, some(unit - answer)) for answer in range(PROBE_ANSWERS)]
    return requests


def _probe_passes(sequences: Sequence[ScoredSequence]) -> dict[str, list[ModelPass]]:
    """Return every kind of passes of sequences whose contexts begin alike."""
    groups: dict[bytes, list[ScoredSequence]] = {}
    for sequence in sequences:
        groups.setdefault(sequence.context.tobytes(), []).append(sequence)
    prefix = common_prefix(sequences)
    rows = [planned_row(group, prefix) for group in groups.values()]
    rows_after_contexts = [planned_row(group, common_prefix(group)) for group in groups.values()]
    shared = Prefixes(sequences[0].tokens[None, :prefix], np.array([prefix]))
    return {
        "token trees": [make_pass([planned_row(sequences, 0)], NO_PREFIX)],
        "token trees after a common prefix": [make_pass(rows, shared)],
        "token trees after their contexts": [
            make_pass(rows_after_contexts, own_prefixes(rows_after_contexts))
        ],
    }
