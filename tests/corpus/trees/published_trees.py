"""Small trees of published corpora, made as their data cards and code describe them.

Text comes from the corpus that PIPELINE_TEST_CORPUS names where it is set; else it is made up. All
else (names, keys, ids, digests, spans, signatures) has the form of the published files. As a
program, `python -m corpus.trees.published_trees FOLDER` writes all four for a look.
"""

import base64
import gzip
import hashlib
import io
import json
import re
import string
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from pipeline.store.environment import user_variable

SUBSETS = ("arxiv", "book", "c4", "common_crawl", "github", "stackexchange", "wikipedia")
SET_NAMES = ("RedPajamaCommonCrawl", "RedPajamaC4", "RedPajamaGithub", "RedPajamaBook")
BANDS = {"1.0": (1, 128), "0.9": (5, 25), "0.8": (9, 13), "0.7": (14, 9)}
"""Similarity -> bands and rows of RedPajama-v2's signatures."""
ALL_SHARDS = (
    "2022-49/0001/en_head",
    "2023-06/0000/de_head",
    "2023-06/0000/en_head",
    "2023-06/0000/en_middle",
    "2023-06/0000/en_tail",
)
"""Files of the tree of RedPajama-v2 that `make_all` writes."""
SHINGLE = 13
"""Words of a shingle of RedPajama-v2: a text with fewer has no signature."""
TEXTS_OF_A_FILE = 20
"""Texts that are taken from the beginning of each file of a real corpus."""
MOST_CHARACTERS = 3000
"""Most characters that are taken of each."""


def texts(count: int, skip: int = 0) -> list[str]:
    """Return different texts, others for another `skip`: real ones where there are, else made up.

    Each has the words of a shingle.
    """
    count += skip
    taken: dict[str, None] = {}
    folder = user_variable("PIPELINE_TEST_CORPUS")
    if folder:
        for path in sorted(Path(folder).glob("*.jsonl.zst")):
            for text in _texts_in(path, TEXTS_OF_A_FILE):
                if len(normalised_words(text[:MOST_CHARACTERS])) >= SHINGLE:
                    taken[text[:MOST_CHARACTERS]] = None
    for number in range(count):
        words = " ".join(f"word{number * 7 + place}" for place in range(20))
        taken[f"Document {number} begins here.\n{words}.\nIt ends — here.\n"] = None
    return list(taken)[skip:count]


def _texts_in(path: Path, count: int) -> Iterator[str]:
    with path.open("rb") as file:
        lines = io.TextIOWrapper(
            zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8", newline="\n"
        )
        for _, line in zip(range(count), lines, strict=False):
            yield json.loads(line)["text"]


def write_lines(path: Path, rows: Sequence[Any]) -> None:
    """Write JSON lines, compressed as the suffix says. A row that is a string is a line as it is."""
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    content = "".join(f"{line}\n" for line in lines).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)
    elif path.suffix == ".zst":
        content = zstandard.compress(content)
    path.write_bytes(content)


def read_lines(path: Path) -> list[Any]:
    """Return the rows of a file of JSON lines, `.gz`."""
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def digest_of(text: str) -> str:
    """Return a digest as documents of Common Crawl have it."""
    return "sha1:" + base64.b32encode(hashlib.sha1(text.encode()).digest()).decode()


def web_document(text: str, number: int, language: str, bucket: str) -> dict[str, Any]:
    """Return a row of RedPajama-v2's `documents`, with the keys that CCNet gives it."""
    return {
        "url": f"https://site{number % 5}.org/page/{number}",
        "date_download": "2023-01-26T21:25:04Z",
        "digest": digest_of(text),
        "length": len(text),
        "nlines": text.count("\n") + 1,
        "source_domain": f"site{number % 5}.org",
        "title": text[:20],
        "raw_content": text,
        "cc_segment": "crawl-data/CC-MAIN-2023-06/segments/1674764494826.88/wet/x.warc.wet.gz",
        "original_nlines": text.count("\n") + 3,
        "original_length": len(text) + 40,
        "line_ids": list(range(text.count("\n") + 1)),
        "language": language,
        "language_score": 0.97,
        "perplexity": 261.5,
        "bucket": bucket,
    }


def normalised_words(text: str) -> list[str]:
    """Return the words of a text in lower case, without ASCII punctuation, in NFD."""
    bare = text.lower().translate(str.maketrans("", "", string.punctuation))
    return unicodedata.normalize("NFD", bare).split()


