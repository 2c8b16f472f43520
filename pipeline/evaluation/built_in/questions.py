"""Types of the questions of built-in few-shot tasks; puts right answers at random positions.

A task has two lists of questions: those that are scored, and the solved examples that are shown
before them. Reads and writes no file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

CHOICES = 4
"""Answers to choose from in every built-in task."""


@dataclass(frozen=True)
class Draft:
    """A question before its answers have an order."""

    context: str
    right: str
    wrong: tuple[str, ...]
    origin: str = ""
    """Origin of the question, for a reader: a document's id, or the kind of pattern."""


@dataclass(frozen=True)
class Question:
    """A context and its possible continuations; the harness joins them with one space."""

    context: str
    choices: tuple[str, ...]
    answer: int
    """Position of the right choice."""
    origin: str = ""


@dataclass(frozen=True)
class TaskData:
    """The scored questions of a task, and the solved examples that may be shown before them."""

    questions: list[Question]
    examples: list[Question]


def place_answers(drafts: Sequence[Draft], rng: Random) -> list[Question]:
    """Put each right answer at a random position; fewer drafts give the first of these questions.

    Each position is used once in every `CHOICES` questions.
    """
    questions: list[Question] = []
    positions: list[int] = []
    for draft in drafts:
        if not positions:
            positions = rng.sample(range(CHOICES), k=CHOICES)
        position = positions.pop()
        wrong = rng.sample(draft.wrong, k=len(draft.wrong))
        choices = (*wrong[:position], draft.right, *wrong[position:])
        questions.append(Question(draft.context, choices, position, draft.origin))
    return questions


def split_off_examples(
    drafts: Sequence[Draft], questions: int, examples: int, rng: Random
) -> TaskData:
    """Turn distinct drafts into examples and questions, no draft in both.

    There are fewer questions where the drafts run out.
    """
    of_examples = drafts[:examples]
    of_questions = drafts[examples : examples + questions]
    return TaskData(place_answers(of_questions, rng), place_answers(of_examples, rng))
