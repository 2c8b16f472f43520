"""Made-up tokens whose next one follows from those before it by a rule that is not linear."""

import numpy as np

IDS = 8
SURPRISES = 0.4
"""Share of tokens that are drawn at random, so that every context comes."""


def ruled_tokens(number: int, seed: int) -> np.ndarray:
    """Return `(number,) int64` ids from 0 and below IDS.

    After a small id follows the id of three places before, after a large one that of two before.
    """
    draw = np.random.default_rng(seed)
    is_surprise = draw.random(number) < SURPRISES
    surprises = draw.integers(0, IDS, number)
    tokens = list(map(int, draw.integers(0, IDS, 4)))
    for place in range(4, number):
        if is_surprise[place]:
            tokens.append(int(surprises[place]))
        elif tokens[-1] < IDS // 2:
            tokens.append(tokens[-3])
        else:
            tokens.append(tokens[-2])
    return np.array(tokens)
