"""Corpora of token ids to measure with: simulated ones of any size, and one of random ids.

Writes token files and the manifests that readers need. A simulated corpus takes no disk space.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
import xxhash

from pipeline.config.run_config import RunConfig
from pipeline.config.shipped_files import PRESETS
from pipeline.config.yaml_files import read_yaml
from pipeline.store.files import write_json
from pipeline.store.layout import DataFolder, tokenizer_report_path
from pipeline.store.records import FileRecord
from pipeline.tokens.indexed_dataset import SUFFIXES, ShardWriter
from pipeline.tokens.shards.shard_table import ROW_BYTES, keep_shard_table

DTYPE = np.dtype(np.uint16)
"""Type of the token ids, which decides the size of the files."""
END_OF_DOCUMENT = 0
"""Token id of the end of a document."""
VOCAB_SIZE = 50_257
"""Number of token ids, as in GPT-2's vocabulary."""
DOCUMENTS_AT_ONCE = 10_000
"""Documents that are drawn at once."""
MOST_DOCUMENT_TOKENS = 1 << 20
"""Maximum length of a random document."""


class DataSettings(TypedDict):
    """The section `data` of a run file, without `mixture`."""

    sequence_length: int
    shuffle: NotRequired[str]
    packing: NotRequired[str]
    document_mask: NotRequired[bool]


SIMULATED_DOCUMENT = 1000
"""Tokens of a document of a simulated corpus."""


def llama_mixture() -> dict[str, float]:
    """Return the weight of each of LLaMA's seven sources."""
    weights = read_yaml(PRESETS / "mixtures" / "llama.yaml")
    return {source: weight for source, weight in weights.items() if isinstance(weight, int | float)}


def write_simulated(data_dir: Path, tokens: int, files: int) -> None:
    """Write sparse token files in LLaMA's proportions, with a manifest as `tokenize` writes it.

    The files take no disk space. Only the `.bin` files exist: opening a run's data reads no others.
    """
    weights = llama_mixture()
    records: dict[str, FileRecord] = {}
    for source, weight in weights.items():
        share = weight / sum(weights.values())
        count = max(1, round(files * share))
        (DataFolder(data_dir).tokens / source).mkdir(parents=True)
        for number in range(count):
            key = xxhash.xxh3_64_intdigest(f"{source} {number}".encode()) >> 16
            name = f"{source}/train_{key:012x}_000"
            size = round(tokens * share / count * _of_mean(number, count)) * DTYPE.itemsize
            with (DataFolder(data_dir).tokens / f"{name}.bin").open("wb") as file:
                file.truncate(size)
            records |= {f"{name}{suffix}": _invented_record(size, suffix) for suffix in SUFFIXES}
    _write_manifests(data_dir, records, weights)


def _of_mean(number: int, count: int) -> float:
    """Return the size of a file as a multiple of the mean: 0.5 to 1.5, two neighbours make 2."""
    if number == count - 1 and count % 2:
        return 1.0
    spread = xxhash.xxh3_64_intdigest(str(number // 2).encode()) / 2**65
    if number % 2:
        return 1 - spread
    return 1 + spread


def _invented_record(size: int, suffix: str) -> FileRecord:
    """Return a manifest record of a file, as long as a real one."""
    checksum = "0" * 32
    if suffix == ".doc":
        documents = size // DTYPE.itemsize // SIMULATED_DOCUMENT
        return {"bytes": documents * ROW_BYTES, "checksum": checksum}
    return {"bytes": size, "checksum": checksum, "samples": checksum}


def write_random(
    data_dir: Path, tokens: int, mean_document: int, vocab_size: int = VOCAB_SIZE
) -> None:
    """Write one file of random token ids, with documents of exponentially distributed lengths."""
    random = np.random.default_rng(1)
    with ShardWriter(DataFolder(data_dir).tokens / "web" / "train_000000_000", DTYPE) as writer:
        while writer.tokens < tokens:
            # The last document may end after `tokens`, no document begins there.
            drawn = random.exponential(mean_document, DOCUMENTS_AT_ONCE).astype(np.int64) + 2
            lengths = np.minimum(drawn, MOST_DOCUMENT_TOKENS)
            lengths = lengths[np.cumsum(lengths) - lengths < tokens - writer.tokens]
            ids = random.integers(1, vocab_size, lengths.sum(), DTYPE.type)
            ids[np.cumsum(lengths) - 1] = END_OF_DOCUMENT
            writer.add(ids, lengths, writer.documents + np.arange(len(lengths)))
        files = {
            f"web/train_000000_000{suffix}": record for suffix, record in writer.finish().items()
        }
    _write_manifests(data_dir, files, {"web": 1.0}, vocab_size)


def _write_manifests(
    data_dir: Path,
    files: Mapping[str, FileRecord],
    sources: Mapping[str, float],
    vocab_size: int = VOCAB_SIZE,
) -> None:
    counts = {"dtypes": dict.fromkeys(sources, DTYPE.name), "vocab_size": vocab_size}
    data = DataFolder(data_dir)
    write_json(data.tokens_manifest, {"output": "benchmark", "counts": counts, "files": files})
    keep_shard_table(data.tokens)
    report = {"vocab_size": vocab_size, "end_of_document_id": END_OF_DOCUMENT}
    write_json(tokenizer_report_path(data.tokenizer), report)


def make_config(data_dir: Path, mixture: Mapping[str, float], data: DataSettings) -> RunConfig:
    """Return the settings of a run that reads a corpus of this module."""
    return RunConfig.model_validate(
        {
            "paths": {"data_dir": data_dir, "run_dir": data_dir / "run"},
            "sources": {name: {"kind": "jsonl", "paths": [data_dir]} for name in mixture},
            "tokenizer": {"kind": "byte-level-bpe", "vocab_size": VOCAB_SIZE},
            "model": {"architecture": "llama", "config": {}},
            "data": {"mixture": dict(mixture), **data},
            "optimizer": {"peak_learning_rate": 1e-3},
            "schedule": {"warmup_tokens": 0},
            "batch": {"global_batch_tokens": data["sequence_length"], "micro_batch_sequences": 1},
            "train": {"train_tokens": 1},
            "executor": {"workers": 1},
            "deepspeed": data_dir,
        }
    )
