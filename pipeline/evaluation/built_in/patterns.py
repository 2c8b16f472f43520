"""The tasks `pattern_<kind>`: patterns whose continuation follows from the context alone.

`copy` repeats a sequence (`lamp river stone -> lamp river stone`), `alternate` continues two
alternating words, `count` continues a row of numbers. A model that has learned to look back
(induction heads: Olsson et al. 2022, arXiv:2209.11895) solves the first two. Reads and writes no
file.
"""

from collections.abc import Callable
from random import Random

from pipeline.evaluation.built_in.questions import CHOICES, Draft, TaskData, split_off_examples

_NOUNS = """
apple bird book bridge chair circle cloud coat door field fire fish flower garden glass hand horse house
island key lake lamp leaf letter light line moon mountain night paper plate point rain ring river road room
salt sea ship snow song star stone street sun table tree wall water wheel wind window winter wood world
"""
WORDS = tuple(_NOUNS.split())
"""Common English nouns."""


DRAWS_PER_QUESTION = 20
"""Maximum number of draws per question: `count` has few contexts, so that draws repeat."""


def pattern_questions(questions: int, examples: int, seed: int) -> dict[str, TaskData]:
    """Return the tasks `pattern_<kind>`, each with `questions` and `examples` of distinct contexts.

    There are fewer where the draws of a kind do not give as many contexts.
    """
    data: dict[str, TaskData] = {}
    for offset, (kind, draw) in enumerate(PATTERN_KINDS.items()):
        rng = Random(seed + offset)
        drafts: dict[str, Draft] = {}
        for _ in range(DRAWS_PER_QUESTION * (questions + examples)):
            if len(drafts) == questions + examples:
                break
            draft = draw(rng)
            drafts.setdefault(draft.context, draft)
        data[f"pattern_{kind}"] = split_off_examples(
            list(drafts.values()), questions, examples, rng
        )
    return data


def _copy(rng: Random) -> Draft:
    *words, other = rng.sample(WORDS, k=4)
    first, second, third = words
    wrong = ((third, first, second), (first, second, other), (second, first, third))
    return Draft(f"{' '.join(words)} ->", " ".join(words), tuple(map(" ".join, wrong)), "copy")


def _alternate(rng: Random) -> Draft:
    first, second, *others = rng.sample(WORDS, k=CHOICES)
    return Draft(
        f"{first} {second} {first} {second} {first}", second, (first, *others), "alternate"
    )


def _count(rng: Random) -> Draft:
    start = rng.randint(1, 99)
    length = rng.randint(4, 6)
    following = start + length
    # Two neighbours of the right number (one repeats the last number), and one ten further.
    wrong = (following - 1, following + 1, following + 10)
    return Draft(
        " ".join(map(str, range(start, following))), str(following), tuple(map(str, wrong)), "count"
    )


PATTERN_KINDS: dict[str, Callable[[Random], Draft]] = {
    "copy": _copy,
    "alternate": _alternate,
    "count": _count,
}
"""Kind of pattern -> function that draws a question."""
