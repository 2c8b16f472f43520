"""The folders of data_dir as `pipeline inspect` finds them, and what it is asked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow.compute as pc

from pipeline.config.run_config import RunConfig
from pipeline.corpus.documents import SPLITS, open_shard, shard_paths
from pipeline.errors import DataError
from pipeline.store.artifacts import read_manifest
from pipeline.store.counts import (
    PrepareCounts,
    PreparedSource,
    TokenCounts,
    TokenizeCounts,
    TokenizerCounts,
)
from pipeline.store.layout import DataFolder, data_folder
from pipeline.store.pretrained_folders import TOKENIZER_JSON
from pipeline.store.records import Manifest
from pipeline.tokens import indexed_dataset
from pipeline.tokens.pieces import Pieces, load_pieces

MOST_SHARDS = 200
"""Shards per source, spread evenly, whose token counts are read for the lengths, or that samples
are picked from."""
TEXT_SHARDS = 2
TEXT_BYTES = 8_000_000
"""Where there are no tokens, the lengths are of about so much text per source, in whole row groups
of so many shards."""

# Its own form, since `from` is a word of Python's.
Bucket = TypedDict("Bucket", {"from": int, "to": int, "documents": int})
"""Documents of lengths `from <= length < to`."""


class Lengths(TypedDict):
    """How long the documents of a split are."""

    unit: str
    """`tokens` or `bytes`, which the other figures are in."""
    documents: int
    """Documents that were looked at."""
    of_documents: int
    """Documents that there are."""
    median: int
    mean: float
    p99: int
    max: int
    buckets: list[Bucket]


class ShownToken(TypedDict):
    """One token of a document."""

    id: int
    text: str
    bytes: str | None
    """In hexadecimal; None where the token is whole characters."""
    special: bool


# `from` says where the tokens come from.
ShownTokens = TypedDict("ShownTokens", {"count": int, "from": str, "shown": list[ShownToken]})
"""The tokens of a document: how many there are, and the first of them."""


class ShownDocument(TypedDict):
    """A document, as much of it as was asked for."""

    id: str
    meta: str
    """JSON object; empty of ids that existed already."""
    origin_file: str
    origin_row: int
    source: str
    split: str
    text_bytes: int
    """Bytes of the whole text."""
    characters: int
    """Characters of the whole text."""
    characters_shown: int
    text: str
    tokens: ShownTokens | None
    """None where there is no tokenizer yet."""


class SourceOverview(TypedDict):
    """What there is of one source."""

    documents: dict[str, int]
    """Split -> documents."""
    text_bytes: dict[str, int]
    """Split -> bytes of text."""
    tokens: dict[str, int | None]
    """Split -> tokens; None where there are no token files."""
    bytes_per_token: dict[str, float | None]
    lengths: Lengths | None
    """None where the split has no documents."""
    sample: ShownDocument | None


class Overview(TypedDict):
    """What there is in data_dir."""

    data_dir: str
    split: str
    """The split of lengths and samples."""
    sources: dict[str, SourceOverview]
    sources_without_text: list[str]
    notes: list[str]


@dataclass(frozen=True)
class Question:
    """What the command line asks for."""

    source: str | None = None
    document: int | None = None
    """Place in the source's split, from 0."""
    split: str = "train"
    id: str | None = None
    """Id of a document, or what its meta calls its id or url."""
    samples: int | None = None
    """Documents to pick in each source."""
    seed: int = 1
    characters: int = 2000
    """A longer document is cut there."""


@dataclass(frozen=True)
class Data:
    """The folders of data_dir as they stand."""

    folder: Path
    counts: dict[str, PreparedSource]
    """What `prepare` counted, by source."""
    tokens: dict[str, dict[str, TokenCounts]] | None
    """Counts of the token files by source; None where there are none of these documents and this
    tokenizer."""
    pieces: Pieces | None
    """The tokenizer's vocabulary; None before it is made."""
    notes: tuple[str, ...]
    """What is there and not used, with the remedy."""

    existing: frozenset[str] = frozenset()
    """Sources of kind `megatron`."""
    token_files: tuple[str, ...] = ()
    """The `.idx` files that the manifest of `tokenize` lists, sorted."""

    def shards(self, source: str, split: str) -> list[Path]:
        if source in self.existing:
            names = self.token_files if self.tokens else []
            return [
                DataFolder(self.folder).tokens / name
                for name in names
                if name.startswith(f"{source}/{split}_")
            ]
        return shard_paths(DataFolder(self.folder).documents, source, split)

    def token_prefix(self, path: Path) -> Path:
        """Return the token files of a shard, without their suffixes."""
        return DataFolder(self.folder).tokens / path.parent.name / path.stem


