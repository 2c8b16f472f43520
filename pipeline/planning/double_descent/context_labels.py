"""A small classification task from a text's own tokens: which id follows a context of a few ids.

Reads and writes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


@dataclass(frozen=True)
class ContextTask:
    """Contexts of a text, each once, and what follows them."""

    vocabulary: int
    """Number of different ids."""
    contexts: np.ndarray
    """`(contexts, length) int64`, ascending: ids from 0 and below `vocabulary`."""
    labels: np.ndarray
    """`(contexts,) int64`: the id that most often follows each context."""


def context_task(streams: Sequence[np.ndarray], vocabulary: int, length: int) -> ContextTask:
    """Return the task of the most frequent `vocabulary` ids of some streams.

    `streams`: `(tokens,)` ids each. All other ids are taken out, and the text closes up. Every context
    of `length` ids then has one label, the id that most often follows it. So the task has no noise of
    its own, and no two samples have the same features: a linear model fits as many samples as it has
    features, and not more. Of equally frequent ids the smaller one counts.
    """
    # Number the most frequent ids from 0.
    counts = np.bincount(np.concatenate([np.asarray(stream, np.int64) for stream in streams]))
    frequent = np.argsort(-counts, kind="stable")[:vocabulary]
    number = np.full(len(counts), -1)
    number[frequent] = np.arange(len(frequent))

    # Count what follows each context, written as a number in base `vocabulary`.
    followers = np.zeros((vocabulary**length, vocabulary), np.int64)
    places = vocabulary ** np.arange(length)[::-1]
    for stream in streams:
        kept = number[np.asarray(stream, np.int64)]
        kept = kept[kept >= 0]
        if len(kept) <= length:
            continue
        windows = sliding_window_view(kept, length + 1)
        np.add.at(followers, (windows[:, :-1] @ places, windows[:, -1]), 1)

    codes = np.flatnonzero(followers.sum(1))
    contexts = codes[:, np.newaxis] // places % vocabulary
    return ContextTask(vocabulary, contexts, followers[codes].argmax(1))
