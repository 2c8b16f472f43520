"""Choose the text that a vocabulary is learned from.

`tokenizer.sample_bytes` of training documents, in the proportions of the mixture. The choice
depends on the ids and lengths of the documents alone: not on random numbers, the order of files or
the number of workers. Reads `data_dir/documents`, of a large corpus only about SPREAD times the sample.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash

from pipeline.config.run_config import RunConfig
from pipeline.corpus.documents import shard_footer
from pipeline.corpus.selecting.kept_counts import kept_counts, prepared_counts
from pipeline.corpus.selecting.kept_documents import kept_documents
from pipeline.errors import DataError
from pipeline.logs import human_bytes, note
from pipeline.store.counts import SampledSource

DOCUMENTS_AT_LEAST = 100
"""Documents that share a source's part: each may give one part in this number.

The bound is within the two limits below. Where a source has too few documents, it is doubled until
they suffice.
"""
LEAST_BOUND_BYTES = 1_000
MOST_BOUND_BYTES = 100_000
SPREAD = 10
"""Row groups are read until they could give this many times the share: neighbours in a file
resemble each other."""


def share_out(
    total: int, weights: Mapping[str, float], available: Mapping[str, int]
) -> dict[str, int]:
    """Divide `total` bytes among the sources in proportion to the weights.

    A source with less than its share gives all it has, and the others fill up. Sources without
    weight or without text get 0. Except for rounding, the sum is `total`, or all the text if there
    is less.
    """
    shares = dict.fromkeys(weights, 0)
    waiting = [name for name, weight in weights.items() if weight > 0 and available[name] > 0]
    left = total
    while waiting:
        unit = left / sum(weights[name] for name in waiting)
        short = [name for name in waiting if available[name] <= weights[name] * unit]
        if not short:
            return shares | {name: int(weights[name] * unit) for name in waiting}
        shares |= {name: available[name] for name in short}
        left -= sum(available[name] for name in short)
        waiting = [name for name in waiting if name not in short]
    return shares


class Piece(NamedTuple):
    """The part of one document that is in the sample."""

    row: int
    """Number of the document among those of its row group that are read."""
    start: int
    """First byte; a cut in the middle of a character loses that character."""
    size: int
    """Size in bytes."""


@dataclass
class Given:
    """The text that a source has given so far."""

    wanted: int
    """Number of bytes to sample from the source."""
    bytes: int = 0
    documents: int = 0
    measured: float = 0.0
    """Fraction of the row groups whose lengths have been read: the first half of the work."""
    document_bound_bytes: int = 0
    """Maximum number of bytes that are sampled from one document."""
    largest_bytes: int = 0
    """Maximum number of bytes that have been sampled from one document."""


class Sample:
    """The texts to learn from, and how much of them has been read.

    Raises DataError where no source with a weight above 0 has training text.
    """

    def __init__(self, config: RunConfig) -> None:
        self._documents = kept_documents(config)
        kept = kept_counts(config)
        prepared = prepared_counts(config)
        available = {name: kept[name].text_bytes.get("train", 0) for name in config.sources}
        self._bytes_for_one = {
            name: prepared[name].text_bytes.get("train", 0) / max(1, available[name])
            for name in config.sources
        }
        weights = config.proportions[0][2].weights(available)
        shares = share_out(config.tokenizer.sample_bytes, weights, available)
        if not any(shares.values()):
            raise DataError(
                f"{self._documents.folder}: no source has text to learn a vocabulary from. Lower "
                "prepare.validation_fraction or correct sources and data.mixture."
            )
        self.given = {name: Given(wanted=shares[name]) for name in config.sources}
        self.wanted_bytes = sum(shares.values())
        self.finished = False
        self.error: BaseException | None = None
        _note_short_sources(config.tokenizer.sample_bytes, weights, available, shares)

    @property
    def bytes(self) -> int:
        """Bytes of text that have been yielded so far."""
        return sum(given.bytes for given in self.given.values())

    @property
    def progress(self) -> float:
        """Work done, from 0 to `wanted_bytes`: half is to read lengths, half to read texts."""
        done = (given.wanted * given.measured + given.bytes for given in self.given.values())
        return sum(done) / 2

    def texts(self) -> Iterator[str]:
        """Yield the sample, source by source.

        An error is also kept in `error`: a trainer in C++ may ignore it.
        """
        try:
            for name, given in self.given.items():
                if given.wanted:
                    yield from self._texts_of(name, given)
            self.finished = True
        except BaseException as error:
            self.error = error
            raise

    def report(self) -> dict[str, SampledSource]:
        """Return what each source has given, by its name."""
        return {
            name: {
                "bytes": given.bytes,
                "documents": given.documents,
                "document_bound_bytes": given.document_bound_bytes,
                "largest_document_bytes": given.largest_bytes,
            }
            for name, given in self.given.items()
        }

    def note_dominant_documents(self) -> None:
        """Print each source that has one document with more than a tenth of the whole sample."""
        for name, given in self.given.items():
            if given.largest_bytes > self.bytes / 10:
                note(
                    f"train-tokenizer: one document of source {name} gave "
                    f"{human_bytes(given.largest_bytes)} of the {human_bytes(self.bytes)}: the "
                    "source's other documents have too little text for their share"
                )

    def _texts_of(self, source: str, given: Given) -> Iterator[str]:
        """Yield a source's texts, one row group in memory at a time."""
        # Choose documents by all ids and lengths of these row groups.
        shards = self._documents.shards(source, "train")
        # What was removed of the row groups gives nothing.
        wanted = int(given.wanted * self._bytes_for_one[source])
        groups = _row_groups(source, shards, wanted)
        ids: list[str] = []
        lengths: list[np.ndarray] = []
        for number, (path, group) in enumerate(groups, 1):
            kept = self._documents.texts_of_group(path, group)
            ids += [f"{source}/{path.stem}/{row}" for row in kept.rows.tolist()]
            lengths.append(np.array([len(text) for text in kept.texts], np.int64))
            given.measured = number / len(groups)
        given.document_bound_bytes, taken = choose(ids, np.concatenate(lengths), given.wanted)

        # Read the chosen documents; the first of a row group has the number `first`.
        first = 0
        for (path, group), of_group in zip(groups, lengths, strict=True):
            pieces = [
                Piece(number - first, *taken[number])
                for number in range(first, first + len(of_group))
                if number in taken
            ]
            first += len(of_group)
            if not pieces:
                continue
            texts = self._documents.texts_of_group(path, group).texts
            for piece in pieces:
                content = texts[piece.row][piece.start : piece.start + piece.size]
                text = str(content, "utf-8", errors="ignore")
                given.bytes += len(text.encode())
                given.documents += 1
                given.largest_bytes = max(given.largest_bytes, piece.size)
                yield text


