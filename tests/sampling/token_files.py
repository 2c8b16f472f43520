"""Streams of consecutive numbers, which say by themselves where they stood."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.sampling.batches import RowShape, TokenSource
from pipeline.sampling.blocks import BlockReader
from pipeline.sampling.loader import TrainingData
from pipeline.sampling.order import make_order
from pipeline.sampling.rows import Concatenated, Rows
from pipeline.sampling.shuffle import BlockShuffle, FullShuffle
from pipeline.sampling.stream import OpenFiles, TokenStream
from pipeline.tokens import indexed_dataset

END = 65_000


def write_stream(
    folder: Path, lengths: Sequence[int], start: int = 0, files: OpenFiles | None = None
) -> TokenStream:
    """Write consecutive numbers over files of these lengths."""
    return write_ids(
        folder,
        [
            np.arange(start + sum(lengths[:i]), start + sum(lengths[: i + 1]))
            for i in range(len(lengths))
        ],
        files,
    )


def write_ids(
    folder: Path, parts: Sequence[np.ndarray], files: OpenFiles | None = None
) -> TokenStream:
    """Write ids as files and return them as one stream."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for i, part in enumerate(parts):
        path = folder / f"train_{i}.bin"
        part.astype(np.uint16).tofile(path)
        shards.append((path, len(part)))
    return TokenStream(shards, np.dtype(np.uint16), files)


def make_data(
    streams: dict[str, TokenStream],
    weights: Sequence[float] | None = None,
    length: int = 4,
    *,
    seed: int = 1,
    block: int = 0,
    mask: bool = False,
    loss_after_end: bool = True,
) -> TrainingData:
    """Return windows of `length` over streams; with `block`, shuffled in blocks of so many rows."""
    rows: dict[str, Rows] = {name: Windows(len(s), length, 2, block) for name, s in streams.items()}
    counts = {name: cut.count for name, cut in rows.items()}
    shuffles = {
        name: BlockShuffle(n, block) if block else FullShuffle(n) for name, n in counts.items()
    }
    order = make_order(
        seed,
        shuffles,
        counts,
        [(0, list(weights) if weights else [float(n) for n in counts.values()])],
    )
    sources = [
        TokenSource(name, stream, rows[name], BlockReader(stream, rows[name]) if block else None)
        for name, stream in streams.items()
    ]
    return TrainingData(order, sources, RowShape(length, END, mask, loss_after_end))


class Windows(Concatenated):
    """Windows in blocks of a few rows, not of a megabyte."""

    def __init__(self, tokens: int, length: int, token_bytes: int, block: int) -> None:
        super().__init__(tokens, length, token_bytes)
        object.__setattr__(self, "_rows_in_block", block)

    @property
    def block(self) -> int:
        return self._rows_in_block or super().block


def write_shard(prefix: Path, lengths: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Write documents of these lengths; token i of the shard has the id i."""
    with indexed_dataset.ShardWriter(prefix, np.dtype(np.int32)) as writer:
        writer.add(
            np.arange(sum(lengths), dtype=np.int32),
            np.array(lengths, np.int64),
            np.arange(len(lengths)),
        )
        return writer.finish()
