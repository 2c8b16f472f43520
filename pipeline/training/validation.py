"""Held-out loss per source, in nats per token and bits per byte of text.

Also the unigram entropy, a bound to compare the loss with.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.config.groups import RankGroups
from pipeline.engine.deepspeed_engine import Engine
from pipeline.engine.groups import sum_over_data_ranks
from pipeline.logs import warn
from pipeline.model.device_batch import DeviceBatch, Mover
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
    """The sequences that every validation measures."""

    sources: tuple[str, ...]
    """Names of the sources that have held-out sequences."""
    source: np.ndarray
    """Source of each sequence `(sequences,) int64`, as an index into `sources`."""
    batch: Batch
    """All sequences."""
    text_bytes: tuple[int, ...] | None
    """Bytes of text in the targets of each source; None if `bytes_of_ids` cannot find them."""


def bytes_of_ids(tokenizer: Path, end_of_document: int) -> np.ndarray | None:
    """Return the number of bytes of text that each token id stands for, `(ids,) int64`.

    `tokenizer` is a tokenizer's folder. The end of a document stands for 0 bytes. None where the
    vocabulary's pieces are neither byte-level nor SentencePiece's.
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
    """Choose up to `at_most` rows of each source, evenly spread over its validation stream.

    Validation rows are always concatenated text, however the training text is packed. `id_bytes`
    as `bytes_of_ids` returns it. Sources without a token to predict are left out.
    """
    # Cut each stream into rows.
    rows_of_source = {
        name: Concatenated(len(stream), shape.sequence_length, stream.dtype.itemsize)
        for name, stream in streams.items()
    }
    names = tuple(name for name, rows in rows_of_source.items() if rows.count)

    # Choose rows, evenly spread.
    counts = [min(rows_of_source[name].count, at_most) for name in names]
    source = np.repeat(np.arange(len(names)), counts)
    row = [
        i * rows_of_source[name].count // count
        for name, count in zip(names, counts, strict=True)
        for i in range(count)
    ]

    # Read them once: they are the same at every validation.
    sources = [TokenSource(name, streams[name], rows_of_source[name]) for name in names]
    epochs = np.zeros(len(row), int)
    places = Places(np.arange(len(row)), source, epochs, np.array(row, int))
    batch = read_batch(sources, places, shape)

    # Count the text that the targets stand for.
    text_bytes = None
    if id_bytes is not None:
        targets_of_source = [batch.targets[source == i] for i in range(len(names))]
        text_bytes = tuple(
            int(id_bytes[targets[targets != IGNORED]].sum()) for targets in targets_of_source
        )
    return HeldOut(names, source, batch, text_bytes)


def targets_by_source(held_out: HeldOut) -> dict[str, int]:
    """Return how many targets each source has in a validation."""
    return {
        name: int((held_out.batch.targets[held_out.source == i] != IGNORED).sum())
        for i, name in enumerate(held_out.sources)
    }


def unigram_entropy(held_out: HeldOut) -> tuple[float | None, dict[str, float]]:
    """Return the unigram entropy of the validated targets in nats per token, overall and by source.

    -sum p log p with the targets' own frequencies p: the lowest cross-entropy that a model without
    context can reach on these targets. Overall is None where nothing is held out.
    """
    by_source = {
        name: _entropy(held_out.batch.targets[held_out.source == i])
        for i, name in enumerate(held_out.sources)
    }
    if not by_source:
        return None, by_source
    return _entropy(held_out.batch.targets), by_source


def _entropy(targets: np.ndarray) -> float:
    counts = np.bincount(targets[targets != IGNORED]).astype(np.float64)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


