"""The stage `tokenize`: encode data_dir/documents to data_dir/tokens.

Each Parquet shard becomes one Megatron indexed dataset. Ids that exist already are linked instead
(`existing.py`). The tokenizer is also measured on the corpus, for the report
(`tokenizer_report.py`).

gigatoken encodes if it gave the ids of the reference when the tokenizer was made. A piece of every
row group is compared again: a shard with one difference is encoded by the reference, and counted
in the manifest.
"""

from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import xxhash

from pipeline.config.run_config import RunConfig
from pipeline.corpus.documents import (
    SHARD_SUFFIX,
    SPLITS,
    check_files,
    naming_damaged_shard,
    shard_footer,
    shard_records,
)
from pipeline.corpus.selecting.kept_documents import KeptDocuments, KeptTexts, kept_documents
from pipeline.logs import human_bytes, warn
from pipeline.store import versions
from pipeline.store.artifacts import Result, read_manifest
from pipeline.store.counts import PrepareCounts, TokenCounts, TokenizeCounts, TokenizerCounts
from pipeline.store.files import fingerprint, output_digest, remove_unlisted
from pipeline.store.layout import data_folder
from pipeline.store.manifests.shard_places import logical_name, source_of
from pipeline.store.records import FileRecord, ListedFile, Manifest
from pipeline.tokens import existing, indexed_dataset
from pipeline.tokens.encode import Encoder, EncoderKind, load_encoder, why_reference
from pipeline.tokens.existing import LinkedPair
from pipeline.tokens.existing_pairs import find_pairs
from pipeline.tokens.shards.shard_table import make_shard_table, write_shard_table
from pipeline.tokens.tokenizer_report import keep_measurements
from pipeline.work.executor import run_tasks
from pipeline.work.placed_outputs import placed_files, settle_outputs
from pipeline.work.task import Task, report_progress
from pipeline.work.threads import map_ahead
from pipeline.work.workers import workers

OUTPUTS = tuple(
    f"{folder}/*{suffix}" for folder in ("*", "*/??") for suffix in indexed_dataset.SUFFIXES
)
"""Files that the stage writes, in the folder of a source or a part of it."""
LEFTOVERS = ("*/.*.partial", "*/??/.*.partial")
"""Files that a killed attempt may leave."""
COMPARED_BYTES = 2000
"""Bytes of every row group (8 MiB of text) that are compared; the reference takes a millisecond."""


def tokenize(config: RunConfig) -> Result[TokenizeCounts]:
    """Encode every documents shard that is not encoded yet, and link the pairs that exist already.

    Raises DataError, after all shards, naming each existing pair that cannot be trained on.
    """
    # Read the output of earlier stages.
    data = data_folder(config)
    written: Manifest[PrepareCounts] | None = read_manifest(data.documents_manifest)
    learned: Manifest[TokenizerCounts] | None = read_manifest(data.tokenizer_manifest)
    assert written is not None and learned is not None, "run_stage checks the inputs"
    shards = shard_records(written["files"])
    check_files(data.documents, shards)

    # One task for each documents shard, and one for each existing pair.
    pairs = find_pairs(config)
    tasks: list[Task] = []
    if shards:
        tasks += _shard_tasks(config, shards, learned["output"])
    tasks += existing.pair_tasks(pairs, data.tokens, learned["counts"])

    # From here on the older tokens are no longer complete.
    data.tokens_manifest.unlink(missing_ok=True)
    settle_outputs(data.tokens, tasks, indexed_dataset.SUFFIXES)
    with workers(config.executor) as crew:
        results: dict[str, EncodedShard | LinkedPair] = run_tasks(
            tasks, data.tokens, crew, "tokenize"
        )

    # Some mistakes show only in all results together.
    vocab_size = learned["counts"]["vocab_size"]
    own_dtype = indexed_dataset.token_dtype(vocab_size).name
    linked = {name: result for name, result in results.items() if "dtype" in result}
    dtypes = dict.fromkeys(config.sources, own_dtype)
    dtypes |= existing.types_of_sources(pairs, linked, learned["counts"])
    keep_measurements(config)
    files = placed_files(tasks, {name: result["files"] for name, result in results.items()})
    result = _collect(results, files, dtypes, vocab_size)

    # Delete files of earlier settings and of interrupted tasks.
    remove_unlisted(data.tokens, list(result.files), [*OUTPUTS, *LEFTOVERS])

    # What ranks read instead of the manifest, which comes last.
    output = output_digest(result.files)
    write_shard_table(data.tokens, make_shard_table(output, dtypes, result.files, data.tokens))
    return result


