"""All questions of some tasks in one index, and the passages of a document that consist of them.

A question of 13 words or more is found where a document holds 13 of them in a row, a shorter one that is
searched for as a whole (`ngram_index.py`). Reads the tasks' questions once in each process.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pipeline.corpus.annotating.number_blocks import sums_before
from pipeline.corpus.decontaminating.item_texts import TaskItems
from pipeline.corpus.decontaminating.searched_tasks import SearchedTasks
from pipeline.corpus.folded_words import spellings_of
from pipeline.corpus.ngram_index import FEWEST_WORDS, GRAM_WORDS, NgramIndex

GRAM = "13-gram"
WHOLE = "whole"


@dataclass(frozen=True)
class QuestionPassage:
    """A passage of a document that consists of n-grams of a question."""

    task: str
    item: int
    """Position of the question in the split that is scored."""
    kind: str
    """`13-gram`, or `whole` for a question of fewer words."""
    start: int
    """First character of the passage in the document."""
    end: int
    """Character after its last one."""


class QuestionIndex:
    """The questions of some tasks, ready to be looked up in documents."""

    def __init__(self, tasks: Sequence[TaskItems], fewest_words: int = FEWEST_WORDS) -> None:
        self._places = [(task, number) for task in tasks for number in range(len(task.items))]
        self._numbers = {
            (task.task, task.items[number]["id"]): place
            for place, (task, number) in enumerate(self._places)
        }
        texts = (text for task in tasks for text in task.searched.texts)
        self._index = NgramIndex(texts, fewest_words=fewest_words)

    @property
    def questions(self) -> int:
        """Number of questions."""
        return len(self._places)

    @property
    def too_short(self) -> int:
        """Number of questions with so few words that they are not searched for."""
        return int(np.count_nonzero(~self._index.is_searched))

    def grams_of(self, task: str, item: int) -> dict[int, frozenset[str]]:
        """Return the n-grams of a question: n -> words joined by blanks."""
        items, number = self._places[self._numbers[task, item]]
        return grams_of_text(items.texts[number])

    def grams_of_questions(self) -> Iterator[tuple[str, int, frozenset[str]]]:
        """Yield task, item and all n-grams of each question."""
        for task, number in self._places:
            grams = grams_of_text(task.texts[number])
            yield task.task, task.items[number]["id"], frozenset().union(*grams.values())

    def passages(self, text: str) -> list[QuestionPassage]:
        """Return the passages of a document, sorted by task and item in the index, then by place."""
        content = text.encode()
        found = self._index.find([content])
        if not len(found.text):
            return []
        # From bytes of UTF-8 to characters: every byte but those that continue one begins one.
        begins = (np.frombuffer(content, np.uint8) & 0xC0) != 0x80
        ends, place_of_end = np.unique(np.stack([found.start, found.end]), return_inverse=True)
        start_and_end = sums_before(begins, ends)[place_of_end]
        passages: list[QuestionPassage] = []
        for number, start, end in zip(
            found.text.tolist(),
            *start_and_end.tolist(),
            strict=True,
        ):
            items, place = self._places[number]
            kind = GRAM
            if self._index.word_counts[number] < GRAM_WORDS:
                kind = WHOLE
            item = items.items[place]["id"]
            passages.append(QuestionPassage(items.task, item, kind, start, end))
        return passages


def grams_of_text(text: str) -> dict[int, frozenset[str]]:
    """Return the n-grams of a question in all of its spellings: n -> words joined by blanks.

    n is 13, or the number of words of a shorter spelling.
    """
    grams: dict[int, frozenset[str]] = {}
    for words in spellings_of(text):
        size = min(GRAM_WORDS, len(words))
        starts = range(len(words) - size + 1)
        found = (" ".join(words[start : start + size]) for start in starts)
        grams[size] = grams.get(size, frozenset()).union(found)
    return grams


_lock = threading.Lock()
"""Held while an index is built, so that the threads of a process build one together."""


def question_index(tasks: SearchedTasks) -> QuestionIndex:
    """Return the index of the questions of tasks, built once in each process."""
    with _lock:
        return _built(tasks)


@lru_cache(maxsize=1)
def _built(tasks: SearchedTasks) -> QuestionIndex:
    return QuestionIndex(tasks.read(), tasks.fewest_words)
