"""Measure one part of the way from text to tokens, alone in a fresh process.

`python -m pipeline.benchmarks.tokenize_parts PART DOCUMENTS TOKENIZER THREADS`. Prints one line of
JSON. Each part works in the barest loop that the libraries allow; its input is in memory before the
clock starts.
"""

import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpus.documents import listed_shards, open_shard, texts_of_group
from pipeline.store.pretrained_folders import TOKENIZER_JSON
from pipeline.tokens import indexed_dataset
from pipeline.tokens.encode import load_encoder


def row_groups(documents: Path) -> list[list[pa.Array]]:
    """Return, shard by shard, each row group's text as an Arrow array."""
    shards = []
    for name in listed_shards(documents):
        with open_shard(documents / name) as file:
            groups = range(file.num_row_groups)
            tables = [
                file.read_row_group(group, columns=["text"], use_threads=False) for group in groups
            ]
        shards.append([table["text"].combine_chunks() for table in tables])
    return shards


def texts(documents: Path) -> list[list[list[bytes]]]:
    """Return, shard by shard and row group by row group, the documents."""
    return [
        [group.cast(pa.large_binary()).to_pylist() for group in shard]
        for shard in row_groups(documents)
    ]


def read_parquet(documents: Path, tokenizer: Path, threads: int) -> float:
    """Read documents from Parquet into memory, one row group at a time."""
    started = time.perf_counter()
    for name in listed_shards(documents):
        with open_shard(documents / name) as file:
            for group in range(file.num_row_groups):
                texts_of_group(file, group)
    return time.perf_counter() - started


def gigatoken(documents: Path, tokenizer: Path, threads: int, by_row_group: bool = False) -> float:
    """Encode all documents with one call of gigatoken, as its documentation shows it.

    Added tokens are left out.
    """
    import awkward
    import gigatoken

    description = json.loads((tokenizer / TOKENIZER_JSON).read_text("utf-8"))
    description["added_tokens"] = []
    fast = gigatoken.Tokenizer.from_json(json.dumps(description))
    arrays = [group for shard in row_groups(documents) for group in shard]
    arrays = [
        awkward.from_arrow(array)
        for array in (arrays if by_row_group else [pa.concat_arrays(arrays)])
    ]
    started = time.perf_counter()
    for array in arrays:
        fast.encode_batch(array, parallel=threads > 1)
    return time.perf_counter() - started


def gigatoken_by_row_group(documents: Path, tokenizer: Path, threads: int) -> float:
    """Encode one row group at a time with gigatoken: 8 MiB stay in the processor's cache."""
    return gigatoken(documents, tokenizer, threads, by_row_group=True)


def encode(documents: Path, tokenizer: Path, threads: int) -> float:
    """Encode documents in memory as the stage does."""
    encoder = load_encoder(tokenizer, "auto")
    shards = texts(documents)
    started = time.perf_counter()
    for shard in shards:
        for group in shard:
            encoder.encode_fast(group)
    return time.perf_counter() - started


def reference(documents: Path, tokenizer: Path, threads: int) -> float:
    """Encode the first 2 MB of each shard with `tokenizers`; scale the seconds to all the text."""
    encoder = load_encoder(tokenizer, "reference")
    taken: list[bytes] = []
    size = 0
    for shard in texts(documents):
        left = 2_000_000
        for document in (document for group in shard for document in group):
            size += len(document)
            if left > 0:
                taken.append(document[:left].decode(errors="ignore").encode())
                left -= len(taken[-1])
    started = time.perf_counter()
    encoder.encode_reference(taken)
    return (time.perf_counter() - started) * size / sum(map(len, taken))


def write(documents: Path, tokenizer: Path, threads: int) -> float:
    """Write the token ids of all documents next to their folder, and remove them again."""
    encoder = load_encoder(tokenizer, "auto")
    shards = [[encoder.encode_fast(group) for group in shard] for shard in texts(documents)]
    seconds = 0.0
    for number, shard in enumerate(shards):
        prefix = documents.parent / f".benchmark-{number}"
        started = time.perf_counter()
        with indexed_dataset.ShardWriter(
            prefix, indexed_dataset.token_dtype(encoder.vocab_size)
        ) as writer:
            for ids, lengths in shard:
                writer.add(ids, lengths, np.arange(len(lengths)))
            writer.finish()
        seconds += time.perf_counter() - started
        for suffix in indexed_dataset.SUFFIXES:
            prefix.with_name(prefix.name + suffix).unlink()
    return seconds


def raw(documents: Path, tokenizer: Path, threads: int) -> float:
    """Convert raw `.jsonl` or `.jsonl.zst` files to Parquet without any check.

    `documents` is a text file that lists the raw files, one path a line.
    """
    import orjson
    import zstandard

    started = time.perf_counter()
    for path in map(Path, documents.read_text().splitlines()):
        content = path.read_bytes()
        if path.suffix == ".zst":
            content = (
                zstandard.ZstdDecompressor()
                .stream_reader(io.BytesIO(content), read_across_frames=True)
                .read()
            )
        rows = [orjson.loads(line) for line in content.splitlines()]
        meta = pa.array([orjson.dumps(row.get("meta")) for row in rows], pa.binary())
        table = pa.table(
            {"text": pa.array([row["text"] for row in rows], pa.large_string()), "meta": meta}
        )
        pq.write_table(
            table, io.BytesIO(), compression="zstd", use_dictionary=False, write_statistics=False
        )
    return time.perf_counter() - started


def lines(documents: Path, output: Path, threads: int) -> float:
    """Write all documents as JSON lines, which Megatron-LM reads."""
    import orjson

    started = time.perf_counter()
    with output.open("wb") as file:
        for shard in texts(documents):
            for document in (document for group in shard for document in group):
                file.write(orjson.dumps({"text": document.decode()}) + b"\n")
    return time.perf_counter() - started


def large(documents: Path, output: Path, size: int) -> float:
    """Write a Parquet shard that holds one document of `size` bytes, made of the others."""
    from pipeline.corpus.documents import SCHEMA

    started = time.perf_counter()
    whole = b"\n".join(
        document for shard in texts(documents) for group in shard for document in group
    )
    text = (whole * (size // len(whole) + 1))[:size].decode(errors="ignore")
    columns = [["large/train_large_000/0"], [text], ["{}"], ["large"], [0]]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    pq.write_table(
        pa.Table.from_arrays(arrays, schema=SCHEMA),
        output,
        compression="zstd",
        use_dictionary=False,
    )
    return time.perf_counter() - started


PARTS: dict[str, Callable[[Path, Path, int], float]] = {
    part.__name__: part
    for part in (
        read_parquet,
        gigatoken,
        gigatoken_by_row_group,
        encode,
        reference,
        write,
        raw,
        lines,
        large,
    )
}


def main() -> None:
    """Run one part and print its seconds."""
    part = sys.argv[1]
    documents = Path(sys.argv[2])
    tokenizer = Path(sys.argv[3])
    threads = int(sys.argv[4])
    print(json.dumps({"seconds": PARTS[part](documents, tokenizer, threads)}))


if __name__ == "__main__":
    main()