class EncodedShard(TokenCounts):
    """Result of the task of one shard of documents."""

    encoder: Literal["gigatoken", "reference"]
    files: dict[str, FileRecord]
    """Logical name of a file (`store/manifests/shard_places.py`) -> size and checksum."""


def _shard_tasks(
    config: RunConfig, shards: Mapping[str, ListedFile], tokenizer_output: str
) -> list[Task]:
    """Return a task for each documents shard.

    `tokenizer_output`: hash of the tokenizer's files.
    """
    # gigatoken encodes only where it was compared with the reference.
    data = data_folder(config)
    kind = config.tokens.encoder
    if kind == "auto":
        reason = why_reference(data.tokenizer, config.tokens.parse_special_tokens)
        if reason is not None:
            kind = "reference"
            warn(f"tokenize: the reference encodes, at a tenth of the speed or less: {reason}")

    # What is read of a shard, the verdicts on its documents included, decides its tokens.
    documents = kept_documents(config)
    contents = documents.contents()
    tasks: list[Task] = []
    for name, record in shards.items():
        stem = logical_name(name).removesuffix(SHARD_SUFFIX)
        arguments = {
            "documents": documents,
            "folder": data.tokens,
            # Tokens lie as documents do.
            "name": name.removesuffix(SHARD_SUFFIX),
            "tokenizer": data.tokenizer,
            "encoder_kind": kind,
            "parse_special_tokens": config.tokens.parse_special_tokens,
        }
        key = fingerprint(
            [versions.TOKENIZE, contents[name], tokenizer_output, config.tokens.model_dump()]
        )
        tasks.append(
            Task(
                stem.replace("/", "~"),
                tokenize_shard,
                arguments,
                key,
                record["bytes"],
                outputs_in_parts=name != logical_name(name),
            )
        )
    return tasks


def tokenize_shard(
    documents: KeptDocuments,
    folder: Path,
    name: str,
    tokenizer: Path,
    encoder_kind: EncoderKind,
    parse_special_tokens: bool,
) -> EncodedShard:
    """Encode what is read of one Parquet shard to `folder/name`.bin, .idx and .doc.

    `folder`: the stage's. `name`: path of the shard below the documents, without its suffix.
    """
    shard = documents.folder / f"{name}{SHARD_SUFFIX}"
    prefix = folder / name
    encoder = load_encoder(tokenizer, encoder_kind, parse_special_tokens)
    with naming_damaged_shard(shard):
        result = None
        if encoder.has_fast:
            result = write_shard(documents, shard, prefix, encoder, fast=True)
        if result is None:
            result = write_shard(documents, shard, prefix, encoder, fast=False)
    assert result is not None, "the reference agrees with itself"
    files = {f"{source_of(name)}/{file}": record for file, record in result["files"].items()}
    return {**result, "files": files}


def write_shard(
    documents: KeptDocuments, shard: Path, prefix: Path, encoder: Encoder, fast: bool
) -> EncodedShard | None:
    """Write the shard's tokens; return None, and leave no file, where gigatoken gives other ids.

    The result lists the files by their names alone.
    """
    # Encode row groups ahead of writing them.
    groups = shard_footer(shard).num_row_groups
    dtype = indexed_dataset.token_dtype(encoder.vocab_size)
    text_bytes = 0
    with indexed_dataset.ShardWriter(prefix, dtype) as writer:
        texts = partial(documents.texts_of_group, shard)
        encoded = map_ahead(
            lambda group: _encode_group(texts(group), group, encoder, fast), range(groups)
        )
        for group, part in enumerate(encoded, 1):
            if part is None:
                return None
            writer.add(part.ids, part.lengths, part.rows)
            text_bytes += part.text_bytes
            report_progress(
                group / groups,
                documents=writer.documents,
                tokens=writer.tokens,
                text_bytes=text_bytes,
            )
        files = writer.finish()

    # Describe what was written.
    result: EncodedShard = {
        "documents": writer.documents,
        "tokens": writer.tokens,
        "text_bytes": text_bytes,
        "encoder": "reference",
        "files": {f"{prefix.name}{suffix}": record for suffix, record in files.items()},
    }
    if fast:
        result["encoder"] = "gigatoken"
    return result


