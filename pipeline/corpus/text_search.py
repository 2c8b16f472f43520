"""The search of all documents for n-grams of given texts, such as the questions of a task.

Reads the shards that the manifest of `prepare` lists; writes, for each source and each set of texts,
`data_dir/contamination/<source>/<name>-<key>.parquet` with the passages that were found. The key is
a hash of the source's documents and of the texts, so nothing is searched twice: a new set is searched
for alone, a new source is searched alone. The shards are the work items.
"""

import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.run_sections import Executor
from pipeline.corpus.documents import (
    check_files,
    listed_shards,
    naming_damaged_shard,
    shard_footer,
)
from pipeline.corpus.ngram_index import NgramIndex, Passages
from pipeline.corpus.parquet_tables import read_parquet, write_parquet
from pipeline.corpus.selecting.kept_documents import KeptDocuments, KeptTexts
from pipeline.errors import DELETE_FIRST, LeaseError
from pipeline.logs import note
from pipeline.store import versions
from pipeline.store.contamination_files import SearchFolder
from pipeline.store.files import file_record, fingerprint
from pipeline.store.lease import Lease, living_holder
from pipeline.store.manifests.shard_places import logical_name, source_of, stem_of
from pipeline.store.records import FileRecord, ListedFile
from pipeline.work.executor import run_tasks
from pipeline.work.task import Task, report_progress
from pipeline.work.threads import map_ahead
from pipeline.work.workers import workers

