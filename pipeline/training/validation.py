"""The held-out loss per source, in nats per token and bits per byte of text.

And what a model that knows only word frequencies could reach at best.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.config.groups import RankGroups
from pipeline.engine.deepspeed_engine import Engine
from pipeline.engine.groups import sum_over_data_ranks
from pipeline.model.device_batch import Mover
from pipeline.sampling.batches import IGNORED, Batch, RowShape, TokenSource, read_batch
from pipeline.sampling.order import Places
from pipeline.sampling.rows import Concatenated
from pipeline.sampling.stream import TokenStream
from pipeline.store.heartbeat import NO_HEARTBEAT, Heartbeat, NoHeartbeat
from pipeline.store.metrics import ValidationFigures
from pipeline.store.pretrained_folders import TOKENIZER_JSON
from pipeline.tokens.pieces import load_pieces


@dataclass(frozen=True)
class HeldOut:
    """The sequences measured at every validation."""

    sources: tuple[str, ...]
    source: np.ndarray
    """`(sequences,) int64`: index into `sources`."""
    batch: Batch
    """All sequences."""
    text_bytes: tuple[int, ...] | None
    """Of each source: bytes of the text that its targets stand for; None where the tokenizer does
    not tell."""


def bytes_of_ids(tokenizer: Path, end_of_document: int) -> np.ndarray | None:
    """Return the bytes of text that each id of a tokenizer folder stands for, `(ids,) int64`; 0 for
    the end of a document.

    None where the vocabulary writes pieces in another way than byte-level or SentencePiece's.
    """
    pieces = load_pieces(tokenizer / TOKENIZER_JSON)
    if pieces.kind == "other":
        return None
    lengths = np.array([len(piece) for piece in pieces.of_id], np.int64)
    lengths[end_of_document] = 0
    return lengths


def choose_held_out(
    streams: Mapping[str, TokenStream], shape: RowShape, at_most: int, id_bytes: np.ndarray | None
) -> HeldOut:
    """Take windows evenly spread over each source's validation stream, whatever the packing of the
    training text.

    `id_bytes`: see `bytes_of_ids`. Sources without a token to predict are left out.
    """
    cut = {
        name: Concatenated(len(s), shape.sequence_length, s.dtype.itemsize)
        for name, s in streams.items()
    }
    names = tuple(name for name, rows in cut.items() if rows.count)
    counts = [min(cut[name].count, at_most) for name in names]
    source = np.repeat(np.arange(len(names)), counts)
    row = [
        i * cut[name].count // count
        for name, count in zip(names, counts, strict=True)
        for i in range(count)
    ]
    sources = [TokenSource(name, streams[name], cut[name]) for name in names]
    batch = read_batch(
        sources,
        Places(np.arange(len(row)), source, np.zeros(len(row), int), np.array(row, int)),
        shape,
    )
    text_bytes = None
    if id_bytes is not None:
        of_source = [batch.targets[source == i] for i in range(len(names))]
        text_bytes = tuple(
            int(id_bytes[targets[targets != IGNORED]].sum()) for targets in of_source
        )
    return HeldOut(names, source, batch, text_bytes)


def unigram_entropy(held_out: HeldOut) -> tuple[float | None, dict[str, float]]:
    """Return the entropy in nats per token of the very targets that are validated, overall and by
    source.

    It is the lowest cross-entropy that any model without context can reach on them: -sum p log p
    with their own frequencies p.
    """
    by_source = {
        name: _entropy(held_out.batch.targets[held_out.source == i])
        for i, name in enumerate(held_out.sources)
    }
    return (_entropy(held_out.batch.targets) if by_source else None), by_source


def _entropy(targets: np.ndarray) -> float:
    counts = np.bincount(targets[targets != IGNORED]).astype(np.float64)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


@torch.no_grad()
def validate(
    engine: Engine,
    groups: RankGroups,
    held_out: HeldOut,
    micro_batch: int,
    heartbeat: Heartbeat | NoHeartbeat = NO_HEARTBEAT,
) -> ValidationFigures:
    """Measure the mean loss in nats per token and its bits per byte of text, overall and by source,
    as metrics.jsonl names them; every rank calls it and gets the same.

    Overall is the mean over all validated tokens, or bytes. Bits per byte: nats of all targets / ln
    2 / bytes of the text that they stand for; the end of a document stands for none, but its nats
    count. All ranks run the same number of forward passes, as ZeRO 3 needs.
    """
    if not held_out.sources:
        return _figures(held_out, [], [])
    data_ranks = groups.sizes.data
    rows = np.arange(groups.data_rank, len(held_out.source), data_ranks)
    passes = -(-len(held_out.source) // (data_ranks * micro_batch))
    sums = torch.zeros(len(held_out.sources), 2, dtype=torch.float64, device=engine.device)
    move = Mover(engine.device)
    engine.eval()
    for i in range(passes):
        heartbeat.beat(f"validation, pass {i + 1} of {passes}")
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
    sum_over_data_ranks(sums, groups)
    nats, targets = sums.T.tolist()
    return _figures(held_out, nats, targets)


def _figures(held_out: HeldOut, nats: list[float], targets: list[float]) -> ValidationFigures:
    """Divide each source's nats by its targets, and its bits by its bytes; None where there is
    nothing to divide by."""

    def together(
        amounts: Sequence[float], units: Sequence[float]
    ) -> tuple[float | None, dict[str, float]]:
        by_source = {
            name: amount / unit
            for name, amount, unit in zip(held_out.sources, amounts, units, strict=True)
            if unit
        }
        return (sum(amounts) / sum(units) if sum(units) else None), by_source

    loss, loss_by_source = together(nats, targets)
    text_bytes = held_out.text_bytes if held_out.text_bytes is not None else [0] * len(nats)
    bits, bits_by_source = together([n / math.log(2) for n in nats], text_bytes)
    return {
        "validation_loss": loss,
        "validation_loss_by_source": loss_by_source,
        "validation_bits_per_byte": bits,
        "validation_bits_per_byte_by_source": bits_by_source,
    }
