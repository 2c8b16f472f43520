"""Token trees: sequences that begin alike, each shared token once.

A tree stands in one row of a batch, in depth-first order. A token of the row sees its ancestors and
itself, which are the tokens `j <= i` whose subtree has not ended at `i`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Integers: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ScoredSequence:
    """A context and its answer as the model reads them: cut to the model's context."""

    number: int
    """Place of the sequence among the sorted sequences."""
    tokens: Integers
    """`(inputs + 1,)`: the last token is predicted and not read."""
    answer_tokens: int

    @property
    def inputs(self) -> int:
        """Tokens that the model reads."""
        return len(self.tokens) - 1

    @property
    def context(self) -> Integers:
        """What is left of the context: all that comes before the answer."""
        return self.tokens[: -self.answer_tokens]

    @property
    def first_scored(self) -> int:
        """Index of the token that predicts the first token of the answer."""
        return self.inputs - self.answer_tokens


@dataclass(frozen=True, eq=False)
class TokenTree:
    """Sequences of one row, without the tokens of a prefix that all rows of a pass share."""

    tokens: Integers
    """`(nodes,)`, in depth-first order."""
    positions: Integers
    """`(nodes,)`: index of the token in its sequence."""
    ends: Integers
    """`(nodes,)`: index after the last node of the subtree."""
    scored_nodes: Integers
    """`(answer tokens of all sequences,)`: the node that predicts each of them."""
    targets: Integers
    """`(answer tokens of all sequences,)`: the tokens to predict."""
    owners: Integers
    """`(answer tokens of all sequences,)`: number of the sequence that each belongs to."""

    @property
    def nodes(self) -> int:
        """Tokens in the row."""
        return len(self.tokens)

    @property
    def is_chain(self) -> bool:
        """Whether each token sees all tokens before it, as in plain text."""
        return bool((self.ends == self.nodes).all())


def shared_length(first: Integers, second: Integers) -> int:
    """Return how many tokens two sequences have in common at their beginning."""
    length = min(len(first), len(second))
    differs = first[:length] != second[:length]
    place = int(differs.argmax()) if length else 0
    if length == 0 or not differs[place]:
        return length
    return place


def shared_inputs(first: ScoredSequence, second: ScoredSequence) -> int:
    """Return how many of the tokens that the model reads two sequences share at their beginning."""
    return shared_length(first.tokens[:-1], second.tokens[:-1])


def make_tree(sequences: Sequence[ScoredSequence], prefix: int) -> TokenTree:
    """Return the tree of sorted sequences; their first `prefix` tokens, equal in all, are left out.

    `prefix` is at most the `first_scored` of each sequence.
    """
    tokens: list[Integers] = []
    positions: list[Integers] = []
    scored_nodes: list[Integers] = []
    ends = np.zeros(sum(sequence.inputs - prefix for sequence in sequences), np.int64)
    path = np.zeros(0, np.int64)
    nodes = 0
    earlier: ScoredSequence | None = None

    for sequence in sequences:
        # Nodes of the path to the sequence before that do not belong to this one end here.
        shared = 0
        if earlier is not None:
            shared = shared_inputs(earlier, sequence) - prefix
        ends[path[shared:]] = nodes

        # Append what is new.
        start = prefix + shared
        new = np.arange(nodes, nodes + sequence.inputs - start)
        nodes += len(new)
        tokens.append(sequence.tokens[start:-1])
        positions.append(np.arange(start, sequence.inputs))
        path = np.concatenate([path[:shared], new])
        scored_nodes.append(path[sequence.first_scored - prefix :])
        earlier = sequence
    ends[path] = nodes

    return TokenTree(
        np.concatenate(tokens),
        np.concatenate(positions),
        ends[:nodes],
        np.concatenate(scored_nodes),
        np.concatenate([sequence.tokens[-sequence.answer_tokens :] for sequence in sequences]),
        np.repeat(
            [sequence.number for sequence in sequences],
            [sequence.answer_tokens for sequence in sequences],
        ),
    )
