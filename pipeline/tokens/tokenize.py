"""The `tokenize` stage: documents -> data_dir/tokens, one Megatron indexed dataset per Parquet
shard.

Ids that exist already are linked there instead (`existing.py`). What the tokenizer makes of the
corpus is measured for the report (`tokenizer_report.py`).

gigatoken encodes if it was proven to give the tokenizer's ids when that was made, and a piece of
every row group is compared again: a shard with one difference is encoded by the reference instead,
and the manifest says so.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import xxhash

from pipeline.config.run_config import RunConfig
from pipeline.corpus.documents import (
    SHARD_SUFFIX,
    SPLITS,
    check_files,
    naming_damaged_shard,
    open_shard,
    shard_footer,
    shard_records,
    texts_of_group,
)
from pipeline.logs import human_bytes, warn
from pipeline.store import versions
from pipeline.store.artifacts import Result, read_manifest
from pipeline.store.counts import PrepareCounts, TokenCounts, TokenizeCounts, TokenizerCounts
from pipeline.store.files import fingerprint, remove_unlisted
from pipeline.store.layout import data_folder
from pipeline.store.records import FileRecord, ListedFile, Manifest, content_of
from pipeline.tokens import existing, indexed_dataset
from pipeline.tokens.encode import Encoder, EncoderKind, load_encoder, why_reference
from pipeline.tokens.existing import LinkedPair
from pipeline.tokens.existing_pairs import find_pairs
from pipeline.tokens.tokenizer_report import keep_measurements
from pipeline.work.executor import Task, map_ahead, report_progress, run_tasks

COMPARED_BYTES = 2000
"""Bytes of every row group (8 MiB of text) that are compared: the reference takes a millisecond."""


def tokenize(config: RunConfig) -> Result[TokenizeCounts]:
    """Encode every documents shard that is not encoded yet; link the pairs that exist already.

    Raises DataError, after all shards, naming each existing pair that cannot be trained on.
    """
    # Read what earlier stages left.
    data = data_folder(config)
    documents = data.documents
    folder = data.tokens
    tokenizer = data.tokenizer
    written: Manifest[PrepareCounts] | None = read_manifest(data.documents_manifest)
    learned: Manifest[TokenizerCounts] | None = read_manifest(data.tokenizer_manifest)
    assert written is not None and learned is not None, "run_stage checks the inputs"
    shards = shard_records(written["files"])
    check_files(documents, shards)

    # Find existing pairs, and decide which encoder may encode.
    pairs = find_pairs(config)
    kind = config.tokens.encoder
    if (
        kind == "auto"
        and shards
        and (reason := why_reference(tokenizer, config.tokens.parse_special_tokens))
    ):
        kind = "reference"
        warn(f"tokenize: the reference encodes, at a tenth of the speed or less: {reason}")

    # One task for each documents shard, and one for each existing pair.
    tasks = []
    for name, record in shards.items():
        arguments = {
            "shard": documents / name,
            "prefix": folder / name.removesuffix(SHARD_SUFFIX),
            "tokenizer": tokenizer,
            "encoder_kind": kind,
            "parse_special_tokens": config.tokens.parse_special_tokens,
        }
        key = fingerprint(
            [versions.TOKENIZE, content_of(record), learned["output"], config.tokens.model_dump()]
        )
        tasks.append(
            Task(
                name.removesuffix(SHARD_SUFFIX).replace("/", "~"),
                tokenize_shard,
                arguments,
                key,
                record["bytes"],
            )
        )
    tasks += existing.pair_tasks(pairs, folder, learned["counts"])

    # Run them, then check what only all results together can show.
    results: dict[str, EncodedShard | LinkedPair] = run_tasks(
        tasks, folder, config.executor, "tokenize"
    )
    own = indexed_dataset.token_dtype(learned["counts"]["vocab_size"]).name
    linked = {name: result for name, result in results.items() if "dtype" in result}
    dtypes = dict.fromkeys(config.sources, own) | existing.settle(pairs, linked, learned["counts"])
    keep_measurements(config)
    return _collect(folder, results, dtypes, learned["counts"]["vocab_size"])


class EncodedShard(TokenCounts):
    """What a task has made of one shard of documents."""

    encoder: Literal["gigatoken", "reference"]
    files: dict[str, FileRecord]
    """Path below the stage's folder -> what the file holds."""


def tokenize_shard(
    shard: Path,
    prefix: Path,
    tokenizer: Path,
    encoder_kind: EncoderKind,
    parse_special_tokens: bool,
) -> EncodedShard:
    """Encode one Parquet shard into `prefix`.bin, .idx and .doc."""
    encoder = load_encoder(tokenizer, encoder_kind, parse_special_tokens)
    with naming_damaged_shard(shard):
        if encoder.has_fast and (result := write_shard(shard, prefix, encoder, fast=True)):
            return result
        result = write_shard(shard, prefix, encoder, fast=False)
    assert result is not None, "the reference agrees with itself"
    return result