class _EncodedGroup(NamedTuple):
    """The documents of a row group that are read, as ids."""

    ids: np.ndarray
    """Ids of all documents, `(tokens,)`."""
    lengths: np.ndarray
    """Length of each document in tokens, `(documents,)`."""
    rows: np.ndarray
    """Row of each document in the shard, `(documents,)`."""
    text_bytes: int


def _encode_group(
    kept: KeptTexts, group: int, encoder: Encoder, fast: bool
) -> _EncodedGroup | None:
    """Encode one row group; return None where the encoders differ on a piece of it."""
    texts = kept.texts
    text_bytes = sum(map(len, texts))
    if not texts:
        return _EncodedGroup(np.zeros(0, np.uint32), np.zeros(0, np.int64), kept.rows, 0)
    if not fast:
        return _EncodedGroup(*encoder.encode_reference(texts), kept.rows, text_bytes)
    try:
        ids, lengths = encoder.encode_fast(texts)
    except Exception:  # whatever gigatoken cannot encode, the reference encodes
        return None
    if encoder.count_differences([_piece(texts, group)]):
        return None
    return _EncodedGroup(ids, lengths, kept.rows, text_bytes)


def _piece(texts: list[memoryview], seed: int) -> str:
    """Return a piece of one of the texts, chosen by the hash of `seed`."""
    draw = xxhash.xxh3_64_intdigest(seed.to_bytes(8, "little"))
    text = texts[draw % len(texts)]
    start = (draw >> 20) % max(1, len(text) - COMPARED_BYTES)
    return bytes(text[start : start + COMPARED_BYTES]).decode(errors="ignore")


def _collect(
    results: Mapping[str, EncodedShard | LinkedPair],
    files: Mapping[str, ListedFile],
    dtypes: dict[str, str],
    vocab_size: int,
) -> Result[TokenizeCounts]:
    """Add up the results of all tasks, by source and split. `files`: all that the tasks have written."""
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

    # Describe the stage for its manifest and its last lines.
    counted: TokenizeCounts = {
        "headline": _headline(sources),
        "dtypes": dtypes,
        "vocab_size": vocab_size,
        "sources": sources,
        "encoders": dict(encoders),
    }
    closing: list[str] = []
    slow = encoders["reference"]
    if slow:
        closing.append(f"{slow:,} of {len(results):,} shards were encoded by the slow reference")
    return Result(counted, files, closing=closing)


def _headline(sources: Mapping[str, Mapping[str, TokenCounts]]) -> str:
    """Return the line that the stage ends with."""
    counts = [split for source in sources.values() for split in source.values()]
    documents = sum(count["documents"] for count in counts)
    tokens = sum(count["tokens"] for count in counts)
    text = sum(count["text_bytes"] for count in counts)
    tokens_of_text = sum(count["tokens"] for count in counts if count["text_bytes"])
    line = f"{tokens:,} tokens, {documents:,} documents"
    if text:
        line += f", {human_bytes(text)} of text, {text / tokens_of_text:.2f} bytes a token"
    held_out = [source["validation"] for source in sources.values()]
    line += f"; {sum(count['tokens'] for count in held_out):,} tokens held out"
    line += f" ({sum(count['documents'] for count in held_out):,} documents)"
    if tokens_of_text < tokens:
        line += f"; {tokens - tokens_of_text:,} tokens existed"
    return line
