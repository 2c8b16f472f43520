"""Opens the training data of a run from its config: the order of samples, and the token files.

Reads the manifests of `data_dir/tokens`, the tokenizer's report and, with `data.packing: best-fit`,
the index of packed rows.
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
from pipeline.sampling.label_noise import LabelNoise
from pipeline.sampling.loader import TrainingData
from pipeline.sampling.order import make_order
from pipeline.sampling.pack import read_packing, rows_path
from pipeline.sampling.rows import Concatenated, EvenlySpread, Packed, Rows
from pipeline.sampling.shuffle import BlockShuffle, FullShuffle, Shuffle
from pipeline.sampling.stream import OpenFiles, RecordedTokens, TokenStream, open_streams
from pipeline.store.files import read_json
from pipeline.store.layout import data_folder, tokenizer_report_path


def open_data(
    config: RunConfig, files: OpenFiles | None = None, recorded: RecordedTokens | None = None
) -> TrainingData:
    """Open a run's training data: all in data_dir, or the files that the run has recorded.

    Token files are opened when they are read. Raises ConfigError for a source that has weight and
    no tokens; DataError where tokens or their index are missing.
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
    sources: list[TokenSource] = []
    for name, stream in streams.items():
        blocks = None
        if config.data.shuffle == "block":
            blocks = BlockReader(stream, rows[name])
        sources.append(TokenSource(name, stream, rows[name], blocks))
    return TrainingData(order, sources, make_shape(config))


def cut_into_rows(config: RunConfig, streams: Mapping[str, TokenStream]) -> dict[str, Rows]:
    """Cut each source's stream into rows. Raises DataError where best-fit finds no index."""
    data = config.data
    if not data.packs_documents:
        # Windows over the stream follow from its length alone.
        windows = {
            name: Concatenated(len(s), data.sequence_length, s.dtype.itemsize)
            for name, s in streams.items()
        }
        if data.small_sample is None:
            return dict(windows)
        at_most = data.small_sample.train_sequences
        return {name: EvenlySpread(whole, at_most) for name, whole in windows.items()}
    # Packed rows need the index that the stage `pack` wrote for every source.
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
        # Text may have been added, and packed, since the run recorded its files.
        of_stream = {path.name.removesuffix(".bin"): path for path in stream.paths}
        files = [
            (
                of_stream[shard],
                rows_path(folder, name, shard, in_parts=of_stream[shard].parent != tokens / name),
                count,
            )
            for shard, count in packing["sources"][name]["shards"]
            if shard in of_stream
        ]
        rows[name] = Packed(stream, data.sequence_length, files)
    return rows


def make_shuffle(config: RunConfig, rows: Rows) -> Shuffle:
    """Return the permutation of a source's rows that `data.shuffle` asks for."""
    if config.data.shuffle == "block":
        return BlockShuffle(rows.count, rows.block)
    return FullShuffle(rows.count)


def make_shape(config: RunConfig) -> RowShape:
    """Return the shape of the run's rows. Raises DataError where there is no tokenizer."""
    data = config.data
    ids, end = tokenizer_size(data_folder(config).tokenizer)
    noise = None
    if data.small_sample is not None and data.small_sample.label_noise:
        noise = LabelNoise(data.small_sample.label_noise, ids, config.train.seed)
    return RowShape(
        data.sequence_length, end, data.document_mask, data.loss_after_end_of_document, noise
    )


def tokenizer_size(folder: Path) -> tuple[int, int]:
    """Return the number of ids and the end-of-document id that `train-tokenizer` reported.

    Raises DataError where the folder holds no tokenizer.
    """
    report = read_json(tokenizer_report_path(folder))
    if report is None:
        raise DataError(f"{folder}: holds no tokenizer. Run `pipeline train-tokenizer` first.")
    return report["vocab_size"], report["end_of_document_id"]


def phase_weights(config: RunConfig, rows: Mapping[str, int]) -> list[tuple[int, list[float]]]:
    """Return, for each phase of the run, its first sample and the weight of each source.

    `rows`: number of rows of each source. Phases without samples are left out. Raises ConfigError
    if a source without rows has a number above 0 in some phase, and if all weights of a phase are 0.
    """
    # Every phase is checked, so that all problems are reported at once.
    problems: list[str] = []
    phases: list[tuple[int, list[float]]] = []
    for progress, where, part in config.proportions:
        weights = part.weights(rows)
        # Without numbers in the run file, `mixture` is what a user would set.
        setting = f"{where}.mixture"
        for rule, numbers in part.stated.items():
            setting = f"{where}.{rule}"
            problems += [
                f"{setting}.{name}: its training text has no token to predict; add text, or set it "
                "to 0"
                for name, number in numbers.items()
                if number > 0 and rows[name] == 0
            ]
        if not any(weights.values()):
            problems.append(
                f"{setting}: no source of this mixture has training text with a token to predict; "
                "add text to a source"
            )
        phases.append((_first_sample(config, progress), [weights[name] for name in rows]))
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    # A phase that begins where the next one does has no samples.
    return [
        phase
        for phase, following in zip_longest(phases, phases[1:])
        if following is None or phase[0] < following[0]
    ]


def phase_starts(config: RunConfig) -> list[int]:
    """Return the first sample of every phase of the run, empty phases included."""
    return [_first_sample(config, progress) for progress, _, _ in config.proportions]


def _first_sample(config: RunConfig, progress: float) -> int:
    return math.ceil(Fraction(str(progress)) * config.total_samples)
