"""The documents that a range of tokens belongs to, and the tokens of a document.

Reads a few places of the `.idx` and `.doc` files of the shards concerned.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from pipeline.sampling.stream import TokenStream
from pipeline.tokens import indexed_dataset
from pipeline.tokens.indexed_dataset import Shard

MOST_OPEN_SHARDS = 256
"""Shards of a source kept open; the one used longest ago is closed."""


@dataclass(frozen=True)
class Span:
    """A range of the tokens of one document."""

    id: str
    """`source/shard/row`.

    The row is that of the Parquet shard; for token files made elsewhere, the document's number.
    """
    shard: str
    row: int
    first: int
    """First token of the range, counted within the document."""
    end: int
    """Token after the last one of the range, counted within the document."""
    tokens: int
    """Tokens of the whole document, with its end-of-document id."""


class TokenDocuments:
    """Translates between tokens of a source's stream and documents."""

    def __init__(self, source: str, stream: TokenStream, has_rows: bool) -> None:
        """Open nothing yet.

        `has_rows`: whether the shards were made from Parquet shards of the same name.
        """
        self._source = source
        self._stream = stream
        self._has_rows = has_rows

        def open_shard(index: int) -> Shard:
            return indexed_dataset.read(_prefix(stream.paths[index]))

        def read_rows(index: int) -> np.ndarray:
            return self._shard(index).rows()

        self._shard = lru_cache(MOST_OPEN_SHARDS)(open_shard)
        self._rows = lru_cache(MOST_OPEN_SHARDS)(read_rows)

    def of(self, start: int, end: int) -> list[Span]:
        """Return the parts of documents that make up tokens `[start, end)` of the stream."""
        spans: list[Span] = []
        while start < end:
            index = int(np.searchsorted(self._stream.starts, start, side="right")) - 1
            shard = self._shard(index)
            first_of_shard = int(self._stream.starts[index])
            number, first, tokens = _document_at(shard, start - first_of_shard)
            within = start - first_of_shard - first
            length = min(end - start, tokens - within)
            name = _prefix(self._stream.paths[index]).name
            row = self._row(index, number)
            spans.append(
                Span(f"{self._source}/{name}/{row}", name, row, within, within + length, tokens)
            )
            start += length
        return spans

    def find(self, shard: str, row: int) -> tuple[int, int] | None:
        """Return the range `[start, end)` of the stream that holds a document's tokens.

        None where the stream has no token of the document.
        """
        names = [path.name for path in self._stream.paths]
        if f"{shard}.bin" not in names:
            return None
        index = names.index(f"{shard}.bin")
        number = row
        if self._has_rows:
            number = int(np.searchsorted(self._rows(index), row))
        pair = self._shard(index)
        if number >= len(pair.documents) - 1 or self._row(index, number) != row:
            return None
        start = (
            int(self._stream.starts[index])
            + int(pair.offsets[pair.documents[number]]) // pair.ids.itemsize
        )
        return start, start + len(pair.document(number))

    def _row(self, index: int, number: int) -> int:
        """Return the Parquet row of a document, given by its number in a shard."""
        if self._has_rows:
            return int(self._rows(index)[number])
        return number


def _prefix(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".bin"))


def _document_at(shard: Shard, token: int) -> tuple[int, int, int]:
    """Return the number, first token and length of the document that holds a token of a shard."""
    # Where several sequences begin at one place, all but the last are empty.
    sequence = int(np.searchsorted(shard.offsets, token * shard.ids.itemsize, side="right")) - 1
    number = int(np.searchsorted(shard.documents, sequence, side="right")) - 1
    first = int(shard.offsets[shard.documents[number]]) // shard.ids.itemsize
    return number, first, len(shard.document(number))