def open_data(config: RunConfig) -> Data:
    """Find out what there is. Raises DataError where not even documents are finished."""
    # Documents are needed; tokenizer and tokens may be missing.
    folder = data_folder(config)
    documents: Manifest[PrepareCounts] | None = read_manifest(folder.documents_manifest)
    tokenizer: Manifest[TokenizerCounts] | None = read_manifest(folder.tokenizer_manifest)
    tokens: Manifest[TokenizeCounts] | None = read_manifest(folder.tokens_manifest)
    if documents is None:
        raise DataError(
            f"{folder.documents}: there are no finished documents. Run `pipeline prepare` first."
        )

    # Use the tokens only where these documents and this tokenizer made them.
    notes = []
    there = {
        "output of prepare": documents["output"],
        "output of train-tokenizer": tokenizer["output"] if tokenizer else None,
    }
    fits = (
        tokens is not None and tokenizer is not None and there.items() <= tokens["inputs"].items()
    )
    if tokens is not None and not fits:
        notes.append(
            "the token files were made from other documents or another tokenizer: run `pipeline "
            "tokenize`"
        )

    # Sources whose ids existed already have documents in the token files alone.
    counts = documents["counts"]["sources"]
    tokenized = tokens["counts"]["sources"] if tokens and fits else None
    existing = frozenset(
        n for n, source in config.sources.items() if not source.has_documents and n in counts
    )
    if tokenized is not None:
        for name in existing:
            counts[name]["documents"] = {
                split: tokenized[name][split]["documents"] for split in SPLITS
            }
    return Data(
        folder=folder.path,
        counts=counts,
        tokens=tokenized,
        existing=existing,
        token_files=tuple(
            sorted(name for name in (tokens["files"] if tokens else ()) if name.endswith(".idx"))
        ),
        pieces=load_pieces(folder.tokenizer / TOKENIZER_JSON) if tokenizer is not None else None,
        notes=tuple(notes),
    )


def lengths(data: Data, source: str, split: str) -> Lengths | None:
    """Return how long a split's documents are, in tokens where there are any, else in bytes of
    text; None: no documents.

    Buckets are powers of two: `from <= length < to`. Percentiles are lengths of documents (no
    interpolation).
    """
    # Measure tokens where there are any, else bytes of text.
    paths = data.shards(source, split)
    if data.tokens is not None:
        chosen = spread(paths, MOST_SHARDS)
        parts = [
            indexed_dataset.read(data.token_prefix(path)).document_lengths() for path in chosen
        ]
    else:
        parts = list(_text_lengths(paths))
    found = np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)
    if not len(found):
        return None

    # Count the documents between powers of two.
    places = np.frexp(found)[
        1
    ]  # a length from 2^(p-1) to 2^p - 1 has place p; an empty document has place 0
    buckets: list[Bucket] = [
        {
            "from": 2 ** (place - 1) if place else 0,
            "to": 2**place,
            "documents": int((places == place).sum()),
        }
        for place in range(int(places.min()), int(places.max()) + 1)
    ]

    # The figures that one line shows.
    median, high = np.percentile(found, [50, 99], method="inverted_cdf")
    return {
        "unit": "bytes" if data.tokens is None else "tokens",
        "documents": len(found),
        "of_documents": data.counts[source]["documents"][split],
        "median": int(median),
        "mean": float(found.mean()),
        "p99": int(high),
        "max": int(found.max()),
        "buckets": buckets,
    }


def _text_lengths(paths: Sequence[Path]) -> Iterator[np.ndarray]:
    """Yield the texts' lengths in bytes, of the first row groups of TEXT_SHARDS shards."""
    chosen = spread(paths, TEXT_SHARDS)
    for path in chosen:
        left = TEXT_BYTES // len(chosen)
        with open_shard(path) as shard:
            for group in range(shard.num_row_groups):
                texts = shard.read_row_group(group, columns=["text"])["text"]
                sizes = pc.binary_length(texts).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
                yield sizes
                left -= int(sizes.sum())
                if left <= 0:
                    break


def spread(paths: Sequence[Path], most: int) -> list[Path]:
    """Choose at most `most` paths, evenly from the first to the last."""
    count = min(len(paths), most)
    return [paths[place * len(paths) // count] for place in range(count)]
