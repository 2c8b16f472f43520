"""The n-grams of questions that many different texts of a source hold: common phrases, which count nowhere.

Common phrases (proverbs, licences, headings of exercises) stand in many documents and show nothing;
Brown et al. 2020 (arXiv:2005.14165), appendix C, ignore 13-grams of more than 10 documents. Copies of
one text count once here: a page that was copied often is no common phrase, and one copy of it is read.
Reads the annotations of a source's shards; writes a file for each shard, then one for the source.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypedDict

import pyarrow as pa

from pipeline.corpus.annotating.part import list_of
from pipeline.corpus.annotating.text_hash import HASH_OF_TEXT
from pipeline.corpus.decontaminating.decontamination_folder import DecontaminationFolder
from pipeline.corpus.decontaminating.question_index import question_index
from pipeline.corpus.decontaminating.searched_tasks import SearchedTasks
from pipeline.corpus.decontaminating.shared_grams import held_questions
from pipeline.corpus.near_duplicates.compared_shards import read_comparison
from pipeline.corpus.near_duplicates.shard_inputs import annotation_column
from pipeline.corpus.parquet_tables import read_parquet, write_parquet
from pipeline.store.curation.selection_folder import SELECT_AGAIN
from pipeline.store.records import FileRecord

HELD_GRAMS = pa.schema(
    [
        pa.field("gram", pa.large_string(), nullable=False),
        pa.field("documents", pa.int64(), nullable=False),
        pa.field("texts", list_of(HASH_OF_TEXT.type)),
    ]
)
"""An n-gram, its words joined by blanks; the number of a shard's documents that hold it; the smallest
hashes of their different texts, at most one more than a common phrase needs. Sorted by n-gram."""
COMMON_GRAMS = pa.schema(
    [
        pa.field("gram", pa.large_string(), nullable=False),
        pa.field("documents", pa.int64(), nullable=False),
        pa.field(
            "questions",
            list_of(pa.struct([("task", pa.string()), ("item", pa.int64())])),
        ),
    ]
)
"""An n-gram that is left out in a source; the number of the source's documents that hold it, copies
included; the questions whose n-gram it is. Sorted by n-gram."""


class HeldGrams(TypedDict):
    """Result of the work item of one shard."""

    documents: int
    """Documents that hold an n-gram of a question."""
    files: Mapping[str, FileRecord]


class CommonGrams(TypedDict):
    """Result of the work item of one source."""

    common: int
    """n-grams that are left out in this source."""
    files: Mapping[str, FileRecord]


def write_held_grams(
    table: Path, shard: int, tasks: SearchedTasks, limit: int, folder: Path
) -> HeldGrams:
    """Write how many documents of a shard hold each n-gram of a question, and in which texts.

    `limit`: different texts that may hold an n-gram which is no common phrase.
    """
    own = read_comparison(table).shards[shard]
    counts: Counter[str] = Counter()
    texts: dict[str, set[bytes]] = {}
    documents = 0
    hashes = annotation_column(own, HASH_OF_TEXT)
    for _, held in held_questions(own, tasks):
        documents += 1
        text_hash: bytes = hashes[held[0].row].as_py()
        grams = {each.gram for question in held for each in question.grams}
        counts.update(grams)
        for gram in grams:
            of_gram = texts.setdefault(gram, set())
            of_gram.add(text_hash)
            # The smallest ones, so that the file does not depend on the order of the rows.
            if len(of_gram) > limit + 1:
                of_gram.remove(max(of_gram))
    grams_in_order = sorted(counts)
    columns = {
        "gram": grams_in_order,
        "documents": [counts[gram] for gram in grams_in_order],
        "texts": [sorted(texts[gram]) for gram in grams_in_order],
    }
    step = DecontaminationFolder(folder).grams
    path = step.of_shard(own.name)
    record = write_parquet(pa.table(columns, schema=HELD_GRAMS), path)
    return {"documents": documents, "files": {step.name(path): record}}


def write_common_grams(
    table: Path, source: str, tasks: SearchedTasks, limit: int, folder: Path
) -> CommonGrams:
    """Write the n-grams that more than `limit` different texts of a source hold."""
    files = DecontaminationFolder(folder)
    shards = [each for each in read_comparison(table).shards if each.source == source]
    common = _common_of(
        (
            read_parquet(files.grams.of_shard(shard.name), HELD_GRAMS, SELECT_AGAIN)
            for shard in shards
        ),
        limit,
    )
    questions: dict[str, list[dict[str, str | int]]] = {gram: [] for gram in common}
    if common:
        for task, item, grams in question_index(tasks).grams_of_questions():
            for gram in sorted(grams & questions.keys()):
                questions[gram].append({"task": task, "item": item})
    grams_in_order = sorted(common)
    columns = {
        "gram": grams_in_order,
        "documents": [common[gram] for gram in grams_in_order],
        "questions": [questions[gram] for gram in grams_in_order],
    }
    path = files.common_of_source(source)
    record = write_parquet(pa.table(columns, schema=COMMON_GRAMS), path)
    return {"common": len(common), "files": {path.name: record}}


def _common_of(shards: Iterable[pa.Table], limit: int) -> dict[str, int]:
    """Return n-gram -> number of documents, of those that more than `limit` different texts hold.

    `shards`: tables of HELD_GRAMS. Each has enough hashes to tell: all, or more than `limit`.
    """
    documents: Counter[str] = Counter()
    texts: dict[str, set[bytes]] = {}
    common: set[str] = set()
    for shard in shards:
        for row in shard.to_pylist():
            gram: str = row["gram"]
            documents[gram] += row["documents"]
            if gram in common:
                continue
            of_gram = texts.setdefault(gram, set())
            of_gram.update(row["texts"])
            if len(of_gram) > limit:
                common.add(gram)
                del texts[gram]
    return {gram: documents[gram] for gram in common}


def read_common_grams(path: Path) -> pa.Table:
    """Return the n-grams that are left out in a source, of schema `COMMON_GRAMS`.

    Raises DataError for a damaged file.
    """
    return read_parquet(path, COMMON_GRAMS, SELECT_AGAIN)
