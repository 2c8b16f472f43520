"""What a run will read, printed before it trains: tokens, epochs, cut documents and padding.

Reads the manifests of the tokens and the packing, and the documents' lengths of some shards.
"""

from collections.abc import Sequence

import numpy as np

from pipeline.config.run_config import RunConfig
from pipeline.logs import note, warn
from pipeline.sampling.dataset import open_data
from pipeline.sampling.loader import TrainingData
from pipeline.sampling.pack import PackingManifest, read_packing
from pipeline.sampling.rows import EvenlySpread
from pipeline.sampling.stream import TokenStream
from pipeline.store.counts import DataOutlook, SourceOutlook
from pipeline.tokens import indexed_dataset

MOST_EPOCHS = 4
"""Repeating data up to about four times is almost as good as new data; after that, more and more is
lost. Source: Muennighoff et al. 2023, "Scaling data-constrained language models",
arXiv:2305.16264."""
COUNTED_SHARDS = 64
"""Shards of a source, spread evenly, from which the share of cut documents is estimated."""


def _percentage(share: float | None) -> str:
    if share is None:
        return "-"
    return f"{share:.1%}"


def look_ahead(config: RunConfig) -> DataOutlook:
    """Print what the run will read of each source, and return it as JSON values.

    Raises ConfigError and DataError as `open_data` does.
    """
    data = open_data(config)
    packing: PackingManifest | None = None
    if config.data.packs_documents:
        packing = read_packing(config)
    sources = _outlook(config, data, packing)
    _print_outlook(config, sources)
    return {"packing": config.data.packing, "sources": sources}


def _outlook(
    config: RunConfig, data: TrainingData, packing: PackingManifest | None
) -> dict[str, SourceOutlook]:
    """Return what the run will read of each source, by name."""
    total = config.total_samples
    length = config.data.sequence_length
    before = data.order.samples_before(total)
    epochs = data.order.epochs(total)
    outlook: dict[str, SourceOutlook] = {}
    for index, source in enumerate(data.sources):
        rows = source.rows.count
        tokens = len(source.stream)
        if isinstance(source.rows, EvenlySpread):
            tokens = source.rows.tokens + 1
        # Packing counted what it cut and padded; windows are counted here.
        if packing is None:
            cut = _cut_share(source.stream, length)
            padded = rows * length - max(0, tokens - 1)
        else:
            counts = packing["sources"][source.name]
            cut = _share(counts["cut_documents"], counts["documents"])
            padded = counts["padding_positions"]
        samples = int(before[index])
        padding = _share(padded, rows * length) or 0.0
        outlook[source.name] = {
            "tokens": tokens,
            "rows": rows,
            "samples": samples,
            "epochs": epochs[source.name],
            "share": samples / total,
            "cut_documents": cut,
            "padding": padding,
        }
    return outlook


def _share(part: int, whole: int) -> float | None:
    """Return `part / whole`, None where the whole is 0."""
    if whole == 0:
        return None
    return part / whole


def _cut_share(stream: TokenStream, length: int) -> float | None:
    """Return the share of documents that a boundary between windows cuts.

    Counts at most COUNTED_SHARDS shards. None where they hold no document.
    """
    shards = len(stream.paths)
    counted = min(shards, COUNTED_SHARDS)
    cut = 0
    documents = 0
    for shard in (i * shards // counted for i in range(counted)):
        lengths = indexed_dataset.read(stream.paths[shard].with_suffix("")).document_lengths()
        ends = int(stream.starts[shard]) + np.cumsum(lengths)
        holds_tokens = lengths > 0
        lengths = lengths[holds_tokens]
        ends = ends[holds_tokens]
        cut += int(((ends - lengths) // length != (ends - 1) // length).sum())
        documents += len(lengths)
    return _share(cut, documents)


def _print_outlook(config: RunConfig, sources: dict[str, SourceOutlook]) -> None:
    """Print a table of the sources, and a warning for each source that is repeated too often."""
    # The table, with columns as wide as their widest cell.
    rows: list[Sequence[str]] = [
        ("source", "tokens", "share of run", "epochs", "cut documents", "padding")
    ]
    rows += [
        (
            name,
            f"{seen['tokens']:,}",
            f"{100 * seen['share']:.3g}%",
            f"{seen['epochs']:.2f}",
            _percentage(seen["cut_documents"]),
            f"{seen['padding']:.2%}",
        )
        for name, seen in sources.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    note(
        f"train: {config.total_samples:,} sequences of {config.data.sequence_length:,} tokens "
        f"({config.data.packing}, {config.data.shuffle} shuffle)"
    )
    sizes = [f"{steps:,} of {tokens:,} tokens" for steps, tokens in config.step_plan.sizes()]
    if len(sizes) > 1:
        note(f"  steps: {', then '.join(sizes)}")
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        note("  " + "  ".join([row[0].ljust(widths[0]), *cells]))
    # Repetition beyond a few epochs teaches little: that is worth a word before the run begins.
    for name, seen in sources.items():
        if seen["epochs"] > MOST_EPOCHS and config.data.small_sample is None:
            warn(
                f"source {name} will be seen {seen['epochs']:.1f} times; beyond {MOST_EPOCHS} epochs "
                "repeated text teaches less and less (Muennighoff et al. 2023). Lower its weight, "
                "or train.train_tokens, or add text."
            )
