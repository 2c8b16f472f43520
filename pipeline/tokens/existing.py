"""Check token ids that exist already (sources of kind `megatron`), and link them.

Reads pairs of `.bin` and `.idx` files where they lie (`existing_pairs.py`); writes links to them in
data_dir/tokens/<source>, named `train_<stem>` or `validation_<stem>`. The originals are never
written to. They may be terabytes, so they are not read for a checksum: the manifest has a hash of
name, size and time of change instead, and a checksum of 16 blocks.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from pipeline.errors import DataError
from pipeline.logs import warn
from pipeline.store import versions
from pipeline.store.counts import TokenCounts, TokenizerCounts
from pipeline.store.files import fingerprint, temporary_path
from pipeline.store.manifests.shard_places import needs_parts, placed
from pipeline.store.records import LinkedFileRecord
from pipeline.tokens import indexed_dataset
from pipeline.tokens.existing_pairs import Pair
from pipeline.tokens.indexed_dataset import BLOCK_DOCUMENTS, Shard, sample_checksum
from pipeline.work.task import Task, report_progress

SAMPLED_IDS = 1 << 20
"""Ids of one stretch that is checked."""
SAMPLED_PLACES = 4
"""Stretches of a pair that are checked: the first ids, the last ones, and evenly between."""
MOST_BYTES_OF_AN_ID = 4
SAMPLED_DOCUMENTS = 10_000
"""Maximum number of documents of a pair whose last id is checked; they are spread evenly."""


def pair_tasks(
    pairs: Mapping[str, Sequence[Pair]], folder: Path, tokenizer: TokenizerCounts
) -> list[Task]:
    """Return a task for each pair.

    `tokenizer`: counts of the tokenizer's manifest.
    """
    vocab_size = tokenizer["vocab_size"]
    end = tokenizer["end_of_document_id"]
    tasks: list[Task] = []
    for pair in chain.from_iterable(pairs.values()):
        in_parts = needs_parts(len(pairs[pair.source]))
        arguments = {
            "pair": pair,
            "folder": folder,
            "vocab_size": vocab_size,
            "end_of_document": end,
            "in_parts": in_parts,
        }
        files = [
            [str(file), link_identity(pair.name + suffix, file)]
            for suffix, file in pair.files.items()
        ]
        # Work is measured in the bytes that are read.
        most_read = SAMPLED_PLACES * SAMPLED_IDS * MOST_BYTES_OF_AN_ID
        size = min(pair.files[".bin"].stat().st_size, most_read)
        # One less: `tokenize` had a version before it took pairs.
        key = fingerprint([versions.TOKENIZE - 1, files, vocab_size, end])
        name = f"{pair.source}~{pair.name}"
        tasks.append(Task(name, link_pair, arguments, key, size, outputs_in_parts=in_parts))
    return tasks


class LinkedPair(TokenCounts):
    """Result of the task of one existing pair."""

    dtype: str
    """Type of the ids, as numpy names it."""
    documents_checked: int
    """Documents whose last id was looked at."""
    documents_ended: int
    """Checked documents whose last id is the tokenizer's end-of-document id."""
    files: dict[str, LinkedFileRecord]
    """Logical name of a link (`store/manifests/shard_places.py`) -> its record."""


def link_pair(
    pair: Pair, folder: Path, vocab_size: int, end_of_document: int, in_parts: bool
) -> LinkedPair:
    """Check a pair and link it in the stage's folder, or in a part of its source's folder.

    Raises DataError where the pair is not an indexed dataset, or has ids of another tokenizer.
    """
    # Check before anything is linked.
    shard = indexed_dataset.read(pair.prefix, pair.remedy)
    _check_index(pair, shard)
    _check_ids(pair, shard, vocab_size)
    checked, ended = _document_ends(shard, end_of_document)

    # Link under a temporary name, so that no reader meets half a pair.
    records: dict[str, LinkedFileRecord] = {}
    for suffix, file in pair.files.items():
        name = f"{pair.source}/{pair.name}{suffix}"
        link = folder / placed(name, in_parts)
        link.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_path(link)
        temporary.symlink_to(file)
        temporary.replace(link)
        records[name] = {
            "bytes": file.stat().st_size,
            "identity": link_identity(link.name, file),
            "samples": sample_checksum(file),
            "link_to": str(file),
        }

    # Report what the stage counts.
    documents = len(shard.documents) - 1
    report_progress(1, documents=documents, tokens=len(shard.ids))
    return {
        "documents": documents,
        "tokens": len(shard.ids),
        "text_bytes": 0,
        "dtype": shard.ids.dtype.name,
        "documents_checked": checked,
        "documents_ended": ended,
        "files": records,
    }


