"""The task `heldout_cloze`: which of four texts really continues this context?

A passage is a context of about 96 characters, a single space, and the 72 characters after it. A
question is one passage with the continuations of three others, from other documents. Alternately
one or two of the three come from the passage's own source, so that knowing the source does not give
the answer away. All continuations follow a space in their own text and have the same length; no
passage is used twice. Five solved examples and a question have fewer than 1,210 characters, which
fit into 512 tokens if a token has 2.4 characters or more on average. Reads validation documents.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random

import xxhash

from pipeline.corpus.selecting.kept_documents import KeptDocuments
from pipeline.errors import DataError
from pipeline.evaluation.built_in.questions import CHOICES, Draft, TaskData, place_answers

CONTEXT_CHARACTERS = 96
"""Minimum length of a context, which ends at the next single space."""
SEARCH_CHARACTERS = 32
"""Maximum number of characters from the minimum length of a context to the space that ends it."""
CONTINUATION_CHARACTERS = 72
"""Length of every continuation."""
PASSAGES_PER_DOCUMENT = 8
"""Maximum number of passages of one document: a long document must not dominate the task."""
DOCUMENTS_PER_SOURCE = 5_000
"""Maximum number of documents that are read from each source."""
EXAMPLE_SHARE = 5
"""One document in this many is used for solved examples only, never for a question."""
LEAST_QUESTIONS = 20
"""Minimum number of questions: with fewer, the standard error of the score is above 0.1."""

_CUT = re.compile(r"(?<=\S) (?=\S)")


@dataclass(frozen=True)
class Passage:
    """A stretch of real text, in two parts that a single space joins."""

    source: str
    document: str
    context: str
    continuation: str


def heldout_cloze(
    documents: KeptDocuments, sources: Sequence[str], questions: int, examples: int, seed: int
) -> TaskData:
    """Return questions drawn evenly from the sources, and examples from other documents.

    Returns fewer where the held-out text runs out. A smaller number gives the first ones.
    """
    for_questions: dict[str, list[Passage]] = {}
    for_examples: dict[str, list[Passage]] = {}
    for source in sources:
        for_questions[source], for_examples[source] = _read_passages(documents, source)
    of_questions = list(islice(_drafts(for_questions, Random(seed)), questions))
    of_examples = list(islice(_drafts(for_examples, Random(seed + 1)), examples))
    return TaskData(
        place_answers(of_questions, Random(seed + 2)), place_answers(of_examples, Random(seed + 3))
    )


def refuse_too_few_questions(
    data: TaskData, documents: KeptDocuments, questions: int, shots: int
) -> None:
    """Raise DataError where held-out text gives too few questions, or too few examples.

    Required are `LEAST_QUESTIONS` (or `questions`, the number asked for, if smaller), and one
    example more than the `shots` that are shown.
    """
    least = min(questions, LEAST_QUESTIONS)
    least_examples = shots + 1
    if len(data.questions) < least or len(data.examples) < least_examples:
        raise DataError(
            f"{documents.folder}: the held-out documents give {len(data.questions)} cloze questions "
            f"and {len(data.examples)} solved examples; {least} and {least_examples} are the least "
            f"(each takes {CHOICES} passages of about "
            f"{CONTEXT_CHARACTERS + CONTINUATION_CHARACTERS} characters, not all from one "
            "document). Raise prepare.validation_fraction, or take heldout_cloze out of "
            "evaluation.tasks."
        )


def passages(text: str) -> Iterator[tuple[str, str]]:
    """Yield pairs of context and continuation that do not overlap; skip passages of symbols."""
    start = 0
    while True:
        cut = _CUT.search(text, start + CONTEXT_CHARACTERS)
        if cut is None:
            return
        if cut.start() > start + CONTEXT_CHARACTERS + SEARCH_CHARACTERS:
            start = cut.start() - CONTEXT_CHARACTERS  # the space is too far: begin later
        end = cut.end() + CONTINUATION_CHARACTERS
        if end > len(text):
            return
        context = text[start : cut.start()].lstrip()
        continuation = text[cut.end() : end]
        if _is_prose(context) and _is_prose(continuation) and not continuation[-1].isspace():
            yield context, continuation
        # The next passage begins at a whole word.
        start = next((i for i in range(end, len(text)) if text[i].isspace()), len(text))


def _is_prose(text: str) -> bool:
    """Return whether letters and digits make up more than half of a text."""
    return 2 * sum(map(str.isalnum, text)) > len(text)


def _read_passages(documents: KeptDocuments, source: str) -> tuple[list[Passage], list[Passage]]:
    """Return passages for questions and for examples; the documents' ids decide the order."""
    passages_of: dict[str, list[tuple[str, str]]] = {}
    for identity, text in islice(
        documents.iterate_texts(source, "validation"), DOCUMENTS_PER_SOURCE
    ):
        found = list(islice(passages(text), PASSAGES_PER_DOCUMENT))
        if found:
            passages_of[identity] = found
    order = sorted(
        passages_of, key=lambda identity: (xxhash.xxh3_64_intdigest(identity.encode()), identity)
    )
    for_questions: list[Passage] = []
    for_examples: list[Passage] = []
    seen: set[str] = set()
    # The first passages of all documents, then the second ones.
    for turn in range(PASSAGES_PER_DOCUMENT):
        for rank, identity in enumerate(order):
            if turn >= len(passages_of[identity]):
                continue
            context, continuation = passages_of[identity][turn]
            # Licence headers and the like stand in many documents.
            if {context, continuation} & seen:
                continue
            seen |= {context, continuation}
            passage = Passage(source, identity, context, continuation)
            if rank % EXAMPLE_SHARE == EXAMPLE_SHARE - 1:
                for_examples.append(passage)
            else:
                for_questions.append(passage)
    return for_questions, for_examples


def _drafts(pools: Mapping[str, list[Passage]], rng: Random) -> Iterator[Draft]:
    """Yield questions from the pools, sources in turn, until the passages run out.

    Each question has one or two wrong answers from its own source.
    """
    remaining = {source: list(reversed(pool)) for source, pool in pools.items()}
    number = 0
    while any(remaining.values()):
        for source in remaining:
            if not remaining[source]:
                continue
            passage = remaining[source].pop()
            own = 1 + number % 2
            distractors: list[Passage] = []
            for slot in range(CHOICES - 1):
                taken = _take(remaining, passage, own=slot < own, rng=rng)
                if taken is not None:
                    distractors.append(taken)
            if len(distractors) == CHOICES - 1:
                number += 1
                wrong = tuple(distractor.continuation for distractor in distractors)
                yield Draft(passage.context, passage.continuation, wrong, passage.document)


def _take(
    remaining: dict[str, list[Passage]], passage: Passage, own: bool, rng: Random
) -> Passage | None:
    """Remove and return a passage of another document; None if no other document has one left.

    `own`: whether to try the passage's own source first. Otherwise another source is tried first,
    drawn with its number of remaining passages as weight.
    """
    others = [source for source in remaining if source != passage.source and remaining[source]]
    first = [passage.source]
    if others and not own:
        first = rng.sample(others, 1, counts=[len(remaining[source]) for source in others])
    for source in dict.fromkeys([*first, passage.source, *others]):
        pool = remaining[source]
        for index in range(len(pool) - 1, -1, -1):
            if (pool[index].source, pool[index].document) != (passage.source, passage.document):
                return pool.pop(index)
    return None
