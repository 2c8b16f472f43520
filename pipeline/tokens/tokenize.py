"""The `tokenize` stage: documents -> data_dir/tokens, one Megatron indexed dataset per Parquet shard.

A shard is encoded by gigatoken after its ids equalled the reference's on a sample of that shard's documents, else by
the reference. Every document is followed by one end-of-document id.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.artifacts import Result, file_record, fingerprint, read_manifest, remove_unlisted
from pipeline.config import RunConfig
from pipeline.executor import Task, run_tasks
from pipeline.logs import human_bytes
from pipeline.tokens import indexed_dataset
from pipeline.tokens.encode import Encoder, Ids, agrees, encode_fast, encode_reference, load_encoder

FORMAT_VERSION = 1
BATCH_ROWS = 1000
"""Rows encoded at once."""


def tokenize(config: RunConfig) -> Result:
    """Encode every documents shard that is not encoded yet."""
    documents, folder = config.paths.data_dir / "documents", config.paths.data_dir / "tokens"
    tokenizer = config.paths.data_dir / "tokenizer"
    written, learned = read_manifest(documents / "manifest.json"), read_manifest(tokenizer / "manifest.json")
    assert written is not None and learned is not None, "run_stage checks the inputs"
    tasks = []
    for name, record in sorted(written["files"].items()):
        arguments = {
            "shard": documents / name,
            "prefix": folder / name.removesuffix(".parquet"),
            "tokenizer": tokenizer,
            "encoder_kind": config.tokens.encoder,
            "parity_documents": config.tokens.parity_documents,
        }
        key = fingerprint([FORMAT_VERSION, record["checksum"], learned["output"], config.tokens.model_dump()])
        tasks.append(
            Task(name.removesuffix(".parquet").replace("/", "~"), tokenize_shard, arguments, key, record["bytes"])
        )
    results = run_tasks(tasks, folder, config.executor.workers, "tokenize", "bytes of Parquet")
    return _collect(config, folder, results)


def tokenize_shard(
    shard: Path, prefix: Path, tokenizer: Path, encoder_kind: Any, parity_documents: int
) -> dict[str, Any]:
    """Encode one Parquet shard into `prefix`.bin, .idx and .doc."""
    encoder = load_encoder(tokenizer, encoder_kind)
    sample = next(_batches(shard, parity_documents), None)
    fast = sample is not None and agrees(encoder, sample)
    text_bytes = 0

    def encoded() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        nonlocal text_bytes
        row = 0
        for texts in _batches(shard, BATCH_ROWS):
            ids, lengths = (encode_fast if fast else encode_reference)(encoder, texts)
            text_bytes += pc.sum(pc.binary_length(texts)).as_py() or 0  # pyright: ignore[reportAttributeAccessIssue]
            yield *_end_documents((ids, lengths), encoder), np.arange(row, row + len(texts), dtype=np.int64)
            row += len(texts)

    written = indexed_dataset.write(prefix, encoded(), indexed_dataset.token_dtype(encoder.vocab_size))
    files = {
        f"{prefix.parent.name}/{prefix.name}{s}": file_record(prefix.with_name(prefix.name + s))
        for s in (".bin", ".idx", ".doc")
    }
    return {**written, "text_bytes": text_bytes, "encoder": "gigatoken" if fast else "reference", "files": files}


def _batches(shard: Path, rows: int) -> Iterator[pa.Array]:
    """Read the text column in order through Hugging Face datasets, as Arrow `large_string` arrays."""
    from datasets import load_dataset

    stream = load_dataset("parquet", data_files=str(shard), split="train", streaming=True, columns=["text"])
    for table in stream.with_format("arrow").iter(batch_size=rows):
        yield table["text"].combine_chunks().cast(pa.large_string())  # pyright: ignore[reportAttributeAccessIssue]


def _end_documents(encoded: Ids, encoder: Encoder) -> Ids:
    """Put the end-of-document id after each document."""
    ids, lengths = encoded
    return np.insert(ids, np.cumsum(lengths), encoder.end_of_document), lengths + 1


def _collect(config: RunConfig, folder: Path, results: dict[str, dict[str, Any]]) -> Result:
    files: dict[str, dict[str, Any]] = {}
    sources: dict[str, dict[str, Counter[str]]] = {
        source: {"train": Counter(), "validation": Counter()} for source in config.sources
    }
    encoders: Counter[str] = Counter()
    for name, result in results.items():
        source, stem = name.split("~")
        counts = {key: result[key] for key in ("documents", "tokens", "text_bytes")}
        sources[source][stem.partition("_")[0]].update(counts)
        encoders[result["encoder"]] += 1
        files |= result["files"]
    remove_unlisted(folder, list(files), [f"*/*{suffix}" for suffix in indexed_dataset.SUFFIXES])
    vocab_size = load_encoder(config.paths.data_dir / "tokenizer", "reference").vocab_size
    tokens = sum(split["tokens"] for source in sources.values() for split in source.values())
    text = sum(split["text_bytes"] for source in sources.values() for split in source.values())
    counts = {
        "headline": f"{tokens:,} tokens, {text / max(tokens, 1):.2f} bytes of text each, {human_bytes(text)} of text",
        "dtype": indexed_dataset.token_dtype(vocab_size).name,
        "vocab_size": vocab_size,
        "sources": {
            source: {split: dict(count) for split, count in splits.items()} for source, splits in sources.items()
        },
        "encoders": dict(encoders),
    }
    return Result(counts, files)