def types_of_sources(
    pairs: Mapping[str, Sequence[Pair]],
    results: Mapping[str, LinkedPair],
    tokenizer: TokenizerCounts,
) -> dict[str, str]:
    """Return the type of each source's ids, and warn of documents that do not end as ours do.

    Raises DataError where the pairs of one source differ in their type: a source is read as one
    array.
    """
    dtypes: dict[str, str] = {}
    for source, of_source in pairs.items():
        # Collect the results of this source's pairs.
        by_dtype: dict[str, list[Pair]] = {}
        checked = 0
        ended = 0
        for pair in of_source:
            result = results[f"{source}~{pair.name}"]
            by_dtype.setdefault(result["dtype"], []).append(pair)
            checked += result["documents_checked"]
            ended += result["documents_ended"]

        # A source is read as one array, so its pairs need one type.
        if len(by_dtype) > 1:
            example = " and ".join(
                f"{dtype} ({same[0].prefix})" for dtype, same in sorted(by_dtype.items())
            )
            raise DataError(
                f"sources.{source}: its pairs hold ids of different types, {example}. Make a "
                "source of each type (data.mixture weighs them)."
            )
        dtypes[source] = next(iter(by_dtype))

        # Documents without an end can be trained on, but seldom on purpose.
        if ended < checked:
            warn(
                f"source {source}: {checked - ended:,} of {checked:,} documents looked at do not "
                f"end with the tokenizer's end-of-document id, {tokenizer['end_of_document_id']}. "
                "They are trained on as they are; nothing tells the model where they end. Were "
                "they made with --append-eod, and by tokenizer.path?"
            )
    return dtypes


def link_identity(name: str, file: Path) -> str:
    """Return a text in place of a checksum, which changes when the file is replaced or written to.

    The text does not depend on the folder of the file. `name`: name of the link to the file.
    """
    status = file.stat()
    return "name, size, time: " + fingerprint([name, status.st_size, status.st_mtime_ns])


def _check_index(pair: Pair, shard: Shard) -> None:
    """Raise DataError unless the document entries cover all sequences in order."""
    sequences = len(shard.lengths)
    documents = shard.documents
    blocks = range(0, len(documents), BLOCK_DOCUMENTS)
    is_sorted = all(
        (np.diff(documents[start : start + BLOCK_DOCUMENTS + 1]) >= 0).all() for start in blocks
    )
    if len(documents) == 0 or documents[0] != 0 or documents[-1] != sequences or not is_sorted:
        raise DataError(
            f"{pair.files['.idx']}: its document index does not rise from 0 to its number of "
            f"sequences, {sequences}. {pair.remedy}"
        )


def _check_ids(pair: Pair, shard: Shard, vocab_size: int) -> None:
    """Raise DataError for an id that the tokenizer does not have; reads SAMPLED_PLACES stretches.

    Only training finds a wrong id outside these stretches.
    """
    last = max(len(shard.ids) - SAMPLED_IDS, 0)
    for place in range(SAMPLED_PLACES):
        start = last * place // (SAMPLED_PLACES - 1)
        ids = shard.ids[start : start + SAMPLED_IDS]
        if len(ids) == 0:
            continue
        smallest = int(ids.min())
        largest = int(ids.max())
        wrong = None
        if largest >= vocab_size:
            wrong = largest
        elif smallest < 0:
            wrong = smallest
        if wrong is not None:
            raise DataError(
                f"{pair.files['.bin']}: holds the id {wrong:,}, but the tokenizer has the ids 0 to "
                f"{vocab_size - 1:,}. Set tokenizer.path to the tokenizer that made the pair. "
                f"{pair.remedy}"
            )


def _document_ends(shard: Shard, end_of_document: int) -> tuple[int, int]:
    """Return how many documents were looked at, and how many of them end with the id."""
    count = min(len(shard.documents) - 1, SAMPLED_DOCUMENTS)
    places = np.arange(count) * (len(shard.documents) - 1) // max(count, 1)
    lasts = shard.documents[places + 1] - 1
    # A document without sequences, or with an empty last one, has no last id.
    has_sequences = lasts >= shard.documents[places]
    lasts = lasts[has_sequences]
    lasts = lasts[shard.lengths[lasts] > 0]
    ends = shard.offsets[lasts] // shard.ids.itemsize + shard.lengths[lasts] - 1
    return count, int((shard.ids[ends] == end_of_document).sum())
