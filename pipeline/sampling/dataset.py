"""All that a run reads, opened from its config: the order of its samples, and where each one lies.

Reads the manifests of `data_dir/tokens`, the tokenizer's report and, with `data.packing: best-fit`,
its index.
"""

import math
from collections.abc import Mapping
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path

from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError, DataError
from pipeline.sampling.batches import RowShape, TokenSource
from pipeline.sampling.blocks import BlockReader
from pipeline.sampling.loader import TrainingData
from pipeline.sampling.order import make_order
from pipeline.sampling.pack import read_packing, rows_path
from pipeline.sampling.rows import Concatenated, Packed, Rows
from pipeline.sampling.shuffle import BlockShuffle, FullShuffle, Shuffle
from pipeline.sampling.stream import OpenFiles, RecordedTokens, TokenStream, open_streams
from pipeline.store.files import read_json
from pipeline.store.layout import data_folder, tokenizer_report_path
from pipeline.tokens.indexed_dataset import with_suffix


def open_data(
    config: RunConfig, files: OpenFiles | None = None, recorded: RecordedTokens | None = None
) -> TrainingData:
    """Open a run's training data, all that data_dir has or what the run has recorded; files are
    opened when they are read.

    Raises ConfigError for a source that has weight and no tokens; DataError where tokens or their
    index are missing.
    """
    streams = open_streams(
        data_folder(config).tokens, list(config.sources), "train", files, recorded
    )
    rows = cut_into_rows(config, streams)
    counts = {name: cut.count for name, cut in rows.items()}
    order = make_order(
        config.train.seed,
        {name: make_shuffle(config, cut) for name, cut in rows.items()},
        counts,
        phase_weights(config, counts),
    )
    block = config.data.shuffle == "block"
    sources = [
        TokenSource(name, stream, rows[name], BlockReader(stream, rows[name]) if block else None)
        for name, stream in streams.items()
    ]
    return TrainingData(order, sources, make_shape(config))


def cut_into_rows(config: RunConfig, streams: Mapping[str, TokenStream]) -> dict[str, Rows]:
    """Return how each source's stream is cut into rows. Raises DataError where the text is not
    packed."""
    data = config.data
    if data.packing == "concatenate":
        return {
            name: Concatenated(len(s), data.sequence_length, s.dtype.itemsize)
            for name, s in streams.items()
        }
    tokens = data_folder(config).tokens
    folder = data_folder(config).packing(data.sequence_length)
    packing = read_packing(config)
    if packing is None or not streams.keys() <= packing["sources"].keys():
        raise DataError(
            f"{folder}: the text is not packed for these sources. Run `pipeline pack` with this "
            "run file."
        )
    rows: dict[str, Rows] = {}
    for name, stream in streams.items():
        shards = packing["sources"][name]["shards"]
        files = [
            (with_suffix(tokens / name / shard, ".bin"), rows_path(folder, name, shard), count)
            for shard, count in shards
        ]
        of_stream = set(
            stream.paths
        )  # text may have been added, and packed, since the run recorded its own
        rows[name] = Packed(
            stream, data.sequence_length, [file for file in files if file[0] in of_stream]
        )
    return rows


def make_shuffle(config: RunConfig, rows: Rows) -> Shuffle:
    """Return how the rows of a source are permuted in each epoch."""
    return (
        BlockShuffle(rows.count, rows.block)
        if config.data.shuffle == "block"
        else FullShuffle(rows.count)
    )


def make_shape(config: RunConfig) -> RowShape:
    """Return what the rows of a run look like. Raises DataError where there is no tokenizer."""
    data, (_, end) = config.data, tokenizer_size(data_folder(config).tokenizer)
    return RowShape(data.sequence_length, end, data.document_mask, data.loss_after_end_of_document)


def tokenizer_size(folder: Path) -> tuple[int, int]:
    """Return the number of ids and the end-of-document id that `train-tokenizer` reported."""
    report = read_json(tokenizer_report_path(folder))
    if report is None:
        raise DataError(f"{folder}: holds no tokenizer. Run `pipeline train-tokenizer` first.")
    return report["vocab_size"], report["end_of_document_id"]


def phase_weights(config: RunConfig, rows: Mapping[str, int]) -> list[tuple[int, list[float]]]:
    """Return the run's phases: the first sample of each, and the weight of every source in it.

    Raises ConfigError for a source that has weight and no rows, in whichever phase, and where none
    has any.
    """
    problems = []
    phases = []
    for progress, where, part in config.proportions:
        weights = part.weights(rows)
        setting = f"{where}.{'epochs' if part.epochs is not None else 'mixture'}"
        problems += [
            f"{setting}.{name}: its training text has no token to predict; add text, or set it to 0"
            for name, weight in (part.epochs or part.mixture or {}).items()
            if weight > 0 and rows[name] == 0
        ]
        if not any(weights.values()):
            problems.append(f"{setting}: none of its sources has a token to predict; add text")
        phases.append((_first_sample(config, progress), [weights[name] for name in rows]))
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return [
        phase
        for phase, following in zip_longest(phases, phases[1:])
        if following is None or phase[0] < following[0]
    ]


def phase_starts(config: RunConfig) -> list[int]:
    """Return the first sample of every part of the run that has proportions of its own."""
    return [_first_sample(config, progress) for progress, _, _ in config.proportions]


def _first_sample(config: RunConfig, progress: float) -> int:
    return math.ceil(Fraction(str(progress)) * config.total_samples)
