"""The held-out loss per source, and what a model that knows only word frequencies could reach at best."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F

from pipeline.sampling.order import read_sequence, sequence_count
from pipeline.sampling.stream import TokenStream


@dataclass(frozen=True)
class HeldOut:
    """The sequences measured at every validation."""

    sources: tuple[str, ...]
    source: np.ndarray
    """`(sequences,) int64`: index into `sources`."""
    tokens: np.ndarray
    """`(sequences, sequence_length + 1) int64`."""


def choose_held_out(streams: Mapping[str, TokenStream], length: int, at_most: int) -> HeldOut:
    """Take sequences evenly spread over each source's validation stream; sources without a whole one are left out."""
    names, source, rows = [], [], []
    for name, stream in streams.items():
        available = sequence_count(len(stream), length)
        count = min(available, at_most)
        if count:
            chosen = [i * available // count for i in range(count)]
            rows += [read_sequence(streams, name, i, length) for i in chosen]
            source += [len(names)] * count
            names.append(name)
    tokens = np.stack(rows) if rows else np.zeros((0, length + 1), np.int64)
    return HeldOut(tuple(names), np.array(source, np.int64), tokens)


def unigram_entropy(held_out: HeldOut) -> tuple[float | None, dict[str, float]]:
    """Return the entropy in nats per token of the very targets that are validated, overall and by source.

    It is the lowest cross-entropy that any model without context can reach on them: -sum p log p with their own
    frequencies p.
    """
    by_source = {name: _entropy(held_out.tokens[held_out.source == i, 1:]) for i, name in enumerate(held_out.sources)}
    return (_entropy(held_out.tokens[:, 1:]) if by_source else None), by_source


def _entropy(tokens: np.ndarray) -> float:
    counts = np.bincount(tokens.ravel()).astype(np.float64)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def token_losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy in nats of each target: `(rows, length, vocabulary)`, `(rows, length)` -> `(rows, length)`."""
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)


@torch.no_grad()
def validate(engine: Any, held_out: HeldOut, micro_batch: int) -> tuple[float | None, dict[str, float]]:
    """Return the mean loss in nats per token, overall and by source; every rank calls it and gets the same.

    Overall is the mean over all validated tokens. All ranks run the same number of forward passes, as ZeRO 3 needs.
    """
    if not held_out.sources:
        return None, {}
    rank, ranks = dist.get_rank(), dist.get_world_size()
    rows = np.arange(rank, len(held_out.tokens), ranks)
    passes = -(-len(held_out.tokens) // (ranks * micro_batch))
    sums = torch.zeros(len(held_out.sources), 2, dtype=torch.float64, device=engine.device)
    engine.eval()
    for i in range(passes):
        chosen = rows[i * micro_batch : (i + 1) * micro_batch]
        batch = held_out.tokens[chosen] if len(chosen) else held_out.tokens[:1]  # only to take part
        ids = torch.from_numpy(batch).to(engine.device)
        losses = token_losses(engine(input_ids=ids[:, :-1], use_cache=False).logits, ids[:, 1:]).double().sum(1)
        for row, loss in zip(chosen, losses, strict=False):
            sums[held_out.source[row], 0] += loss
            sums[held_out.source[row], 1] += ids.shape[1] - 1
    engine.train()
    dist.all_reduce(sums)
    overall = sums.sum(0)
    by_source = {name: float(sums[i, 0] / sums[i, 1]) for i, name in enumerate(held_out.sources)}
    return float(overall[0] / overall[1]), by_source
