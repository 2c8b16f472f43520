"""The questions of a public task as texts, without what all of them have in common.

Reads `items.parquet` of the task in `evaluation.tasks_dir`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import TypedDict

import pyarrow as pa

from pipeline.corpus.folded_words import word_places, words_of
from pipeline.corpus.parquet_tables import read_parquet
from pipeline.corpus.text_search import SearchedTexts
from pipeline.store.tasks_folder import TasksFolder

FEWEST_TO_COMPARE = 10
"""Questions below which what they have in common may be theirs, and is not taken for a template."""
ITEMS = pa.schema(
    [
        ("id", pa.int64()),
        ("hash", pa.string()),
        ("prompt", pa.large_string()),
        ("answers", pa.list_(pa.large_string())),
        ("right", pa.list_(pa.int32())),
    ]
)
"""Columns of `items.parquet`; `TaskItem` describes them."""


class TaskItem(TypedDict):
    """A row of `items.parquet`: one scored question."""

    id: int
    """Position in the split that is scored."""
    hash: str
    """lm-eval's hash of the question's row."""
    prompt: str
    """Text before the answer, without examples. Empty where each answer has its own text before it
    (Winogrande): then `answers` hold the whole."""
    answers: list[str]
    """Answers as they are scored, with the delimiter before them; the right text alone where the
    model writes."""
    right: list[int]
    """Positions of the right answers."""


@dataclass(frozen=True)
class TaskItems:
    """The questions of a task."""

    task: str
    items: Sequence[TaskItem]

    @cached_property
    def texts(self) -> list[str]:
        """The text of each question with its right answer, as documents are searched for it.

        Left out is the task's template: words with which all of them begin, such as `Question:` or
        examples that are always the same, and words with which all prompts end, such as `Answer:`.
        """
        prompts = [item["prompt"] for item in self.items]
        answers = [right_answer(item) for item in self.items]
        if len(prompts) < FEWEST_TO_COMPARE:
            return [f"{prompt} {answer}" for prompt, answer in zip(prompts, answers, strict=True)]
        words = [words_of(prompt) for prompt in prompts]
        before = _common_beginning(
            [prompt + words_of(answer) for prompt, answer in zip(words, answers, strict=True)]
        )
        after = _common_beginning([prompt[before:][::-1] for prompt in words])
        return [
            _without_words(prompt, before, after)
            + " "
            + _without_words(answer, max(0, before - len(prompt_words)), 0)
            for prompt, answer, prompt_words in zip(prompts, answers, words, strict=True)
        ]

    @cached_property
    def words(self) -> list[list[str]]:
        """The words of each of `texts`."""
        # One object for each different word.
        same: dict[str, str] = {}
        return [_shared(words_of(text), same) for text in self.texts]

    @cached_property
    def searched(self) -> SearchedTexts:
        """The texts to search documents for."""
        return SearchedTexts(self.task, tuple(self.texts))


def read_item_texts(folder: TasksFolder, task: str, remedy: str) -> TaskItems:
    """Return the questions of a task.

    Raises DataError, which ends with `remedy`, for a missing or damaged file.
    """
    table = read_parquet(folder.items(task), ITEMS, remedy)
    return TaskItems(task, table.to_pylist())


def _shared(words: Sequence[str], same: dict[str, str]) -> list[str]:
    """Return equal words as the objects in `same`, to which new ones are added."""
    return [same.setdefault(word, word) for word in words]


def _without_words(text: str, first: int, last: int) -> str:
    """Return a text without its `first` first and its `last` last words."""
    if not first and not last:
        return text
    starts, ends = word_places(text)
    if first + last >= len(starts):
        return ""
    return text[starts[first] : ends[len(ends) - last - 1]]


def _common_beginning(lists: Sequence[Sequence[str]]) -> int:
    """Return the number of words with which all lists begin."""
    together = zip(*lists, strict=False)
    return sum(1 for _ in takewhile(lambda words: len(set(words)) == 1, together))


def right_answer(item: TaskItem) -> str:
    """Return the first right answer; "" for a question without a known one."""
    if not item["right"]:
        return ""
    return item["answers"][item["right"][0]]
