"""The n-grams that a document shares with a question.

A passage that the annotations name is cut into the n-grams of its question: 13 words each, or all words
of a shorter question. Reads the documents and annotations of a shard.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.corpus.decontaminating.contamination_part import HITS
from pipeline.corpus.decontaminating.question_index import (
    QuestionIndex,
    QuestionPassage,
    question_index,
)
from pipeline.corpus.decontaminating.searched_tasks import SearchedTasks
from pipeline.corpus.folded_words import word_places, words_of
from pipeline.corpus.near_duplicates.compared_shards import ComparedShard
from pipeline.corpus.near_duplicates.shard_inputs import (
    annotation_column,
    list_bounds,
    taking_part,
    texts_of_rows,
)


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

    @property
    def key(self) -> tuple[str, int]:
        """Task and item of the question."""
        return self.passage.task, self.passage.item


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
    # The words of the passage, with their places in the document.
    part = text[passage.start : passage.end]
    words = words_of(part)
    starts, ends = (places + passage.start for places in word_places(part))

    shared: list[SharedGram] = []
    for size, grams in index.grams_of(passage.task, passage.item).items():
        for first in range(len(words) - size + 1):
            gram = " ".join(words[first : first + size])
            if size and gram in grams:
                end = int(ends[first + size - 1])
                shared.append(SharedGram(gram, int(starts[first]), end, first, size))
    return tuple(sorted(shared, key=lambda each: (each.first_word, each.words)))
