"""The folders of data_dir as `pipeline inspect` finds them, and the types of what it shows.

Reads the manifests of the data stages, tokenizer.json, and lengths of documents.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np

from pipeline.config.run_config import RunConfig
from pipeline.corpus.documents import SPLITS, shard_footer, split_of
from pipeline.corpus.selecting.kept_counts import KeptCounts, kept_counts, prepared_counts
from pipeline.corpus.selecting.kept_documents import KeptDocuments, all_documents, kept_documents
from pipeline.errors import DataError
from pipeline.store.artifacts import read_manifest
from pipeline.store.counts import (
    Counts,
    PrepareCounts,
    TokenCounts,
    TokenizeCounts,
    TokenizerCounts,
)
from pipeline.store.curation.selection_folder import selection_folder
from pipeline.store.layout import DataFolder, data_folder
from pipeline.store.manifests.shard_places import logical_name, source_of
from pipeline.store.pretrained_folders import TOKENIZER_JSON
from pipeline.store.records import Manifest
from pipeline.tokens import indexed_dataset
from pipeline.tokens.pieces import Pieces, load_pieces

MOST_SHARDS = 200
"""Shards of a source, spread evenly, whose lengths are read or that samples are picked from."""
TEXT_SHARDS = 2
"""Shards of a source whose lengths are read where there are no tokens."""
TEXT_BYTES = 8_000_000
"""Bytes of text in the row groups that are read of these shards, about."""

# Not a class, since `from` is a keyword of Python.
Bucket = TypedDict("Bucket", {"from": int, "to": int, "documents": int})
"""Documents of lengths `from <= length < to`."""


class Lengths(TypedDict):
    """How long the documents of a split are."""

    unit: str
    """Unit of the other figures, `tokens` or `bytes`."""
    documents: int
    """Documents whose lengths were read."""
    of_documents: int
    """All documents of the split."""
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


# Not a class, since `from` is a keyword of Python.
ShownTokens = TypedDict("ShownTokens", {"count": int, "from": str, "shown": list[ShownToken]})
"""Tokens of a document: their number, where they come from, and the first ones."""


class ShownDocument(TypedDict):
    """A document, and the beginning of its text."""

    id: str
    meta: str
    """JSON object; empty where the ids existed already."""
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
    """None before a tokenizer is made, and of a document that is removed."""
    removed: NotRequired[list[str]]
    """Reasons for which `select` has removed the document; missing where it is read."""


class SourceOverview(TypedDict):
    """Sizes of one source, the lengths of its documents, and the beginning of one of them."""

    documents: dict[str, int]
    """Split -> documents."""
    text_bytes: dict[str, int]
    """Split -> bytes of text."""
    tokens: dict[str, int | None]
    """Split -> tokens; None where there are no token files."""
    bytes_per_token: dict[str, float | None]
    """Split -> bytes of text per token; None where one of them is missing."""
    lengths: Lengths | None
    """None where the split has no documents."""
    sample: ShownDocument | None
    """None where the split has no documents."""


class Overview(TypedDict):
    """The sources of data_dir."""

    data_dir: str
    split: str
    """Split that the lengths and samples are of."""
    sources: dict[str, SourceOverview]
    sources_without_text: list[str]
    notes: list[str]
    """What exists and is not used, with the remedy."""


@dataclass(frozen=True)
class Question:
    """What the command line asks for."""

    source: str | None = None
    document: int | None = None
    """Number of a document in the source's split, from 0."""
    split: str = "train"
    id: str | None = None
    """Id of a document, or its original id or url in meta."""
    samples: int | None = None
    """Number of documents to pick from each source."""
    seed: int = 1
    characters: int = 2000
    """Characters of a document that are shown."""


@dataclass(frozen=True)
class Data:
    """The folders of data_dir as they are now."""

    folder: Path
    documents: KeptDocuments
    """The documents as the run reads them."""
    counts: dict[str, KeptCounts]
    """Source -> documents that are read."""
    tokens: dict[str, dict[str, TokenCounts]] | None
    """Source -> split -> counts of the token files.

    None where no token files were made from these documents by this tokenizer.
    """
    pieces: Pieces | None
    """The tokenizer's vocabulary; None before a tokenizer is made."""
    notes: tuple[str, ...]
    """What exists and is not used, with the remedy."""
    existing: frozenset[str] = frozenset()
    """Names of the sources of kind `megatron`, whose text became tokens elsewhere."""
    token_files: tuple[str, ...] = ()
    """The `.idx` files that the manifest of `tokenize` lists, sorted by the names of shards."""

    def shards(self, source: str, split: str) -> list[Path]:
        """Return the Parquet files of a split; the `.idx` files where the ids existed already."""
        if source not in self.existing:
            return self.documents.shards(source, split)
        if not self.tokens:
            return []
        return [
            DataFolder(self.folder).tokens / name
            for name in self.token_files
            if source_of(name) == source and split_of(name) == split
        ]

    def name(self, path: Path) -> str:
        """Return the path of one of `shards` below its stage's folder, without its suffix."""
        data = DataFolder(self.folder)
        stage = data.documents
        if path.suffix == ".idx":
            stage = data.tokens
        return path.relative_to(stage).with_suffix("").as_posix()

    def token_prefix(self, path: Path) -> Path:
        """Return the token files of a shard, without their suffixes; they lie as documents do."""
        return DataFolder(self.folder).tokens / self.name(path)


