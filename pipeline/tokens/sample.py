"""The text that a vocabulary is learned from: `tokenizer.sample_bytes` of training documents, in
the mixture's proportion.

Reads `data_dir/documents`. What is chosen depends on the documents' ids and lengths alone: no dice,
no file order, no number of workers. Of a large corpus only a part is read: about SPREAD times the
sample.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute
import xxhash

from pipeline.config.run_config import RunConfig
from pipeline.corpus.documents import open_shard, shard_footer, shard_paths
from pipeline.errors import DataError
from pipeline.logs import human_bytes, note
from pipeline.store.artifacts import read_manifest
from pipeline.store.counts import PrepareCounts, SampledSource
from pipeline.store.layout import data_folder, manifest_path
from pipeline.store.records import Manifest

DOCUMENTS_AT_LEAST = 100
"""A document gives at most this fraction of its source's share, within the two limits below ..."""
LEAST_BOUND_BYTES = 1_000
MOST_BOUND_BYTES = 100_000
"""... and more only where the source has too few documents: then the bound is doubled until they
suffice."""
SPREAD = 10
"""Row groups are read until they could give this many times the share: neighbours in a file
resemble each other."""


_binary_length: Any = pyarrow.compute.binary_length  # pyright: ignore[reportAttributeAccessIssue] (made at import)


def share_out(
    total: int, weights: Mapping[str, float], available: Mapping[str, int]
) -> dict[str, int]:
    """Divide `total` bytes in proportion to the weights; who has less gives all, and the others
    fill up.

    Sources without weight or without text get 0. The sum is `total`, but for rounding, where there
    is that much.
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
    """What one document gives."""

    row: int
    """Its row in the row group."""
    start: int
    """First byte; a cut in the middle of a character loses that character."""
    size: int
    """Bytes."""


@dataclass
class Given:
    """What a source gave so far."""

    wanted: int
    bytes: int = 0
    documents: int = 0
    looked: float = 0.0
    """Fraction of its row groups whose documents' lengths are known: the first half of the work."""
    document_bound_bytes: int = 0
    """Most bytes that one document may give."""
    largest_bytes: int = 0
    """Most bytes that one gave."""


class Sample:
    """The sample as an iterator of texts, and what was read of it so far.

    Raises DataError where no source with a weight above 0 has training text.
    """

    def __init__(self, config: RunConfig) -> None:
        self._documents = data_folder(config).documents
        manifest: Manifest[PrepareCounts] | None = read_manifest(manifest_path(self._documents))
        assert manifest is not None, "train-tokenizer runs after prepare"
        counts = manifest["counts"]["sources"]
        available = {
            name: int(counts[name]["text_bytes"].get("train", 0)) for name in config.sources
        }
        weights = config.proportions[0][2].weights(available)
        shares = share_out(config.tokenizer.sample_bytes, weights, available)
        if not any(shares.values()):
            raise DataError(
                f"{self._documents}: no source has text to learn a vocabulary from. Lower "
                "prepare.validation_fraction "
                f"or correct sources and data.mixture."
            )
        self.given = {name: Given(wanted=shares[name]) for name in config.sources}
        self.wanted_bytes = sum(shares.values())
        self.finished = False
        self.error: BaseException | None = None
        _say_what_is_short(config.tokenizer.sample_bytes, weights, available, shares)

    @property
    def bytes(self) -> int:
        """Bytes handed out so far."""
        return sum(given.bytes for given in self.given.values())

    @property
    def progress(self) -> float:
        """Work done, on a scale of 0 to `wanted_bytes`: lengths are read first, then the texts."""
        return sum(given.wanted * given.looked + given.bytes for given in self.given.values()) / 2

    def texts(self) -> Iterator[str]:
        """Yield the sample, source by source. An error ends it and is kept: a trainer in C++ may
        swallow it."""
        try:
            for name, given in self.given.items():
                if given.wanted:
                    yield from self._texts_of(name, given)
            self.finished = True
        except BaseException as error:
            self.error = error
            raise

    def report(self) -> dict[str, SampledSource]:
        """Return what each source gave, by its name; `wanted` and how far the reading is are no
        result."""
        return {
            name: {
                "bytes": given.bytes,
                "documents": given.documents,
                "document_bound_bytes": given.document_bound_bytes,
                "largest_document_bytes": given.largest_bytes,
            }
            for name, given in self.given.items()
        }

    def say_what_is_lopsided(self) -> None:
        """Name each source of which one document gave more than a tenth of the whole sample."""
        for name, given in self.given.items():
            if given.largest_bytes > self.bytes / 10:
                note(
                    f"train-tokenizer: one document of source {name} gave "
                    f"{human_bytes(given.largest_bytes)} of the "
                    f"{human_bytes(self.bytes)}: its other documents have too little text for "
                    "their share"
                )

    def _texts_of(self, source: str, given: Given) -> Iterator[str]:
        groups = _row_groups(shard_paths(self._documents, source, "train"), given.wanted)
        ids: list[str] = []
        lengths: list[np.ndarray] = []
        for number, (path, group) in enumerate(groups, 1):
            table = _read(path, group)
            ids += table["id"].to_pylist()
            lengths.append(_binary_length(table["text"]).to_numpy().astype(np.int64))
            given.looked = number / len(groups)
        given.document_bound_bytes, taken = choose(ids, np.concatenate(lengths), given.wanted)
        first = 0
        for (path, group), of_group in zip(groups, lengths, strict=True):
            here = [
                Piece(i - first, *taken[i])
                for i in range(first, first + len(of_group))
                if i in taken
            ]
            first += len(of_group)
            column = _read(path, group)["text"] if here else pa.chunked_array([], pa.large_string())
            for row, start, size in here:
                data: Any = column[row].as_buffer()[start : start + size]
                text = data.to_pybytes().decode("utf-8", errors="ignore")
                given.bytes += len(text.encode())
                given.documents += 1
                given.largest_bytes = max(given.largest_bytes, size)
                yield text


