"""The n-grams that a document shares with a question, and those that many documents hold.

A passage that the annotations name is cut into the n-grams of its question: 13 words each, or all words
of a shorter question. Common phrases (proverbs, licences, headings of exercises) stand in many documents
and show nothing; Brown et al. 2020, appendix C, ignore 13-grams of more than 10 documents.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypedDict

import pyarrow as pa

from pipeline.corpus.decontaminating.contamination_part import HITS
from pipeline.corpus.decontaminating.decontamination_folder import DecontaminationFolder
from pipeline.corpus.decontaminating.question_index import (
    QuestionIndex,
    QuestionPassage,
    question_index,
)
from pipeline.corpus.decontaminating.searched_tasks import SearchedTasks
from pipeline.corpus.folded_words import NON_SPACE, folded_word
from pipeline.corpus.near_duplicates.compared_shards import (
    ComparedShard,
    read_comparison,
)
from pipeline.corpus.near_duplicates.shard_inputs import (
    annotation_column,
    list_bounds,
    taking_part,
    texts_of_rows,
)
from pipeline.corpus.ngram_index import GRAM_WORDS
from pipeline.corpus.parquet_tables import read_parquet, write_parquet
from pipeline.store.curation.selection_folder import SELECT_AGAIN
from pipeline.store.records import FileRecord

GRAMS = pa.schema(
    [
        pa.field("gram", pa.large_string(), nullable=False),
        pa.field("documents", pa.int64(), nullable=False),
    ]
)
"""An n-gram, its words joined by blanks, and the number of documents that hold it; sorted by n-gram."""


@dataclass(frozen=True)
class SharedGram:
    """An n-gram of a question in a document."""

    gram: str
    start: int
    """First character in the document."""
    end: int
    """Character after its last one."""
    first_word: int
    """Number of its first word among those of the passage."""
    words: int


@dataclass(frozen=True)
class HeldQuestion:
    """A passage of a document, with the n-grams of its question in it, in order."""

    row: int
    passage: QuestionPassage
    grams: tuple[SharedGram, ...]


class CountedGrams(TypedDict):
    """Result of the work item of one shard."""

    documents: int
    """Documents that hold an n-gram of a question."""
    files: Mapping[str, FileRecord]


class CommonGrams(TypedDict):
    """Result of the work item of one source."""

    common: int
    """n-grams that are left out in this source."""
    files: Mapping[str, FileRecord]


def held_questions(
    shard: ComparedShard, tasks: SearchedTasks
) -> Iterator[tuple[str, list[HeldQuestion]]]:
    """Yield the text of each document of a shard that takes part and holds a question, with all that
    it holds, by row.

    Raises DataError where documents or annotations are damaged.
    """
    column = annotation_column(shard, HITS)
    bounds = list_bounds(column)
    takes_part = taking_part(shard)
    rows = ((bounds[1:] > bounds[:-1]) & takes_part).nonzero()[0]
    if not len(rows):
        return
    index = question_index(tasks)
    for row, text in texts_of_rows(shard, rows):
        held = [QuestionPassage(**hit) for hit in column[row].as_py()]
        yield text, [HeldQuestion(row, each, shared_grams(text, each, index)) for each in held]


def shared_grams(
    text: str, passage: QuestionPassage, index: QuestionIndex
) -> tuple[SharedGram, ...]:
    """Return the n-grams of a passage's question in the passage, in order."""
    own = _grams_of(tuple(index.words_of(passage.task, passage.item)))
    size = min(GRAM_WORDS, own.words)
    places = [
        (folded_word(match[0]), match.start(), match.end())
        for match in NON_SPACE.finditer(text, passage.start, passage.end)
        if folded_word(match[0])
    ]
    shared: list[SharedGram] = []
    for first in range(len(places) - size + 1):
        part = places[first : first + size]
        gram = " ".join(word for word, _, _ in part)
        if gram in own.grams:
            shared.append(SharedGram(gram, part[0][1], part[-1][2], first, size))
    return tuple(shared)


@dataclass(frozen=True)
class _QuestionGrams:
    words: int
    grams: frozenset[str]


@lru_cache(maxsize=1024)
def _grams_of(words: tuple[str, ...]) -> _QuestionGrams:
    size = min(GRAM_WORDS, len(words))
    starts = range(len(words) - size + 1)
    grams = frozenset(" ".join(words[start : start + size]) for start in starts)
    return _QuestionGrams(len(words), grams)


def count_grams(table: Path, shard: int, tasks: SearchedTasks, folder: Path) -> CountedGrams:
    """Write how many documents of a shard hold each n-gram of a question."""
    own = read_comparison(table).shards[shard]
    counts: Counter[str] = Counter()
    documents = 0
    for _, held in held_questions(own, tasks):
        documents += 1
        counts.update({each.gram for question in held for each in question.grams})
    step = DecontaminationFolder(folder).grams
    path = step.of_shard(own.name)
    return {"documents": documents, "files": {step.name(path): write_parquet(_table(counts), path)}}


def write_common_grams(table: Path, source: str, limit: int, folder: Path) -> CommonGrams:
    """Write the n-grams that more than `limit` documents of a source hold, with their number."""
    files = DecontaminationFolder(folder)
    counts: Counter[str] = Counter()
    for shard in read_comparison(table).shards:
        if shard.source == source:
            counts.update(read_grams(files.grams.of_shard(shard.name)))
    common = Counter({gram: count for gram, count in counts.items() if count > limit})
    path = files.common_of_source(source)
    record = write_parquet(_table(common), path)
    return {"common": len(common), "files": {path.name: record}}


def read_grams(path: Path) -> dict[str, int]:
    """Return n-gram -> number of documents. Raises DataError for a damaged file."""
    table = read_parquet(path, GRAMS, SELECT_AGAIN)
    return dict(zip(table["gram"].to_pylist(), table["documents"].to_pylist(), strict=True))


def _table(counts: Counter[str]) -> pa.Table:
    grams = sorted(counts)
    return pa.table({"gram": grams, "documents": [counts[gram] for gram in grams]}, schema=GRAMS)