def signals_row(document: dict[str, Any], shard: str, row: int) -> dict[str, Any]:
    """Return the row of `quality_signals` of a document: some of the signals, one of lines."""
    text = document["raw_content"]
    lines: list[list[float]] = []
    start = 0
    for line in re.findall(r"[^\n]*\n|[^\n]+$", text):
        lines.append([start, start + len(line), float(len(normalised_words(line)))])
        start += len(line)
    identity = f"{shard}/{row}"
    return {
        "id": identity,
        "id_int": int.from_bytes(hashlib.sha1(identity.encode()).digest()[:8], "little"),
        "metadata": {
            "cc_segment": document["cc_segment"],
            "cc_net_source": shard,
            "url": document["url"],
            "source_domain": document["source_domain"],
            "language": document["language"],
            "snapshot_id": shard[:7],
        },
        "quality_signals": {
            "ccnet_length": [[0, len(text), float(len(text))]],
            "ccnet_bucket": [[0, len(text), {"head": 0.0, "middle": 1.0}[document["bucket"]]]],
            "rps_doc_word_count": [[0, len(text), float(len(normalised_words(text)))]],
            "rps_doc_ml_palm_score": [[0, len(text), None]],
            "rps_lines_num_words": lines,
        },
    }


def minhash_row(document: dict[str, Any], shard: str, row: int) -> dict[str, Any]:
    """Return the row of `minhash` of a document; bands of bytes that are made up."""
    identity = f"{shard}/{row}"
    text = document["raw_content"]
    generator = np.random.default_rng(len(text) + row)
    signature = generator.integers(0, 2**32, 128, np.uint64)
    is_short = len(normalised_words(text)) < SHINGLE
    return {
        "shard_id": shard,
        "id": identity,
        "id_int": int.from_bytes(hashlib.sha1(identity.encode()).digest()[:8], "little"),
    } | {
        f"signature_sim{similarity}": None
        if is_short
        else [
            signature[band * rows : (band + 1) * rows].byteswap().tobytes() for band in range(bands)
        ]
        for similarity, (bands, rows) in BANDS.items()
    }


MINHASH_SCHEMA = pa.schema(
    [("shard_id", pa.string()), ("id", pa.string()), ("id_int", pa.uint64())]
    + [(f"signature_sim{similarity}", pa.list_(pa.binary())) for similarity in BANDS]
)
DUPLICATES_SCHEMA = pa.schema(
    [("shard_id", pa.string()), ("doc_id", pa.string()), ("digest", pa.string())]
)


def write_table(path: Path, rows: Sequence[dict[str, Any]], schema: pa.Schema) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema), path)


def make_redpajama_v2(
    root: Path,
    shards: Sequence[str],
    documents: int = 6,
    duplicates: Sequence[int] = (2, 4),
    skip: int = 0,
) -> Path:
    """Write a tree; each of `shards` is `SNAPSHOT/NUMBER/LANGUAGE_BUCKET`.

    Of each, the rows `duplicates` are listed as duplicates. Row 1 of each has too few words for a
    signature.
    """
    waiting = iter(texts(documents * len(shards), skip))
    for place, key in enumerate(shards):
        language, bucket = key.rpartition("/")[2].split("_")
        rows = [
            web_document(
                "Short: ten words.\n" if row == 1 else next(waiting),
                place * documents + row,
                language,
                bucket,
            )
            for row in range(documents)
        ]
        write_lines(root / "documents" / f"{key}.json.gz", rows)
        if bucket != "tail":
            _describe(root, key, rows, duplicates)
    return root


def _describe(
    root: Path, key: str, documents: Sequence[dict[str, Any]], duplicates: Sequence[int]
) -> None:
    """Write the three files beside one of documents."""
    shard = f"{key}.json.gz"
    numbered = list(enumerate(documents))
    write_lines(
        root / "quality_signals" / f"{key}.signals.json.gz",
        [signals_row(document, shard, row) for row, document in numbered],
    )
    write_table(
        root / "minhash" / f"{key}.minhash.parquet",
        [minhash_row(document, shard, row) for row, document in numbered],
        MINHASH_SCHEMA,
    )
    listed = [
        {
            "shard_id": shard,
            "doc_id": f"{shard}/{row}",
            "digest": documents[row]["digest"].removeprefix("sha1:"),
        }
        for row in duplicates
    ]
    # Nothing says that the list is sorted.
    write_table(root / "duplicates" / f"{key}.duplicates.parquet", listed[::-1], DUPLICATES_SCHEMA)


