"""The held-out loss per source, and what a model that knows only word frequencies could reach at best."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from pipeline.sampling.batches import IGNORED, Batch, Shape, Source, read_batch
from pipeline.sampling.order import Places
from pipeline.sampling.rows import Concatenated
from pipeline.sampling.stream import TokenStream
from pipeline.training.device_batch import Mover


@dataclass(frozen=True)
class HeldOut:
    """The sequences measured at every validation."""

    sources: tuple[str, ...]
    source: np.ndarray
    """`(sequences,) int64`: index into `sources`."""
    batch: Batch
    """All sequences."""


def choose_held_out(streams: Mapping[str, TokenStream], shape: Shape, at_most: int) -> HeldOut:
    """Take windows evenly spread over each source's validation stream, whatever the packing of the training text.

    Sources without a token to predict are left out.
    """
    cut = {name: Concatenated(len(s), shape.sequence_length, s.dtype.itemsize) for name, s in streams.items()}
    names = tuple(name for name, rows in cut.items() if rows.count)
    counts = [min(cut[name].count, at_most) for name in names]
    source = np.repeat(np.arange(len(names)), counts)
    row = [i * cut[name].count // count for name, count in zip(names, counts, strict=True) for i in range(count)]
    sources = [Source(name, streams[name], cut[name]) for name in names]
    batch = read_batch(sources, Places(np.arange(len(row)), source, np.zeros(len(row), int), np.array(row, int)), shape)
    return HeldOut(names, source, batch)


def unigram_entropy(held_out: HeldOut) -> tuple[float | None, dict[str, float]]:
    """Return the entropy in nats per token of the very targets that are validated, overall and by source.

    It is the lowest cross-entropy that any model without context can reach on them: -sum p log p with their own
    frequencies p.
    """
    by_source = {
        name: _entropy(held_out.batch.targets[held_out.source == i]) for i, name in enumerate(held_out.sources)
    }
    return (_entropy(held_out.batch.targets) if by_source else None), by_source


def _entropy(targets: np.ndarray) -> float:
    counts = np.bincount(targets[targets != IGNORED]).astype(np.float64)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


@torch.no_grad()
def validate(engine: Any, held_out: HeldOut, micro_batch: int) -> tuple[float | None, dict[str, float]]:
    """Return the mean loss in nats per token, overall and by source; every rank calls it and gets the same.

    Overall is the mean over all validated tokens. All ranks run the same number of forward passes, as ZeRO 3 needs.
    """
    if not held_out.sources:
        return None, {}
    rank, ranks = dist.get_rank(), dist.get_world_size()
    rows = np.arange(rank, len(held_out.source), ranks)
    passes = -(-len(held_out.source) // (ranks * micro_batch))
    sums = torch.zeros(len(held_out.sources), 2, dtype=torch.float64, device=engine.device)
    move = Mover(engine.device)
    engine.eval()
    for i in range(passes):
        chosen = rows[i * micro_batch : (i + 1) * micro_batch]
        taken = chosen if len(chosen) else np.zeros(1, np.int64)  # only to take part
        batch = move(held_out.batch.take(taken))
        batch.wait()
        losses = engine(batch.inputs, batch.targets, batch.positions)[1].double().sum(1)
        counts = (batch.targets != IGNORED).sum(1)
        for row, loss, count in zip(chosen, losses, counts, strict=False):
            sums[held_out.source[row], 0] += loss
            sums[held_out.source[row], 1] += count
    engine.train()
    dist.all_reduce(sums)
    overall = sums.sum(0)
    by_source = {name: float(sums[i, 0] / sums[i, 1]) for i, name in enumerate(held_out.sources)}
    return float(overall[0] / overall[1]), by_source
