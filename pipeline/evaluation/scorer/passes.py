"""Passes: the batches in which a slice goes through the model.

Pure functions of the slice's sequences and of the tokens that a pass may hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pipeline.evaluation.scorer.token_trees import (
    Integers,
    ScoredSequence,
    make_tree,
    shared_inputs,
)

LEAST_PREFIX = 32
"""Tokens that neighbours share where their sequences may get a prefix in common."""
TOKENS_OF_ATTENTION = 500
"""Keys that a token attends to for the price of another token in all else.

12 products of d x d a layer against 2 of d a key would be 6 d, and attention runs at half of the rate
of large products. An estimate is enough: it decides only how sequences are put into rows."""
TOKENS_OF_PASS = 128
"""Tokens for whose work a further pass of few tokens stands."""
MOST_KEYS_OF_TOKEN = 16
"""Keys of all rows of a pass, for each token that it may hold: many short rows after a long prefix
would need more memory for copies of its keys and values than for all else."""
LEAST_SAVING = 0.1
"""Share of a row's work that has to be saved by reading its context in a pass of its own."""


@dataclass(frozen=True, eq=False)
class Prefixes:
    """What stands before the rows of one or more passes: one prefix for all rows, or one for each."""

    tokens: Integers
    """`(1 or rows, width)`; a shorter one is filled up at its end. No width: there is no prefix."""
    lengths: Integers
    """`(1 or rows,)`."""

    @property
    def width(self) -> int:
        """Length of the longest prefix."""
        return self.tokens.shape[1]


@dataclass(frozen=True, eq=False)
class ModelPass:
    """A batch of token trees, each after a prefix."""

    prefixes: Prefixes
    """Passes with the same prefixes hold the same object and follow each other."""
    tokens: Integers
    """`(rows, width)`; a shorter row is filled up at its end."""
    positions: Integers
    """`(rows, width)`."""
    ends: Integers
    """`(rows, width)`: index after the last node of each subtree; a filling sees itself."""
    is_plain: bool
    """Whether the causal mask is right: every row is one sequence, and there is no prefix."""
    places: Integers
    """`(predictions,)`: index into `rows * width` of each token that predicts."""
    predictions: Integers
    """`(answer tokens,)`: index into `places` of the token that predicts each, ascending."""
    targets: Integers
    """`(answer tokens,)`."""
    owners: Integers
    """`(answer tokens,)`: number of the sequence that each belongs to."""


@dataclass(frozen=True, eq=False)
class PlannedRow:
    """Sorted sequences of one row, and how many tokens at their beginning are its prefix."""

    sequences: Sequence[ScoredSequence]
    prefix: int
    width: int
    """Tokens of the tree after the prefix."""


NO_PREFIX = Prefixes(np.zeros((1, 0), np.int64), np.zeros(1, np.int64))


def plan_passes(sequences: Sequence[ScoredSequence], tokens_per_pass: int) -> list[ModelPass]:
    """Return the passes of a slice's sorted sequences.

    A pass holds at most `tokens_per_pass` tokens, those of a prefix for all rows aside, and
    `MOST_KEYS_OF_TOKEN` times as many keys, or one row.
    """
    passes: list[ModelPass] = []

    # Fixed examples are worth a pass of their own where enough rows share them.
    others: list[ScoredSequence] = []
    for family in _families(sequences):
        prefix = common_prefix(family)
        rows = _rows(family, prefix)
        with_prefix = _cost_of_prefix(prefix) + TOKENS_OF_PASS + _cost_of_trees(rows)
        alone = _divided_rows(family)
        if sum(_cost_of_prefix(row.prefix) for row in alone) + _cost_of_trees(alone) <= with_prefix:
            others += family
            continue
        shared = Prefixes(family[0].tokens[None, :prefix], np.array([prefix]))
        batches = _batches(rows, tokens_per_pass, has_own_prefixes=False)
        passes += [make_pass(batch, shared) for batch in batches]

    # The others have prefixes of their own or none.
    rows = _divided_rows(others)
    rows_after_contexts = [row for row in rows if row.prefix]
    whole_rows = [row for row in rows if not row.prefix]
    for batch in _batches(rows_after_contexts, tokens_per_pass, has_own_prefixes=True):
        passes.append(make_pass(batch, own_prefixes(batch)))
    for batch in _batches(whole_rows, tokens_per_pass, has_own_prefixes=False):
        passes.append(make_pass(batch, NO_PREFIX))
    return passes


def _families(sequences: Sequence[ScoredSequence]) -> list[list[ScoredSequence]]:
    """Return runs of sequences whose neighbours share `LEAST_PREFIX` tokens."""
    families: list[list[ScoredSequence]] = []
    for place, sequence in enumerate(sequences):
        if place == 0 or shared_inputs(sequences[place - 1], sequence) < LEAST_PREFIX:
            families.append([])
        families[-1].append(sequence)
    return families


def common_prefix(sequences: Sequence[ScoredSequence]) -> int:
    """Return how many tokens come in all sequences before anything that is scored."""
    shared = [shared_inputs(first, second) for first, second in pairwise(sequences)]
    return min([*shared, *(sequence.first_scored for sequence in sequences)])


