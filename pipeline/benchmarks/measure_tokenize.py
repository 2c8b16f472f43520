"""Measure one part of the way from text to tokens, alone in a fresh process.

`python -m pipeline.benchmarks.measure_tokenize NAME ARGUMENTS` calls one function of this module;
the arguments are JSON. Prints one line of JSON, the seconds. Each part works in the barest loop
that the libraries allow; its input is in memory before the clock starts. Two functions write files
that other measurements read.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpus.documents import SCHEMA, listed_shards, open_shard, texts_of_group
from pipeline.store.pretrained_folders import TOKENIZER_JSON
from pipeline.tokens import indexed_dataset
from pipeline.tokens.encode import load_encoder

REFERENCE_BYTES = 2_000_000
"""Bytes of each shard that the slow reference encodes."""


def row_groups(documents: Path) -> list[list[pa.Array]]:
    """Return, shard by shard, each row group's text as an Arrow array."""
    shards: list[list[pa.Array]] = []
    for name in listed_shards(documents):
        with open_shard(documents / name) as file:
            groups = range(file.num_row_groups)
            tables = [
                file.read_row_group(group, columns=["text"], use_threads=False) for group in groups
            ]
        shards.append([table["text"].combine_chunks() for table in tables])
    return shards


def texts_by_row_group(documents: Path) -> list[list[list[bytes]]]:
    """Return, shard by shard and row group by row group, the documents."""
    return [
        [group.cast(pa.large_binary()).to_pylist() for group in shard]
        for shard in row_groups(documents)
    ]


def all_texts(documents: Path) -> Iterator[bytes]:
    """Yield all documents in order."""
    for shard in texts_by_row_group(documents):
        for group in shard:
            yield from group


def read_parquet_texts(documents: Path) -> float:
    """Read documents from Parquet into memory, one row group at a time."""
    started = time.perf_counter()
    for name in listed_shards(documents):
        with open_shard(documents / name) as file:
            for group in range(file.num_row_groups):
                texts_of_group(file, group)
    return time.perf_counter() - started


def encode_with_gigatoken(documents: Path, tokenizer: Path, threads: int) -> float:
    """Encode all documents with one call of gigatoken, as its documentation shows it.

    Added tokens are left out.
    """
    arrays = [group for shard in row_groups(documents) for group in shard]
    return _encode_with_gigatoken([pa.concat_arrays(arrays)], tokenizer, threads)


def encode_row_groups_with_gigatoken(documents: Path, tokenizer: Path, threads: int) -> float:
    """Encode one row group at a time with gigatoken: its 8 MiB fit into the processor's cache."""
    arrays = [group for shard in row_groups(documents) for group in shard]
    return _encode_with_gigatoken(arrays, tokenizer, threads)


def _encode_with_gigatoken(arrays: list[pa.Array], tokenizer: Path, threads: int) -> float:
    import awkward
    import gigatoken

    description = json.loads((tokenizer / TOKENIZER_JSON).read_text("utf-8"))
    description["added_tokens"] = []
    fast = gigatoken.Tokenizer.from_json(json.dumps(description))
    batches = [awkward.from_arrow(array) for array in arrays]
    started = time.perf_counter()
    for batch in batches:
        fast.encode_batch(batch, parallel=threads > 1)
    return time.perf_counter() - started


def encode_as_the_stage(documents: Path, tokenizer: Path) -> float:
    """Encode documents in memory as the stage `tokenize` does."""
    encoder = load_encoder(tokenizer, "auto")
    shards = texts_by_row_group(documents)
    started = time.perf_counter()
    for shard in shards:
        for group in shard:
            encoder.encode_fast(group)
    return time.perf_counter() - started


def encode_with_reference(documents: Path, tokenizer: Path) -> float:
    """Encode the first 2 MB of each shard with `tokenizers`; scale the seconds to all the text."""
    encoder = load_encoder(tokenizer, "reference")
    taken: list[bytes] = []
    size = 0
    for shard in texts_by_row_group(documents):
        left = REFERENCE_BYTES
        for document in (document for group in shard for document in group):
            size += len(document)
            if left > 0:
                taken.append(document[:left].decode(errors="ignore").encode())
                left -= len(taken[-1])
    started = time.perf_counter()
    encoder.encode_reference(taken)
    return (time.perf_counter() - started) * size / sum(map(len, taken))


def write_token_ids(documents: Path, tokenizer: Path, folder: Path) -> float:
    """Write the token ids of all documents to a folder, and remove them again."""
    encoder = load_encoder(tokenizer, "auto")
    dtype = indexed_dataset.token_dtype(encoder.vocab_size)
    shards = [
        [encoder.encode_fast(group) for group in shard] for shard in texts_by_row_group(documents)
    ]
    seconds = 0.0
    for number, shard in enumerate(shards):
        prefix = folder / f".benchmark-{number}"
        started = time.perf_counter()
        with indexed_dataset.ShardWriter(prefix, dtype) as writer:
            for ids, lengths in shard:
                writer.add(ids, lengths, np.arange(len(lengths)))
            writer.finish()
        seconds += time.perf_counter() - started
        for suffix in indexed_dataset.SUFFIXES:
            prefix.with_name(prefix.name + suffix).unlink()
    return seconds


def write_json_lines(documents: Path, output: Path) -> float:
    """Write all documents as JSON lines, which Megatron-LM reads."""
    started = time.perf_counter()
    with output.open("wb") as file:
        for document in all_texts(documents):
            file.write(orjson.dumps({"text": document.decode()}) + b"\n")
    return time.perf_counter() - started


def write_large_document(documents: Path, output: Path, size: int) -> float:
    """Write a Parquet shard that holds one document of `size` bytes, made of the others."""
    started = time.perf_counter()
    whole = b"\n".join(all_texts(documents))
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


MEASUREMENTS: dict[str, Callable[..., float]] = {
    function.__name__: function
    for function in (
        read_parquet_texts,
        encode_with_gigatoken,
        encode_row_groups_with_gigatoken,
        encode_as_the_stage,
        encode_with_reference,
        write_token_ids,
        write_json_lines,
        write_large_document,
    )
}
"""Name on the command line -> function."""


def main() -> None:
    """Call the named function, every text in the arguments being a path; print its seconds."""
    arguments = json.loads(sys.argv[2])
    for name, argument in arguments.items():
        if isinstance(argument, str):
            arguments[name] = Path(argument)
    print(json.dumps({"seconds": MEASUREMENTS[sys.argv[1]](**arguments)}))


if __name__ == "__main__":
    main()