def write_shard(shard: Path, prefix: Path, encoder: Encoder, fast: bool) -> EncodedShard | None:
    """Write the shard's tokens; None, and no file, if gigatoken's ids differ from the
    reference's."""
    # Encode row groups ahead of writing; a difference ends it and leaves no file.
    groups = shard_footer(shard).num_row_groups
    text_bytes = 0
    with indexed_dataset.ShardWriter(
        prefix, indexed_dataset.token_dtype(encoder.vocab_size)
    ) as writer:
        encoded = map_ahead(lambda group: _encode_group(shard, group, encoder, fast), range(groups))
        for group, (ids, lengths, size, same) in enumerate(encoded, 1):
            if not same:
                return None
            writer.add(ids, lengths, np.arange(writer.documents, writer.documents + len(lengths)))
            text_bytes += size
            report_progress(
                group / groups,
                documents=writer.documents,
                tokens=writer.tokens,
                text_bytes=text_bytes,
            )
        files = writer.finish()

    # Describe what was written.
    return {
        "documents": writer.documents,
        "tokens": writer.tokens,
        "text_bytes": text_bytes,
        "encoder": "gigatoken" if fast else "reference",
        "files": {
            f"{prefix.parent.name}/{prefix.name}{suffix}": record
            for suffix, record in files.items()
        },
    }


def _encode_group(
    shard: Path, group: int, encoder: Encoder, fast: bool
) -> tuple[np.ndarray, np.ndarray, int, bool]:
    """Return a row group's ids, its documents' lengths, bytes of text, and whether the encoders
    agreed on a piece."""
    with open_shard(shard) as file:
        documents = texts_of_group(file, group)
    if not fast:
        return *encoder.encode_reference(documents), sum(map(len, documents)), True
    try:
        ids, lengths = encoder.encode_fast(documents)
    except Exception:  # whatever it cannot encode, the reference encodes
        return np.zeros(0, np.uint32), np.zeros(0, np.int64), 0, False
    same = encoder.count_differences([_piece(documents, group)]) == 0
    return ids, lengths, sum(map(len, documents)), same


def _piece(texts: list[memoryview], seed: int) -> str:
    """Return a piece of one of the texts: which one depends on where in the shard the texts
    stand."""
    die = xxhash.xxh3_64_intdigest(seed.to_bytes(8, "little"))
    text = texts[die % len(texts)]
    start = (die >> 20) % max(1, len(text) - COMPARED_BYTES)
    return bytes(text[start : start + COMPARED_BYTES]).decode(errors="ignore")


def _collect(
    folder: Path,
    results: Mapping[str, EncodedShard | LinkedPair],
    dtypes: dict[str, str],
    vocab_size: int,
) -> Result[TokenizeCounts]:
    # Add up the shards by source and split.
    files: dict[str, ListedFile] = {}
    sources: dict[str, dict[str, TokenCounts]] = {
        source: {split: {"documents": 0, "tokens": 0, "text_bytes": 0} for split in SPLITS}
        for source in dtypes
    }
    encoders: Counter[str] = Counter()
    for name, result in results.items():
        source, _, stem = name.partition("~")
        counts = sources[source][stem.partition("_")[0]]
        counts["documents"] += result["documents"]
        counts["tokens"] += result["tokens"]
        counts["text_bytes"] += result["text_bytes"]
        encoders[result.get("encoder", "existing pairs")] += 1
        files |= result["files"]

    # Delete what earlier settings left, and say what the manifest says.
    remove_unlisted(
        folder,
        list(files),
        [f"*/*{suffix}" for suffix in indexed_dataset.SUFFIXES] + ["*/.*.partial"],
    )
    made: TokenizeCounts = {
        "headline": _headline(sources),
        "dtypes": dtypes,
        "vocab_size": vocab_size,
        "sources": sources,
        "encoders": dict(encoders),
    }
    slow = encoders["reference"]
    closing = (
        [f"{slow:,} of {len(results):,} shards were encoded by the slow reference"] if slow else []
    )
    return Result(made, files, closing=closing)


def _headline(sources: Mapping[str, Mapping[str, TokenCounts]]) -> str:
    counts = [split for source in sources.values() for split in source.values()]
    documents = sum(count["documents"] for count in counts)
    tokens = sum(count["tokens"] for count in counts)
    text = sum(count["text_bytes"] for count in counts)
    of_text = sum(count["tokens"] for count in counts if count["text_bytes"])
    shown = f"{tokens:,} tokens, {documents:,} documents"
    if text:
        shown += f", {human_bytes(text)} of text, {text / of_text:.2f} bytes a token"
    held_out = [source["validation"] for source in sources.values()]
    shown += f"; {sum(count['tokens'] for count in held_out):,} tokens held out"
    shown += f" ({sum(count['documents'] for count in held_out):,} documents)"
    return shown + (f"; {tokens - of_text:,} tokens existed" if of_text < tokens else "")
