"""The sets of shingles of documents that share a band with others.

A shingle is a run of words of the normalised text, as the part `minhash` of the annotations has them.
Its hash of 64 bits stands for it: two of the n shingles of a pair of documents have one hash by chance
with probability n^2 / 2^65, 3e-12 for ten thousand.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypedDict

import numpy as np

from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.minhash import shingle_hashes, word_hashes
from pipeline.corpus.near_duplicates.band_records import BANDS
from pipeline.corpus.near_duplicates.compared_shards import ComparedShard, read_comparison
from pipeline.corpus.near_duplicates.comparison_folder import ComparisonFolder, StepFolder
from pipeline.corpus.near_duplicates.groups import members_of_shard
from pipeline.corpus.near_duplicates.partition_file import PartsFile, PartsWriter, write_records
from pipeline.corpus.near_duplicates.shard_inputs import (
    annotation_column,
    list_bounds,
    texts_of_rows,
)
from pipeline.store.records import FileRecord
from pipeline.work.task import report_progress

HASH = np.dtype("<u8")
NO_HASHES = np.zeros(0, HASH)
COUNT = np.dtype("<u4")
FREQUENCY_BITS = 20
"""Bits of a hash by which shingles are counted: their rarity need not be exact, only the same for all
documents. 4 MB a shard that has documents in large groups."""
SMALL_DOCUMENT = 4096
"""Largest number of hashes of a document that is kept after it was read."""
MOST_RECENT = 4096
"""Documents of a shard that are kept: 128 MB at most."""


@dataclass(frozen=True)
class ShingledDocument:
    """A document that shares a band with others."""

    bands: np.ndarray
    """`(bands,) uint64`"""
    shingles: np.ndarray
    """Hashes of its different shingles, `(n,) uint64`, ascending."""


class ShingledShard(TypedDict):
    """Result of the work item of one shard."""

    documents: int
    """Documents that share a band with others."""
    large_documents: int
    """Those that share one with very many."""
    large_shingles: int
    """Different shingles of these, added up."""
    files: Mapping[str, FileRecord]


def shingles_of(text: str, words: int) -> np.ndarray:
    """Return the hashes of the different runs of `words` words of a text, `(n,) uint64`, ascending."""
    document = DocumentText(text)
    hashes = word_hashes(list(document.word_numbers))[document.word_ids]
    return np.unique(shingle_hashes(hashes, words))


def jaccard(first: np.ndarray, second: np.ndarray) -> float:
    """Return the size of the intersection over that of the union of two sets of hashes, ascending.

    0 for two empty sets.
    """
    smaller = first
    larger = second
    if len(first) > len(second):
        smaller = second
        larger = first
    if not len(smaller):
        return 0.0
    places = np.searchsorted(larger, smaller)
    places[places == len(larger)] = 0
    common = int(np.count_nonzero(larger[places] == smaller))
    return common / (len(first) + len(second) - common)


def write_shingles(
    table: Path, shard: int, partitions: int, words: int, folder: Path
) -> ShingledShard:
    """Write the shingles of a shard's documents that share a band with others.

    `partitions`: of the records of bands; `folder`: of the comparison. Of documents in large groups
    counts the shingles, too.
    """
    compared = read_comparison(table).shards[shard]
    steps = ComparisonFolder(folder)
    members = members_of_shard(steps.members, partitions, shard)

    # A part for every row of the shard, so that a row's part is found without a search.
    bands = annotation_column(compared, BANDS)
    bounds = list_bounds(bands)
    band_values = bands.flatten().to_numpy()
    is_large = members["is_large"].tolist()
    frequencies = np.zeros(1 << FREQUENCY_BITS, COUNT)
    large_shingles = 0
    path = steps.sets.of_shard(compared.name)
    with PartsWriter(path, HASH) as file:
        next_row = 0
        for number, (row, text) in enumerate(texts_of_rows(compared, members["row"])):
            for _ in range(next_row, row):
                file.add(NO_HASHES)
            next_row = row + 1
            shingles = shingles_of(text, words)
            of_row = band_values[bounds[row] : bounds[row + 1]]
            file.add(np.concatenate([np.array([len(of_row)], HASH), of_row, shingles]))
            if is_large[number]:
                large_shingles += len(shingles)
                np.add.at(frequencies, bucket_of(shingles), 1)
            report_progress(row / compared.rows, shingled=number + 1)
        for _ in range(next_row, compared.rows):
            file.add(NO_HASHES)
        files = {steps.sets.name(path): file.finish()}
    if large_shingles:
        path = steps.frequencies.of_shard(compared.name)
        files[steps.sets.name(path)] = write_records(path, frequencies)
    return {
        "documents": len(members),
        "large_documents": int(members["is_large"].sum()),
        "large_shingles": large_shingles,
        "files": files,
    }


def bucket_of(shingles: np.ndarray) -> np.ndarray:
    """Return the place of shingles among the frequencies, `(n,) int64`."""
    return (shingles >> np.uint64(64 - FREQUENCY_BITS)).astype(np.int64)


class ShingledDocuments:
    """The documents of one shard that share a band with others; use it as a context."""

    def __init__(self, sets: StepFolder, shard: ComparedShard) -> None:
        self._file = PartsFile(sets.of_shard(shard.name), HASH)
        self._bounds = self._file.bounds()
        self._recent: dict[int, ShingledDocument] = {}

    def __enter__(self) -> "ShingledDocuments":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.__exit__(kind, error, trace)

    def sizes(self, rows: np.ndarray, bands: int) -> np.ndarray:
        """Return the number of shingles of documents with this number of bands, `(n,) int64`."""
        return self._bounds[rows + 1] - self._bounds[rows] - 1 - bands

    def read(self, row: int) -> ShingledDocument:
        """Return the bands and shingles of a document; small ones are kept for a while."""
        if row in self._recent:
            return self._recent[row]
        content = self._file.read(row)
        bands = int(content[0])
        document = ShingledDocument(content[1 : 1 + bands], content[1 + bands :])
        if len(content) <= SMALL_DOCUMENT:
            if len(self._recent) == MOST_RECENT:
                self._recent.clear()
            self._recent[row] = document
        return document