def open_data(config: RunConfig) -> Data:
    """Read the manifests of data_dir. Raises DataError where `prepare` has not finished."""
    # Documents are needed; tokenizer and tokens may be missing.
    folder = data_folder(config)
    documents: Manifest[PrepareCounts] | None = read_manifest(folder.documents_manifest)
    tokenizer: Manifest[TokenizerCounts] | None = read_manifest(folder.tokenizer_manifest)
    tokens: Manifest[TokenizeCounts] | None = read_manifest(folder.tokens_manifest)
    if documents is None:
        raise DataError(
            f"{folder.documents}: holds no finished documents. Run `pipeline prepare` first."
        )

    pieces = None
    if tokenizer is not None:
        pieces = load_pieces(folder.tokenizer / TOKENIZER_JSON)

    # Use the tokens only where this tokenizer made them from these documents.
    notes: list[str] = []
    selection: Manifest[Counts] | None = None
    read = all_documents(folder.path)
    counts = prepared_counts(config)
    if config.select is not None:
        selection = read_manifest(selection_folder(config).manifest)
        if selection is None:
            notes.append("nothing is selected yet, these are all documents: run `pipeline select`")
        else:
            read = kept_documents(config)
            counts = kept_counts(config)
    tokenized: dict[str, dict[str, TokenCounts]] | None = None
    token_files: list[str] = []
    if tokens is not None:
        token_files = sorted(
            (name for name in tokens["files"] if name.endswith(".idx")), key=logical_name
        )
        if _were_made_from(tokens, documents, selection, tokenizer):
            tokenized = tokens["counts"]["sources"]
        else:
            notes.append(
                "the token files were made from other documents or another tokenizer: run "
                "`pipeline tokenize`"
            )

    # Where the ids existed already, the documents are counted by `tokenize`.
    existing = frozenset(
        name
        for name, source in config.sources.items()
        if not source.has_documents and name in counts
    )
    if tokenized is not None:
        for name in existing:
            of_splits = {split: tokenized[name][split]["documents"] for split in SPLITS}
            counts[name] = replace(counts[name], documents=of_splits)
    return Data(
        folder=folder.path,
        documents=read,
        counts=counts,
        tokens=tokenized,
        existing=existing,
        token_files=tuple(token_files),
        pieces=pieces,
        notes=tuple(notes),
    )


def _were_made_from(
    tokens: Manifest[TokenizeCounts],
    documents: Manifest[PrepareCounts],
    selection: Manifest[Counts] | None,
    tokenizer: Manifest[TokenizerCounts] | None,
) -> bool:
    """Tell whether the token files were made from what is read of these documents by this tokenizer.

    `selection`: None where all documents are read.
    """
    inputs = tokens["inputs"]
    selected = None
    if selection is not None:
        selected = selection["output"]
    return (
        tokenizer is not None
        and inputs.get("output of prepare") == documents["output"]
        and inputs.get("output of select") == selected
        and inputs.get("output of train-tokenizer") == tokenizer["output"]
    )


def measure_lengths(data: Data, source: str, split: str) -> Lengths | None:
    """Return how long the documents of a split are; None where it has none.

    In tokens where there are token files, else in bytes of text. Buckets are powers of two:
    `from <= length < to`. A percentile is the length of a document (no interpolation).
    """
    # Read lengths in tokens where they are on disk, else in bytes of text.
    paths = data.shards(source, split)
    if data.tokens is None:
        unit = "bytes"
        parts = list(_text_lengths(data.documents, paths))
    else:
        unit = "tokens"
        prefixes = map(data.token_prefix, spread_evenly(paths, MOST_SHARDS))
        parts = [indexed_dataset.read(prefix).document_lengths() for prefix in prefixes]
    sizes = np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)
    if not len(sizes):
        return None

    # Count the documents between powers of two: a length from 2^(e-1) to 2^e - 1 has exponent e.
    exponents = np.frexp(sizes)[1]
    buckets: list[Bucket] = []
    for exponent in range(int(exponents.min()), int(exponents.max()) + 1):
        # An empty document has exponent 0.
        least = 0
        if exponent > 0:
            least = 2 ** (exponent - 1)
        count = int((exponents == exponent).sum())
        buckets.append({"from": least, "to": 2**exponent, "documents": count})

    # The figures that one line shows.
    median, high = np.percentile(sizes, [50, 99], method="inverted_cdf")
    return {
        "unit": unit,
        "documents": len(sizes),
        "of_documents": data.counts[source].documents.get(split, 0),
        "median": int(median),
        "mean": float(sizes.mean()),
        "p99": int(high),
        "max": int(sizes.max()),
        "buckets": buckets,
    }


def _text_lengths(documents: KeptDocuments, paths: Sequence[Path]) -> Iterator[np.ndarray]:
    """Yield the lengths in bytes of the texts in the first row groups of TEXT_SHARDS shards."""
    chosen = spread_evenly(paths, TEXT_SHARDS)
    for path in chosen:
        left = TEXT_BYTES // len(chosen)
        for group in range(shard_footer(path).num_row_groups):
            texts = documents.texts_of_group(path, group).texts
            yield np.array([len(text) for text in texts], np.int64)
            left -= sum(map(len, texts))
            if left <= 0:
                break


def spread_evenly(paths: Sequence[Path], most: int) -> list[Path]:
    """Choose at most `most` paths, evenly from the first to the last."""
    count = min(len(paths), most)
    return [paths[place * len(paths) // count] for place in range(count)]