def choose(
    ids: Sequence[str], lengths: np.ndarray, wanted: int
) -> tuple[int, dict[int, tuple[int, int]]]:
    """Choose documents by the hash of their ids until they give `wanted` bytes.

    Returns the most bytes that a document may give, and `{number of the document: (first byte,
    bytes)}`. A document that is longer gives a part from a place chosen by another hash of its id,
    since beginnings resemble each other.
    """
    # Each document may give the same, as little as suffices.
    bound = min(max(wanted // DOCUMENTS_AT_LEAST, LEAST_BOUND_BYTES), MOST_BOUND_BYTES)
    while np.minimum(lengths, bound).sum() < min(wanted, lengths.sum()):
        bound *= 2

    # Take documents in the order of their hashes.
    hashes = np.array([xxhash.xxh3_64_intdigest(key.encode()) for key in ids], np.uint64)
    taken: dict[int, tuple[int, int]] = {}
    left = wanted
    for number in map(int, np.argsort(hashes, kind="stable")):
        length = int(lengths[number])
        size = min(length, bound, left)
        starts = length - size + 1
        start = xxhash.xxh3_64_intdigest(ids[number].encode(), seed=1) % starts
        taken[number] = (start, size)
        left -= size
        if left <= 0:
            break
    return bound, taken


def _row_groups(source: str, shards: Sequence[Path], wanted: int) -> list[tuple[Path, int]]:
    """Return the row groups of a source to choose documents from, in the order of the shards.

    They are taken in the order of their hashes until they could give SPREAD x `wanted` bytes.
    """
    groups: list[tuple[int, Path, int, int]] = []
    for path in shards:
        footer = shard_footer(path)
        column = footer.schema.names.index("text")
        for group in range(footer.num_row_groups):
            rows = footer.row_group(group)
            text_bytes = rows.column(column).total_uncompressed_size
            size = min(text_bytes, rows.num_rows * MOST_BOUND_BYTES)
            key = xxhash.xxh3_64_intdigest(f"{source}/{path.stem}/{group}".encode())
            groups.append((key, path, group, size))
    groups.sort()
    chosen: list[tuple[Path, int]] = []
    gives = 0
    for _, path, group, size in groups:
        chosen.append((path, group))
        gives += size
        if gives >= SPREAD * wanted:
            break
    return sorted(chosen)


def _note_short_sources(
    asked: int,
    weights: Mapping[str, float],
    available: Mapping[str, int],
    shares: Mapping[str, int],
) -> None:
    """Print the sources that have less text than their share."""
    given = sum(shares.values())
    if all(shares[name] == available[name] for name, weight in weights.items() if weight > 0):
        note(
            f"train-tokenizer: the sources have {human_bytes(given)} of training text, "
            f"tokenizer.sample_bytes asks for {human_bytes(asked)}: all of it is used"
        )
        return
    for name, weight in weights.items():
        share = asked * weight / sum(weights.values())
        if weight > 0 and available[name] < int(share):
            note(
                f"train-tokenizer: source {name} has {human_bytes(available[name])} of training "
                f"text, its share of the sample is {human_bytes(share)}: the other sources fill up"
            )
