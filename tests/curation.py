"""Documents and annotations for tests of `select`, written by hand."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import xxhash
from helpers import list_documents

from pipeline.corpus.annotating.annotation_file import AnnotationWriter
from pipeline.corpus.documents import ShardWriter, document_shard
from pipeline.corpus.near_duplicates.repeated_paragraphs import PARAGRAPHS
from pipeline.store.files import file_record, read_json, write_json

SPAN = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("kind", pa.string())])
LINE = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("score", pa.float64())])
ROWS_OF_GROUP = 2
"""Rows of a row group of annotations: few, so that most shards have several."""
TYPES = {
    "pii": pa.list_(pa.field("element", SPAN)),
    "rps_lines_start_with_bulletpoint": pa.list_(pa.field("element", LINE)),
    "language": pa.string(),
    "published_duplicate": pa.bool_(),
    PARAGRAPHS.name: PARAGRAPHS.type,
}


def write_corpus(
    data_dir: Path,
    source: str,
    texts: Sequence[str],
    split: str = "train",
    columns: Mapping[str, Sequence] | None = None,
    metas: Sequence[Mapping] | None = None,
    documents_per_shard: int = 10**6,
    key: str = "0a",
) -> None:
    """Write shards of documents with their annotations, listed as `prepare` and `annotate` do.

    `columns`: values of further annotations, one a text; `text_hash` is always there.
    """
    folder = data_dir / "documents" / source
    folder.mkdir(parents=True, exist_ok=True)
    for part, first in enumerate(range(0, len(texts), documents_per_shard)):
        rows = range(first, min(first + documents_per_shard, len(texts)))
        writer = ShardWriter(folder, split, f"{key}{part:02d}", 1 << 40)
        for row in rows:
            meta = json.dumps((metas or [{}] * len(texts))[row]).encode()
            writer.add(texts[row].encode(), meta, b"file", row)
        writer.close()
        shard = document_shard(folder, f"{split}_{key}{part:02d}_000")
        list_documents(folder.parent, [shard])
        annotate_shard(
            data_dir,
            shard,
            [texts[row] for row in rows],
            {name: [values[row] for row in rows] for name, values in (columns or {}).items()},
        )


def annotate_shard(
    data_dir: Path, shard: Path, texts: Sequence[str], columns: Mapping[str, Sequence]
) -> Path:
    """Write the annotations of a shard, and list them."""
    name = shard.relative_to(data_dir / "documents").as_posix()
    path = data_dir / "annotations" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    hashes = [xxhash.xxh3_128_digest(text.encode()) for text in texts]
    arrays = {
        "text_hash": pa.array(hashes, pa.binary(16)),
        **{key: pa.array(values, TYPES.get(key, pa.float64())) for key, values in columns.items()},
    }
    fields = [pa.field(key, array.type) for key, array in arrays.items()]
    ids = [f"{shard.parent.name}/{shard.stem}/{row}" for row in range(len(texts))]
    with AnnotationWriter(path, fields, file_record(shard)["checksum"], {}) as writer:
        columns_of_file = [pa.array(ids), *arrays.values()]
        for first in range(0, len(texts), ROWS_OF_GROUP):
            writer.add([column.slice(first, ROWS_OF_GROUP) for column in columns_of_file])
        writer.finish()
    manifest = data_dir / "annotations" / "manifest.json"
    listed = read_json(manifest) or {"files": {}, "inputs": {}, "output": ""}
    listed["files"][name] = file_record(path)
    write_json(manifest, listed)
    return path