def _rows(sequences: Sequence[ScoredSequence], prefix: int) -> list[PlannedRow]:
    """Return rows of sorted sequences: neighbours are put together while that saves work."""
    rows: list[PlannedRow] = []
    members: list[ScoredSequence] = []
    width = 0
    for sequence in sequences:
        alone = sequence.inputs - prefix
        if members:
            together = width + sequence.inputs - shared_inputs(members[-1], sequence)
            if _cost(together, prefix) <= _cost(width, prefix) + _cost(alone, prefix):
                members.append(sequence)
                width = together
                continue
            rows.append(PlannedRow(members, prefix, width))
        members = [sequence]
        width = alone
    if members:
        rows.append(PlannedRow(members, prefix, width))
    return rows


def planned_row(sequences: Sequence[ScoredSequence], prefix: int) -> PlannedRow:
    """Return one row of sorted sequences that have their first `prefix` tokens in common."""
    new = [second.inputs - shared_inputs(first, second) for first, second in pairwise(sequences)]
    return PlannedRow(sequences, prefix, sequences[0].inputs - prefix + sum(new))


def _divided_rows(sequences: Sequence[ScoredSequence]) -> list[PlannedRow]:
    """Return rows of sorted sequences, each with a prefix of its own where that saves work.

    A long context is cheaper before its answers than in one tree with them.
    """
    divided_rows: list[PlannedRow] = []
    for row in _rows(sequences, 0):
        divided = planned_row(row.sequences, common_prefix(row.sequences))
        most = (1 - LEAST_SAVING) * _cost(row.width, 0)
        if _cost_of_prefix(divided.prefix) + _cost_of_trees([divided]) < most:
            divided_rows.append(divided)
        else:
            divided_rows.append(row)
    return divided_rows


def _cost(width: int, prefix: int) -> float:
    """Return the work of a row of `width` tokens after a prefix, in tokens."""
    return width * (1 + (width + prefix) / TOKENS_OF_ATTENTION)


def _cost_of_trees(rows: Sequence[PlannedRow]) -> float:
    """Return the work of rows after their prefixes, in tokens."""
    return sum(_cost(row.width, row.prefix) for row in rows)


def _cost_of_prefix(prefix: int) -> float:
    """Return the work of a prefix, in tokens; under a causal mask half of its attention is done."""
    return _cost(prefix, -prefix // 2)


def _batches(
    rows: Sequence[PlannedRow], tokens_per_pass: int, has_own_prefixes: bool
) -> list[list[PlannedRow]]:
    """Return rows of similar lengths in batches, the longest first.

    `has_own_prefixes`: whether each row's prefix counts among the tokens of its pass.
    """
    batches: list[list[PlannedRow]] = []
    for row in sorted(rows, key=lambda row: (-row.prefix - row.width, row.sequences[0].number)):
        # A pass is as wide as the longest of its prefixes and of its rows.
        fits = False
        if batches:
            together = [*batches[-1], row]
            width = max(each.width for each in together)
            keys = width + max(each.prefix for each in together)
            tokens = width
            if has_own_prefixes:
                tokens = keys
            fits = len(together) * tokens <= tokens_per_pass
            fits = fits and len(together) * keys <= MOST_KEYS_OF_TOKEN * tokens_per_pass
        if fits:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def own_prefixes(rows: Sequence[PlannedRow]) -> Prefixes:
    """Return the prefixes of rows, each row's own."""
    lengths = np.array([row.prefix for row in rows])
    tokens = np.zeros((len(rows), lengths.max()), np.int64)
    for place, row in enumerate(rows):
        tokens[place, : row.prefix] = row.sequences[0].tokens[: row.prefix]
    return Prefixes(tokens, lengths)


def make_pass(rows: Sequence[PlannedRow], prefixes: Prefixes) -> ModelPass:
    """Return the arrays of one pass."""
    trees = [make_tree(row.sequences, row.prefix) for row in rows]
    width = max(tree.nodes for tree in trees)

    # Fill rows up with tokens that see themselves.
    tokens = np.zeros((len(trees), width), np.int64)
    positions = np.zeros((len(trees), width), np.int64)
    ends = np.tile(np.arange(1, width + 1), (len(trees), 1))
    for row, tree in enumerate(trees):
        tokens[row, : tree.nodes] = tree.tokens
        positions[row, : tree.nodes] = tree.positions
        ends[row, : tree.nodes] = tree.ends

    # A token that predicts several answers is one prediction.
    scored = [row * width + tree.scored_nodes for row, tree in enumerate(trees)]
    places, predictions = np.unique(np.concatenate(scored), return_inverse=True)
    order = np.argsort(predictions, kind="stable")
    return ModelPass(
        prefixes,
        tokens,
        positions,
        ends,
        prefixes.width == 0 and all(tree.is_chain for tree in trees),
        places,
        predictions[order],
        np.concatenate([tree.targets for tree in trees])[order],
        np.concatenate([tree.owners for tree in trees])[order],
    )