TEXTS = pa.schema([("set", pa.int32()), ("text", pa.large_string())])
FOUND = pa.schema(
    [
        ("text", pa.int64()),
        ("shard", pa.string()),
        ("row", pa.int64()),
        ("document_bytes", pa.int64()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("grams", pa.int64()),
    ]
)
"""Columns of the passages that were found; `FoundPassage` describes them."""
FOUND_IN_SHARD = FOUND.insert(0, pa.field("set", pa.int32()))
"""Columns of the passages in one shard: `set` is the set of the text."""
SEARCH_AGAIN = "Run `pipeline evaluate` again."
"""Remedy for a file of the search that is missing or damaged."""
MOST_REFUSALS = 3
"""Times in a row that a folder may be refused although nobody holds it: it cannot be written."""
WAIT_SECONDS = 1.0
"""Time between two looks whether another command still searches."""


@dataclass(frozen=True)
class SearchedTexts:
    """A set of texts to search for."""

    name: str
    """Name of the set, part of a file name."""
    texts: tuple[str, ...]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the texts in their order."""
        return fingerprint(self.texts)


class FoundPassage(TypedDict):
    """A passage of a document that consists of n-grams of a text."""

    text: int
    """Number of the text in its set."""
    shard: str
    """Stem of the shard's name."""
    row: int
    """Row of the document in the shard."""
    document_bytes: int
    """Size of the document's text in UTF-8."""
    start: int
    """First byte of the passage in the document's text."""
    end: int
    """Byte after the last one of the passage."""
    grams: int
    """Number of different n-grams of the text in the passage."""


class SearchedShard(TypedDict):
    """Result of the work item of one shard."""

    documents: int
    text_bytes: int
    passages: int
    files: Mapping[str, FileRecord]
    """Path below the folder of the search -> size and checksum."""


@dataclass(frozen=True)
class _SourceDocuments:
    """The documents of one source, as the manifest of `prepare` lists them."""

    source: str
    shards: Mapping[str, ListedFile]
    """Path below the folder of documents -> record."""
    contents: Mapping[str, str]
    """Path of a shard -> what identifies that which is read of it."""
    key: str
    """Hash of what is read of the documents."""

    def passages(self, folder: SearchFolder, texts: SearchedTexts) -> Path:
        """Return the file with the passages that hold a set of texts."""
        key = fingerprint([versions.SEARCH, self.key, texts.fingerprint])
        return folder.passages(self.source, texts.name, key)


@dataclass(frozen=True)
class _SourceSearch:
    """What is to be searched for in one source."""

    documents: _SourceDocuments
    sets: tuple[SearchedTexts, ...]

    @cached_property
    def key(self) -> str:
        """Hash of the sets of texts."""
        return fingerprint([[texts.name, texts.fingerprint] for texts in self.sets])


def search_documents(
    documents: KeptDocuments,
    sources: Sequence[str],
    sets: Sequence[SearchedTexts],
    executor: Executor,
    purpose: str,
) -> None:
    """Search the documents of sources, held-out ones too, for sets of texts, where not yet done.

    Waits while another command searches. `purpose`: this command, for others who wait. Raises
    DataError where documents are missing or damaged, LeaseError where nothing can be written.
    """
    folder = SearchFolder(documents.data_dir).path
    has_waited = False
    refusals = 0
    while _missing_searches(documents, sources, sets):
        try:
            with Lease(folder, purpose):
                # Another command may have searched before this one got the lease.
                missing = _missing_searches(documents, sources, sets)
                if missing:
                    _search(documents, missing, executor)
        except LeaseError:
            # The other command may have ended between these lines, but not time and again.
            refusals += 1
            if living_holder(folder) is not None:
                refusals = 0
            if refusals == MOST_REFUSALS:
                raise
            if not has_waited and not refusals:
                note(f"{folder}: waiting for another command that searches documents")
                has_waited = True
            time.sleep(WAIT_SECONDS)


def bytes_to_search(
    documents: KeptDocuments, sources: Sequence[str], sets: Sequence[SearchedTexts]
) -> int:
    """Return the size of the shards that `search_documents` would read, in bytes on the disk."""
    return sum(
        record["bytes"]
        for search in _missing_searches(documents, sources, sets)
        for record in search.documents.shards.values()
    )


def found_passages(
    documents: KeptDocuments, source: str, texts: SearchedTexts
) -> list[FoundPassage]:
    """Return the passages of a source's documents that hold n-grams of the texts.

    Sorted by text, shard, row and place. Raises DataError where `search_documents` was not called.
    """
    folder = SearchFolder(documents.data_dir)
    path = _documents_at(documents, source, documents.version).passages(folder, texts)
    return read_parquet(path, FOUND, f"{DELETE_FIRST}{SEARCH_AGAIN}").to_pylist()


@lru_cache(maxsize=64)
def _documents_at(
    documents: KeptDocuments, source: str, version: tuple[int, ...]
) -> _SourceDocuments:
    """Return the documents of a source in one version of them: a hash of many shards."""
    contents = documents.contents()
    shards = {
        name: record
        for name, record in listed_shards(documents.folder).items()
        if source_of(name) == source
    }
    key = fingerprint([[logical_name(name), contents[name]] for name in shards])
    return _SourceDocuments(source, shards, {name: contents[name] for name in shards}, key)


def _missing_searches(
    documents: KeptDocuments, sources: Sequence[str], sets: Sequence[SearchedTexts]
) -> list[_SourceSearch]:
    """Return the sources with the sets that have not been searched for there."""
    folder = SearchFolder(documents.data_dir)
    missing: list[_SourceSearch] = []
    for source in sources:
        of_source = _documents_at(documents, source, documents.version)
        waiting = tuple(texts for texts in sets if not of_source.passages(folder, texts).is_file())
        if waiting:
            missing.append(_SourceSearch(of_source, waiting))
    return missing


def _search(
    documents: KeptDocuments, searches: Sequence[_SourceSearch], executor: Executor
) -> None:
    """Search every shard, then write the passages of each source and set into one file."""
    # A folder for this very search: what is done of it is kept when it is interrupted.
    folder = SearchFolder(documents.data_dir)
    key = fingerprint(
        [[search.documents.source, search.documents.key, search.key] for search in searches]
    )
    unfinished = folder.unfinished(key)
    for other in folder.unfinished_searches():
        if other != unfinished:
            shutil.rmtree(other, ignore_errors=True)

    # The texts lie in files, which each worker reads once.
    tasks: list[Task] = []
    for search in searches:
        check_files(documents.folder, search.documents.shards)
        texts = SearchFolder.texts(unfinished, search.key)
        write_parquet(_table_of_texts(search.sets), texts)
        tasks += _shard_tasks(documents, unfinished, search, texts)
    with workers(executor) as crew:
        results: dict[str, SearchedShard] = run_tasks(
            tasks, unfinished, crew, "search for the tasks' questions"
        )

    # Few documents hold a text that is searched for, so what was found is small.
    for search in searches:
        names = [_task_name(name) for name in search.documents.shards]
        parts = [unfinished / file for name in names for file in results[name]["files"]]
        found = pa.concat_tables(
            [
                FOUND_IN_SHARD.empty_table(),
                *(read_parquet(part, FOUND_IN_SHARD, SEARCH_AGAIN) for part in parts),
            ]
        )
        for number, texts_of_set in enumerate(search.sets):
            is_of_set = pc.call_function("equal", [found["set"], pa.scalar(number, pa.int32())])
            of_set = found.filter(is_of_set).select(FOUND.names)
            order = [(name, "ascending") for name in ("text", "shard", "row", "start")]
            path = search.documents.passages(folder, texts_of_set)
            write_parquet(of_set.sort_by(order), path)
    shutil.rmtree(unfinished, ignore_errors=True)


def _table_of_texts(sets: Sequence[SearchedTexts]) -> pa.Table:
    numbers = [number for number, texts in enumerate(sets) for _ in texts.texts]
    every_text = [text for texts in sets for text in texts.texts]
    return pa.table({"set": numbers, "text": every_text}, schema=TEXTS)


def _shard_tasks(
    documents: KeptDocuments, unfinished: Path, search: _SourceSearch, texts: Path
) -> Iterator[Task]:
    """Yield a work item for each shard of a source."""
    for name, record in search.documents.shards.items():
        shard = documents.folder / name
        output = SearchFolder.shard(unfinished, name)
        yield Task(
            name=_task_name(name),
            function=search_shard,
            arguments={
                "kept": documents,
                "shard": shard,
                "texts": texts,
                "output": output,
                "unfinished": unfinished,
            },
            fingerprint=fingerprint([versions.SEARCH, search.documents.contents[name], search.key]),
            size=record["bytes"],
        )


def _task_name(shard: str) -> str:
    return f"{source_of(shard)}~{stem_of(shard)}"


def search_shard(
    kept: KeptDocuments, shard: Path, texts: Path, output: Path, unfinished: Path
) -> SearchedShard:
    """Search what is read of one shard; write the passages that hold a text to `output`.

    `texts`: Parquet file of the texts to search for; `unfinished`: the folder of the search.
    """
    index = _index_of(texts)
    groups = shard_footer(shard).num_row_groups
    parts = [FOUND_IN_SHARD.empty_table()]
    documents = 0
    text_bytes = 0
    with naming_damaged_shard(shard):
        contents = map_ahead(partial(kept.texts_of_group, shard), range(groups))
        for group, content in enumerate(contents, 1):
            found = index.ngrams.find(content.texts)
            parts.append(_table_of_passages(index, found, content, shard.stem))
            documents += len(content.texts)
            text_bytes += sum(map(len, content.texts))
            report_progress(group / groups, documents=documents, text_bytes=text_bytes)

    # A shard without any passage has a file too.
    found_in_shard = pa.concat_tables(parts)
    write_parquet(found_in_shard, output)
    return {
        "documents": documents,
        "text_bytes": text_bytes,
        "passages": found_in_shard.num_rows,
        "files": {output.relative_to(unfinished).as_posix(): file_record(output)},
    }


@dataclass(frozen=True)
class _TextsIndex:
    """The index of several sets of texts."""

    ngrams: NgramIndex
    set: np.ndarray
    """`(texts,) int32`: set of each text."""
    number: np.ndarray
    """`(texts,) int64`: number of each text in its set."""


_index_lock = threading.Lock()
"""Held while an index is built, so that the threads of a process build one together."""


def _index_of(texts: Path) -> _TextsIndex:
    """Return the index of a file of texts, built once in each process."""
    with _index_lock:
        return _build_index(texts)


@lru_cache(maxsize=2)
def _build_index(texts: Path) -> _TextsIndex:
    table = read_parquet(texts, TEXTS, SEARCH_AGAIN)
    sets = table["set"].to_numpy()
    first_of_set = np.searchsorted(sets, sets)
    return _TextsIndex(
        NgramIndex(text.as_py() for text in table["text"]),
        sets,
        np.arange(len(sets)) - first_of_set,
    )


def _table_of_passages(
    index: _TextsIndex, found: Passages, documents: KeptTexts, stem: str
) -> pa.Table:
    """Return what was found in a row group as rows of FOUND_IN_SHARD."""
    sizes = np.array([len(text) for text in documents.texts], np.int64)
    return pa.table(
        {
            "set": index.set[found.text],
            "text": index.number[found.text],
            "shard": [stem] * len(found.text),
            "row": documents.rows[found.document],
            "document_bytes": sizes[found.document],
            "start": found.start,
            "end": found.end,
            "grams": found.grams,
        },
        schema=FOUND_IN_SHARD,
    )
