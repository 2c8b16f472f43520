"""The folders of data_dir as `pipeline inspect` finds them, and what it is asked."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from pipeline.config.run_config import RunConfig
from pipeline.corpus.documents import SPLITS, shard_paths
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
from pipeline.tokens.pieces import Pieces, load_pieces

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


def open_data(config: RunConfig) -> Data:
    """Find out what there is. Raises DataError where not even documents are finished."""
    folder = data_folder(config)
    documents: Manifest[PrepareCounts] | None = read_manifest(folder.documents_manifest)
    tokenizer: Manifest[TokenizerCounts] | None = read_manifest(folder.tokenizer_manifest)
    tokens: Manifest[TokenizeCounts] | None = read_manifest(folder.tokens_manifest)
    if documents is None:
        raise DataError(
            f"{folder.documents}: there are no finished documents. Run `pipeline prepare` first."
        )
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
