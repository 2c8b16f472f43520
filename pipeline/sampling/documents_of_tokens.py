"""Which documents some tokens of a source's stream belong to, and where a document lies in it.

Reads the `.idx` and `.doc` files of the shards concerned, a few places of each.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from pipeline.sampling.stream import TokenStream
from pipeline.tokens import indexed_dataset
from pipeline.tokens.indexed_dataset import Shard

MOST_OPEN_SHARDS = 256


@dataclass(frozen=True)
class Span:
    """A part of a document."""

    id: str
    """`source/shard/row` of the Parquet shard; of ids that existed already, the document's number
    in the pair."""
    shard: str
    row: int
    first: int
    """Its first token, counted within the document."""
    end: int
    tokens: int
    """Of the whole document, its end-of-document id included."""


class TokenDocuments:
    """The documents of one source by the tokens of its stream."""

    def __init__(self, source: str, stream: TokenStream, has_rows: bool) -> None:
        """`has_rows`: the shards were made from Parquet shards of the same name."""
        self._source = source
        self._stream = stream
        self._has_rows = has_rows
        self._shard = lru_cache(MOST_OPEN_SHARDS)(
            lambda index: indexed_dataset.read(_prefix(stream.paths[index]))
        )
        self._rows = lru_cache(MOST_OPEN_SHARDS)(lambda index: self._shard(index).rows())

    def of(self, start: int, end: int) -> list[Span]:
        """Return the parts of documents that tokens `[start, end)` of the stream are, in their
        order."""
        spans = []
        while start < end:
            index = int(np.searchsorted(self._stream.starts, start, side="right")) - 1
            shard = self._shard(index)
            first_of_shard = int(self._stream.starts[index])
            number, first, tokens = _document_at(shard, start - first_of_shard)
            within = start - first_of_shard - first
            here = min(end - start, tokens - within)
            name = _prefix(self._stream.paths[index]).name
            row = self._row(index, number)
            spans.append(
                Span(f"{self._source}/{name}/{row}", name, row, within, within + here, tokens)
            )
            start += here
        return spans

    def find(self, shard: str, row: int) -> tuple[int, int] | None:
        """Return a document's tokens in the stream, `[start, end)`; None where it has none in this
        stream."""
        names = [path.name for path in self._stream.paths]
        if f"{shard}.bin" not in names:
            return None
        index = names.index(f"{shard}.bin")
        number = int(np.searchsorted(self._rows(index), row)) if self._has_rows else row
        pair = self._shard(index)
        if number >= len(pair.documents) - 1 or self._row(index, number) != row:
            return None
        start = (
            int(self._stream.starts[index])
            + int(pair.offsets[pair.documents[number]]) // pair.ids.itemsize
        )
        return start, start + len(pair.document(number))

    def _row(self, index: int, number: int) -> int:
        return int(self._rows(index)[number]) if self._has_rows else number


def _prefix(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".bin"))


def _document_at(shard: Shard, token: int) -> tuple[int, int, int]:
    """Return the number, the first token and the length of the document that holds a token of a
    shard."""
    # Of sequences that begin at one place, all but the last are empty.
    sequence = int(np.searchsorted(shard.offsets, token * shard.ids.itemsize, side="right")) - 1
    number = int(np.searchsorted(shard.documents, sequence, side="right")) - 1
    first = int(shard.offsets[shard.documents[number]]) // shard.ids.itemsize
    return number, first, len(shard.document(number))