def choose(
    ids: Sequence[str], lengths: np.ndarray, wanted: int
) -> tuple[int, dict[int, tuple[int, int]]]:
    """Choose documents by the hash of their ids until they give `wanted` bytes.

    Returns the most bytes that a document may give, and `{number of the document: (first byte,
    bytes)}`. What is cut begins anywhere in the document, again by its hash: beginnings resemble
    each other.
    """
    bound = min(max(wanted // DOCUMENTS_AT_LEAST, LEAST_BOUND_BYTES), MOST_BOUND_BYTES)
    while np.minimum(lengths, bound).sum() < min(wanted, lengths.sum()):
        bound *= 2
    keys = np.array([xxhash.xxh3_64_intdigest(key.encode()) for key in ids], np.uint64)
    taken: dict[int, tuple[int, int]] = {}
    left = wanted
    for i in np.argsort(keys, kind="stable"):
        size = min(int(lengths[i]), bound, left)
        places = int(lengths[i]) - size + 1
        taken[int(i)] = (xxhash.xxh3_64_intdigest(ids[int(i)].encode(), seed=1) % places, size)
        left -= size
        if left <= 0:
            break
    return bound, taken


def _row_groups(shards: Sequence[Path], wanted: int) -> list[tuple[Path, int]]:
    """Return the row groups to choose documents from, in the shards' order, chosen by hash until
    they are enough."""
    groups = []
    for path in shards:
        footer = shard_footer(path)
        column = footer.schema.names.index("text")
        for group in range(footer.num_row_groups):
            found = footer.row_group(group)
            size = min(
                found.column(column).total_uncompressed_size, found.num_rows * MOST_BOUND_BYTES
            )
            key = xxhash.xxh3_64_intdigest(f"{path.parent.name}/{path.stem}/{group}".encode())
            groups.append((key, path, group, size))
    groups.sort()
    chosen = []
    gives = 0
    for _, path, group, size in groups:
        chosen.append((path, group))
        gives += size
        if gives >= SPREAD * wanted:
            break
    return sorted(chosen)


def _read(path: Path, group: int) -> pa.Table:
    with open_shard(path) as shard:
        return shard.read_row_group(group, columns=["id", "text"])


def _say_what_is_short(
    asked: int,
    weights: Mapping[str, float],
    available: Mapping[str, int],
    shares: Mapping[str, int],
) -> None:
    given = sum(shares.values())
    if all(shares[name] == available[name] for name, weight in weights.items() if weight > 0):
        note(
            f"train-tokenizer: the sources have {human_bytes(given)} of training text, "
            "tokenizer.sample_bytes asks for "
            f"{human_bytes(asked)}: all of it is used"
        )
        return
    for name, weight in weights.items():
        share = asked * weight / sum(weights.values())
        if weight > 0 and available[name] < int(share):
            note(
                f"train-tokenizer: source {name} has {human_bytes(available[name])} of training "
                "text, its share of the "
                f"sample is {human_bytes(share)}: the other sources fill up"
            )
