"""The search for documents by their original ids and urls.

Reads the `.keys` file that `prepare` writes beside each shard, and the documents found.
"""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from pipeline.corpus.documents import (
    SPLITS,
    check_files,
    listed_name,
    listed_shards,
    read_documents,
    shard_footer,
    shard_paths,
)
from pipeline.corpus.key_file import find_rows, keys_path, original_keys, unusable_index

DOCUMENT_ID = re.compile(rf"([^/]+)/((?:{'|'.join(SPLITS)})_\w+)/(0|[1-9][0-9]{{0,9}})")
THREADS = 16
"""Number of threads that look for an id or url in shards; they mostly wait for the file system."""
SHARDS_AT_ONCE = 64
"""Shards that a thread searches before it takes the next ones."""


def find_documents(documents_dir: Path, key: str, sources: Sequence[str]) -> list[str]:
    """Return the ids (`source/shard/row`) of all documents with this original id or url.

    They are in the order of the corpus: by source as given, split, shard and row. The key may also
    be the id of a document, which is returned if that document exists. Raises DataError where a
    shard or its `.keys` file is missing or damaged.
    """
    if _is_document(documents_dir, key, sources):
        return [key]
    paths = [
        (source, path)
        for source in sources
        for split in SPLITS
        for path in shard_paths(documents_dir, source, split)
    ]
    parts = [
        paths[start : start + SHARDS_AT_ONCE] for start in range(0, len(paths), SHARDS_AT_ONCE)
    ]
    with ThreadPoolExecutor(THREADS) as pool:
        ids_by_part = pool.map(partial(_find_in_shards, key=key), parts)
        return [identity for ids in ids_by_part for identity in ids]


def _is_document(documents_dir: Path, key: str, sources: Sequence[str]) -> bool:
    """Return whether a key is the id of a document that exists."""
    parts = DOCUMENT_ID.fullmatch(key)
    if not parts or parts[1] not in sources:
        return False
    name = listed_name(documents_dir, parts[1], parts[2])
    if name is None:
        return False
    check_files(documents_dir, {name: listed_shards(documents_dir)[name]})
    return int(parts[3]) < shard_footer(documents_dir / name).num_rows


def _find_in_shards(shards: Sequence[tuple[str, Path]], key: str) -> list[str]:
    return [identity for source, path in shards for identity in _find_in_shard(source, path, key)]


def _find_in_shard(source: str, path: Path, key: str) -> list[str]:
    rows = find_rows(keys_path(path), key)
    if not rows:
        return []
    try:
        metas = [document["meta"] for document in read_documents(path, rows, ["meta"])]
    except IndexError as error:
        raise unusable_index(keys_path(path), f"does not fit its shard ({error})") from None
    # Other keys may have the same hash.
    return [
        f"{source}/{path.stem}/{row}"
        for row, meta in zip(rows, metas, strict=True)
        if key in original_keys(meta.encode())
    ]