@torch.no_grad()
def validate_held_out(
    engine: Engine,
    groups: RankGroups,
    held_out: HeldOut,
    micro_batch: int,
    heartbeat: Heartbeat | NoHeartbeat = NO_HEARTBEAT,
) -> ValidationFigures:
    """Measure the held-out loss, overall and by source; every rank calls it and gets the same.

    Nats per token: mean over all validated targets. Bits per byte: nats of all targets / ln 2 /
    bytes of the text that the targets stand for; the end of a document stands for no byte, but its
    nats count. All ranks run the same number of forward passes, as ZeRO 3 needs.
    """
    if not held_out.sources:
        return validation_figures(held_out, [], [])

    # Each data rank adds up its own sequences.
    sums = torch.zeros(len(held_out.sources), 2, dtype=torch.float64, device=engine.device)
    for chosen, batch in passes_over_rows(
        engine, groups, held_out.batch, micro_batch, "validation", heartbeat
    ):
        losses = engine(batch.inputs, batch.targets, batch.positions)[1].double().sum(1)
        counts = (batch.targets != IGNORED).sum(1)
        for row, loss, count in zip(chosen, losses, counts, strict=False):
            sums[held_out.source[row], 0] += loss
            sums[held_out.source[row], 1] += count

    # Add up the sums of all data ranks.
    sum_over_data_ranks(sums, groups)
    nats, targets = sums.T.tolist()
    broken = [
        name
        for name, of_source in zip(held_out.sources, nats, strict=True)
        if not math.isfinite(of_source)
    ]
    if broken and groups.is_rank_0:
        warn(f"validation: the loss of {', '.join(broken)} is not finite; it is not recorded")
    return validation_figures(held_out, nats, targets)


def passes_over_rows(
    engine: Engine,
    groups: RankGroups,
    rows: Batch,
    micro_batch: int,
    name: str,
    heartbeat: Heartbeat | NoHeartbeat = NO_HEARTBEAT,
) -> Iterator[tuple[np.ndarray, DeviceBatch]]:
    """Yield this rank's rows, every n-th of n data ranks, in micro-batches on the device.

    Each comes with the numbers of its rows. All ranks get the same number of them, as ZeRO 3 needs:
    a rank without rows left gets a row that is not to be counted, with no numbers. The engine is in
    evaluation mode meanwhile. `name`: of the passes, for the heartbeat.
    """
    number = len(rows.inputs)
    data_ranks = groups.sizes.data
    own = np.arange(groups.data_rank, number, data_ranks)
    passes = -(-number // (data_ranks * micro_batch))
    move = Mover(engine.device)
    engine.eval()
    for i in range(passes):
        heartbeat.beat(f"{name}, pass {i + 1} of {passes}")
        chosen = own[i * micro_batch : (i + 1) * micro_batch]
        taken = chosen
        if not len(chosen):
            taken = np.zeros(1, np.int64)
        batch = move(rows.take(taken))
        batch.wait()
        yield chosen, batch
    engine.train()


def validation_figures(
    held_out: HeldOut, nats: list[float], targets: list[float]
) -> ValidationFigures:
    """Return the validation's fields of metrics.jsonl, from the nats and targets of each source."""
    loss, loss_by_source = _quotients(held_out.sources, nats, targets)
    text_bytes = held_out.text_bytes or [0] * len(nats)
    bits = [source_nats / math.log(2) for source_nats in nats]
    bits_per_byte, bits_per_byte_by_source = _quotients(held_out.sources, bits, text_bytes)
    return {
        "validation_loss": loss,
        "validation_loss_by_source": loss_by_source,
        "validation_bits_per_byte": bits_per_byte,
        "validation_bits_per_byte_by_source": bits_per_byte_by_source,
    }


def _quotients(
    sources: Sequence[str], amounts: Sequence[float], units: Sequence[float]
) -> tuple[float | None, dict[str, float]]:
    """Divide amounts by units, overall and by source.

    Overall is None, and a source is left out, where there are no units or an amount is not finite:
    metrics.jsonl takes no other numbers.
    """
    by_source = {
        name: amount / unit
        for name, amount, unit in zip(sources, amounts, units, strict=True)
        if unit and math.isfinite(amount)
    }
    amount = sum(amounts)
    total = sum(units)
    if not total or not math.isfinite(amount):
        return None, by_source
    return amount / total, by_source
