"""Small arithmetic in words, as GPT-3 was asked.

Source: Brown et al. 2020 (arXiv:2005.14165), section 3.9.1, "Q: What is 48 plus 76? A: 124.":
operands uniform in [0, 10) or [0, 100), sums and differences; differences may be negative. Four
choices take the place of free generation.
"""

from itertools import chain, zip_longest
from random import Random

from pipeline.evaluation.questions import CHOICES, Draft, TaskData, split_off_examples

KINDS = tuple((limit, word) for limit in (10, 100) for word in ("plus", "minus"))
"""Operands below the first number, joined by the second."""


def arithmetic(questions: int, examples: int, seed: int) -> TaskData:
    """Return distinct problems, the four kinds in turn; wrong answers are 1, 2 or 10 away."""
    rng = Random(seed)
    pools = [_problems(limit, word, questions + examples, rng) for limit, word in KINDS]
    drafts = [draft for draft in chain.from_iterable(zip_longest(*pools)) if draft is not None]
    return split_off_examples(drafts, questions, examples, rng)


def _problems(limit: int, word: str, count: int, rng: Random) -> list[Draft]:
    # The one-digit problems have a kind of their own, so that none comes twice.
    pairs = [
        pair
        for pair in range(limit * limit)
        if limit == 10 or pair // limit >= 10 or pair % limit >= 10
    ]
    pairs = rng.sample(pairs, k=min(-(-count // len(KINDS)), len(pairs)))
    return [_problem(pair // limit, pair % limit, word, rng) for pair in pairs]


def _problem(left: int, right: int, word: str, rng: Random) -> Draft:
    answer = left + right if word == "plus" else left - right
    near = [answer + step for step in (-10, -2, -1, 1, 2, 10)]
    wrong = rng.sample(near, k=CHOICES - 1)
    return Draft(
        f"Q: What is {left} {word} {right}?\nA:", str(answer), tuple(map(str, wrong)), word
    )
