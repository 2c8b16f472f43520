"""The part `minhash`: bands of MinHash, one hash a band.

Two documents whose sets of shingles have Jaccard similarity s agree in a band of r rows with
probability s^r, and in at least one of b bands with `1 - (1 - s^r)^b`.
Source: Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
import pyarrow as pa
import xxhash

from pipeline.config.curation.annotate_section import MinHash
from pipeline.config.run_config import RunConfig
from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.part import AnnotationPart, Value, list_of
from pipeline.corpus.annotating.redpajama_minhash import published_bands, published_signature
from pipeline.store.records import Json

FUNCTIONS_SEED = 42
BLOCK_WORDS = 2**20
"""Words whose shingles are held at once."""
BLOCK_SHINGLES = 512
"""Shingles that are hashed at once by all functions: of 112 functions 230 kB, which stay in a core's
cache."""


@dataclass(frozen=True)
class MinHashBands(AnnotationPart):
    """Hashes of the bands of a document's signature; null where it has fewer words than a shingle."""

    section: MinHash
    published: str = "recompute"

    name = "minhash"

    @classmethod
    def asked_for(cls, config: RunConfig) -> Self | None:
        """Return the part if `annotate.minhash` is set."""
        if config.annotate is None or config.annotate.minhash is None:
            return None
        return cls(config.annotate.minhash, config.annotate.published_signals)

    @property
    def reads_published(self) -> frozenset[str]:
        """The published signatures, where they are asked for and used."""
        if self.section.scheme == "own" or self.published != "use":
            return frozenset()
        return frozenset(("minhash",))

    @property
    def published_mode(self) -> str:
        """How published signatures are taken."""
        return self.published

    def settings(self) -> Json:
        """Return the section `annotate.minhash`."""
        return self.section.model_dump()

    def fields(self) -> Sequence[pa.Field]:
        """Return the column `minhash_bands`."""
        return [pa.field("minhash_bands", list_of(pa.uint64()))]

    def values(self, document: DocumentText) -> Sequence[Value]:
        """Return one hash a band, `(bands,) uint64`."""
        if self.section.scheme == "redpajama-v2":
            return [self._published(document)]
        size = self.section.words
        if document.word_total < size:
            return [None]
        hashes = word_hashes(list(document.word_numbers))
        functions = self.section.bands * self.section.rows
        signature = np.full(functions, np.iinfo(np.uint32).max, np.uint32)
        for start in range(0, document.word_total - size + 1, BLOCK_WORDS):
            # The last shingles of a block end in the next one.
            words = hashes[document.word_ids[start : start + BLOCK_WORDS + size - 1]]
            least = min_hashes(shingle_hashes(words, size), functions)
            np.minimum(signature, least, out=signature)
        return [hashes_of_bands([row.tobytes() for row in np.split(signature, self.section.bands)])]

    def _published(self, document: DocumentText) -> np.ndarray | None:
        """Return the hashes of RedPajama-v2's own bands."""
        similarity = self.section.similarity
        record = document.published
        if self.reads_published and record is not None and record.minhash is not None:
            bands = record.minhash.get(similarity)
            return None if bands is None else hashes_of_bands(bands)
        signature = published_signature(document.words())
        if signature is None:
            return None
        return hashes_of_bands(published_bands(signature, similarity))


def word_hashes(words: Sequence[str]) -> np.ndarray:
    """Return xxh3 of 64 bits over the UTF-8 of each word, `(words,) uint64`."""
    digest = xxhash.xxh3_64_intdigest
    return np.fromiter((digest(word.encode()) for word in words), np.uint64, len(words))


def shingle_hashes(words: np.ndarray, size: int) -> np.ndarray:
    """Return a hash of each run of `size` words, in order, equal ones included.

    `words`: `(n,) uint64`, hashes of the words of a text in order. Returns
    `(max(0, n - size + 1),) uint64`.
    """
    count = max(0, len(words) - size + 1)
    hashes = np.zeros(count, np.uint64)
    # A polynomial in an odd number, so that the order of words counts, each step mixed.
    for place in range(size):
        hashes *= np.uint64(0x9E3779B97F4A7C15)
        hashes += words[place : place + count]
        hashes ^= hashes >> np.uint64(29)
    return hashes


@lru_cache(maxsize=4)
def hash_functions(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random odd factors and random addends, two `(count, 1) uint32`."""
    # Raw bits: the methods of a Generator may draw other numbers in another version of numpy.
    bits = np.random.PCG64(FUNCTIONS_SEED).random_raw(2 * count)
    drawn = (bits >> np.uint64(32)).astype(np.uint32).reshape(2, count, 1)
    return drawn[0] | np.uint32(1), drawn[1]


def min_hashes(shingles: np.ndarray, count: int) -> np.ndarray:
    """Return the signature: for each of `count` functions the minimum over all shingles.

    The functions are `(a h + b) mod 2^32` with a odd, of the upper half h of a shingle's hash: each puts
    all h in another order. `shingles`: `(n,) uint64` with n > 0. Returns `(count,) uint32`.
    """
    factors, addends = hash_functions(count)
    halves = (shingles >> np.uint64(32)).astype(np.uint32)
    signature = np.full(count, np.iinfo(np.uint32).max, np.uint32)
    products = np.empty((count, min(len(halves), BLOCK_SHINGLES)), np.uint32)
    for start in range(0, len(halves), BLOCK_SHINGLES):
        block = halves[start : start + BLOCK_SHINGLES]
        hashed = products[:, : len(block)]
        np.multiply(factors, block, out=hashed)
        hashed += addends
        np.minimum(signature, hashed.min(axis=1), out=signature)
    return signature


def hashes_of_bands(bands: Sequence[bytes]) -> np.ndarray:
    """Return one hash for each band of a signature, `(bands,) uint64`.

    Bands of the same rows in different places have different hashes.
    """
    hashes = [xxhash.xxh3_64_intdigest(rows, band) for band, rows in enumerate(bands)]
    return np.array(hashes, np.uint64)