def make_redpajama_v1(root: Path, documents: int = 3, skip: int = 0) -> Path:
    """Write a folder for each subset, each with one file named as those that are published."""
    names = {
        "arxiv": "arxiv_024de5df.jsonl",
        "book": "book.jsonl",
        "c4": "c4-train.00000-of-01024.jsonl",
        "common_crawl": "2023-06/en_head_0000.json.gz.dedup.classifier.jsonl.zst",
        "github": "filtered_0a1b.sampled.jsonl",
        "stackexchange": "stackexchange.jsonl",
        "wikipedia": "wiki.jsonl",
    }
    waiting = iter(texts(documents * len(SUBSETS), skip))
    for subset in SUBSETS:
        rows: list[dict[str, Any]] = []
        for number in range(documents):
            text = next(waiting)
            if subset == "common_crawl":
                source = f"cc/2023-06/en_head_0000.json.gz/line{number}"
                rows.append({"text": text, "pred_label": "__label__wiki", "source": source})
            elif subset == "book":
                rows.append({"meta": {"short_book_title": f"Book {number}"}, "text": text})
            else:
                meta = {"url": f"https://{subset}.org/{number}", "language": "en"}
                rows.append({"text": text, "meta": meta})
        write_lines(root / subset / names[subset], rows)
    return root


def make_slimpajama(root: Path, documents: int = 4, skip: int = 0) -> Path:
    """Write two chunks of `train`, one of `validation` and of `test`: `documents` in each."""
    folders = ("train/chunk1", "train/chunk2", "validation/chunk1", "test/chunk1")
    waiting = iter(texts(documents * len(folders), skip))
    for folder in folders:
        kind = "train" if folder.startswith("train") else "holdout"
        rows = [
            {
                "text": next(waiting),
                "meta": {"redpajama_set_name": SET_NAMES[number % len(SET_NAMES)]},
            }
            for number in range(documents)
        ]
        write_lines(root / folder / f"example_{kind}_0.jsonl.zst", rows)
    return root


def make_dolma(root: Path, documents: int = 5, skip: int = 0) -> Path:
    """Write two files of documents and two folders of attributes.

    One tagger gives a span over all of each document, the other one span of the first 5 characters,
    and for row 0 a second one that ends 10 characters beyond the text.
    """
    waiting = iter(texts(documents * 2, skip))
    for part in range(2):
        rows = [
            {
                "id": f"doc-{part}-{number}",
                "text": next(waiting),
                "source": "common-crawl",
                "added": "2023-04-11T09:57:03.044571+00:00",
                "created": "2020-01-17T12:48:23Z",
                "metadata": {"url": f"https://dolma.org/{part}/{number}"},
            }
            for number in range(documents)
        ]
        name = f"2019-09/{part:04d}_en_all.jsonl.gz"
        write_lines(root / "documents" / name, rows)
        for tagger, spans in (("toxicity", _whole), ("paragraph_duplicates", _first)):
            described = [
                {"id": row["id"], "source": row["source"], "attributes": spans(row["text"], number)}
                for number, row in enumerate(rows)
            ]
            write_lines(root / "attributes" / tagger / name, described)
    return root


def _whole(text: str, number: int) -> dict[str, Any]:
    return {"exp__toxicity__doc": [[0, len(text), 0.25 + number]]}


def _first(text: str, number: int) -> dict[str, Any]:
    spans = [[0, 5, 1.0]]
    if number == 0:
        spans.append([len(text) - 3, len(text) + 10, 1.0])
    return {"bff_duplicate_paragraph_spans": spans}


def make_all(folder: Path) -> Path:
    """Write a tree of each layout, `rp1`, `rp2`, `slim` and `dolma`, no text in two of them."""
    make_redpajama_v1(folder / "rp1")
    make_redpajama_v2(folder / "rp2", ALL_SHARDS, skip=30)
    make_slimpajama(folder / "slim", skip=60)
    make_dolma(folder / "dolma", skip=80)
    return folder


if __name__ == "__main__":
    make_all(Path(sys.argv[1]))
