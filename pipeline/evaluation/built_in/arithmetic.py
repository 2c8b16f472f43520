"""The task `arithmetic`: sums and differences of small numbers, asked in words as GPT-3 was asked.

Source: Brown et al. 2020 (arXiv:2005.14165), section 3.9.1, "Q: What is 48 plus 76? A: 124.":
operands uniform in [0, 10) or [0, 100), sums and differences; differences may be negative. Here the
model chooses among four answers instead of writing one. Reads and writes no file.
"""

import math
from itertools import chain, zip_longest
from random import Random

from pipeline.evaluation.built_in.questions import CHOICES, Draft, TaskData, split_off_examples

ARITHMETIC_KINDS = tuple((limit, word) for limit in (10, 100) for word in ("plus", "minus"))
"""Kinds of problems: the number that both operands are below, and the word between them."""


def arithmetic_questions(questions: int, examples: int, seed: int) -> TaskData:
    """Return distinct problems, the four kinds in turn; wrong answers differ by 1, 2 or 10."""
    rng = Random(seed)
    pools = [_problems(limit, word, questions + examples, rng) for limit, word in ARITHMETIC_KINDS]
    drafts = [draft for draft in chain.from_iterable(zip_longest(*pools)) if draft is not None]
    return split_off_examples(drafts, questions, examples, rng)


def _problems(limit: int, word: str, count: int, rng: Random) -> list[Draft]:
    """Draw distinct problems of one kind: its part of `count`, or fewer where there are no more."""
    # A pair of operands is one number. Problems with two one-digit operands have a kind of their
    # own, so that none comes twice.
    pairs = [
        pair
        for pair in range(limit * limit)
        if limit == 10 or pair // limit >= 10 or pair % limit >= 10
    ]
    part = math.ceil(count / len(ARITHMETIC_KINDS))
    pairs = rng.sample(pairs, k=min(part, len(pairs)))
    return [_problem(pair // limit, pair % limit, word, rng) for pair in pairs]


def _problem(left: int, right: int, word: str, rng: Random) -> Draft:
    answer = left - right
    if word == "plus":
        answer = left + right
    near = [answer + step for step in (-10, -2, -1, 1, 2, 10)]
    wrong = rng.sample(near, k=CHOICES - 1)
    return Draft(
        f"Q: What is {left} {word} {right}?\nA:", str(answer), tuple(map(str, wrong)), word
    )
