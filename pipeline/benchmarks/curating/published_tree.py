"""A tree of RedPajama-v2 made of the sample: its documents with signals and signatures beside them.

Writes one file of each kind, with all names, keys and columns of the published ones. What the pipeline
defines is computed; the signals of models, lists of URLs and CCNet are constants.
Source: the data card of togethercomputer/RedPajama-Data-V2; schemas: togethercomputer/RedPajama-Data,
app/src/core/worker.py.
"""

import gzip
from collections.abc import Iterable, Sequence
from pathlib import Path

import orjson
import pyarrow as pa

from pipeline.config.curation.signal_names import SIGNAL_SETS
from pipeline.config.yaml_files import Document, to_yaml
from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.redpajama_minhash import (
    BANDS_AND_ROWS,
    published_bands,
    published_signature,
)
from pipeline.corpus.annotating.signals.signals_part import QualitySignals
from pipeline.corpus.parquet_tables import write_parquet
from pipeline.corpus.trees.redpajama_v2 import DOCUMENTS
from pipeline.store.records import Json

KEY = "2023-06/0000/en_head"
"""The one file of documents: crawl, number, language and bucket."""
COMPUTED = SIGNAL_SETS["redpajama-v2"]
CONSTANT = SIGNAL_SETS["redpajama-v2-published"]
SIGNATURES = pa.schema(
    [("shard_id", pa.string()), ("id", pa.string()), ("id_int", pa.uint64())]
    + [(f"signature_sim{similarity}", pa.list_(pa.binary())) for similarity in BANDS_AND_ROWS]
)
LISTED = pa.schema([("shard_id", pa.string()), ("doc_id", pa.string()), ("digest", pa.string())])


def write_published_tree(root: Path, texts: Sequence[str]) -> None:
    """Write documents, signals, signatures and an empty list of duplicates."""
    shard = f"{KEY}.json.gz"
    documents = [_document(text) for text in texts]
    described = [DocumentText(text) for text in texts]
    # The documents, and their signals row by row.
    _write_lines(root / DOCUMENTS / shard, documents)
    _write_lines(
        root / "quality_signals" / f"{KEY}.signals.json.gz",
        (
            {
                "id": f"{shard}/{row}",
                "id_int": row,
                "metadata": _document(""),
                "quality_signals": _signals(document),
            }
            for row, document in enumerate(described)
        ),
    )

    # Signatures, and a list of duplicates that names none.
    signatures = [
        {"shard_id": shard, "id": f"{shard}/{row}", "id_int": row, **_bands(document)}
        for row, document in enumerate(described)
    ]
    write_parquet(
        pa.Table.from_pylist(signatures, SIGNATURES), root / "minhash" / f"{KEY}.minhash.parquet"
    )
    write_parquet(
        pa.Table.from_pylist([], LISTED), root / "duplicates" / f"{KEY}.duplicates.parquet"
    )


def write_tree_run_file(folder: Path, root: Path) -> Path:
    """Write a run file that takes signals and bands from the tree, as the shipped one does."""
    settings: Document = {
        "paths": {"data_dir": str(folder / "data"), "run_dir": str(folder / "run")},
        "sources": {"web": {"kind": "jsonl", "layout": "redpajama-v2", "paths": [str(root)]}},
        "annotate": {
            "signals": ["redpajama-v2"],
            "published_signals": "use",
            "minhash": {"scheme": "redpajama-v2", "similarity": "0.8"},
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    run_file = folder / "run.yaml"
    run_file.write_text(to_yaml(settings, is_ascii=True))
    return run_file


def _document(text: str) -> dict[str, Json]:
    """Return a row of documents, with the keys that CCNet gives it."""
    lines = text.count("\n") + 1
    return {
        "url": "https://example.org/page",
        "date_download": "2023-01-26T21:25:04Z",
        "digest": "sha1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "length": len(text),
        "nlines": lines,
        "source_domain": "example.org",
        "title": text[:20],
        "raw_content": text,
        "cc_segment": "crawl-data/CC-MAIN-2023-06/segments/1/wet/1.warc.wet.gz",
        "original_nlines": lines,
        "original_length": len(text),
        "line_ids": list(range(lines)),
        "language": "en",
        "language_score": 0.97,
        "perplexity": 261.5,
        "bucket": "head",
    }


def _signals(document: DocumentText) -> dict[str, Json]:
    """Return the published signals of a document: name -> lists of start, end and score."""
    length = len(document)
    signals: dict[str, Json] = {name: [[0, length, 0.5]] for name in CONSTANT}
    values = QualitySignals(COMPUTED, "en").values(document)
    for name, value in zip(COMPUTED, values, strict=True):
        if isinstance(value, tuple):
            columns = [column.tolist() for column in value]
            signals[name] = [list(span) for span in zip(*columns, strict=True)]
        else:
            signals[name] = [[0, length, value]]
    return signals


def _bands(document: DocumentText) -> dict[str, list[bytes] | None]:
    signature = published_signature(document.words())
    return {
        f"signature_sim{similarity}": None
        if signature is None
        else published_bands(signature, similarity)
        for similarity in BANDS_AND_ROWS
    }


def _write_lines(path: Path, rows: Iterable[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wb") as file:
        file.writelines(orjson.dumps(row) + b"\n" for row in rows)
