"""Which source a sample comes from: exact shares at any sample, without dice and without a table.

A binary tree divides the samples among the sources, its leaves. Of the first m samples that arrive
at a node whose left child has the share p, round(m p) go left and the others right, so each child
differs from its share by at most 1/2. Going down from the root locates a sample; going up from a
source's leaf finds the sample again.

The bound: let w be a source's share of all samples and v, v', ... the shares of the nodes above it,
without the root. A node's own error reaches the source in the proportion of their shares, so after
every sample

    |count - n w| <= 1/2 (1 + w/v + w/v' + ...)

In Huffman's tree, which joins the two lightest nodes again and again, every node is at least as
heavy as its child and its grandchild together. So v/w, v'/w, ... are at least 1, 2, 3, 5, 8, ...:
the sum is below 3.36 for any weights of any number of sources. It is also the tree with the fewest
steps from the root to a sample's leaf. Sources: Huffman 1952, "A method for the construction of
minimum-redundancy codes"; Tijdeman 1980, "The chairman assignment problem", Discrete Mathematics 32
(a bound of 1, with a table of the whole period).
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

LARGEST_DEVIATION = 1.68
"""Each source's count is closer than this to its exact share.

Half the sum of the reciprocal Fibonacci numbers.
"""
LARGEST_TOTAL = 1 << 60
"""Weights whose common denominator is larger than this are rounded to multiples of 1 / this."""
LARGEST_SAMPLE = 1 << 50
"""Sample numbers below this are computed exactly: 10^18 tokens at a sequence length of 1,024."""


@dataclass(frozen=True)
class Split:
    """A node of the tree that divides its samples between two children."""

    node: int
    left: int
    right: int
    left_weight: int
    right_weight: int

    @property
    def weight(self) -> int:
        """Weight of the node: the sum of its children's weights."""
        return self.left_weight + self.right_weight

    def divide(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which of the node's samples `(n,)` go left, and their numbers in their child."""
        left_before, rest = _divide(numbers, 2 * self.left_weight, self.weight, 2 * self.weight)
        goes_left = rest >= 2 * self.right_weight
        return goes_left, np.where(goes_left, left_before, numbers - left_before)

    def join(self, child: int, numbers: np.ndarray) -> np.ndarray:
        """Return the node's numbers `(n,)` of a child's samples `(n,)`: the inverse of `divide`."""
        halves = 2 * numbers + 1
        if child == self.right:
            return _divide(halves, self.weight, 0, 2 * self.right_weight)[0]
        # The first m + 1 with round((m + 1) p) above the number: rounded up, as (m + 1) p may end
        # in exactly 1/2.
        return _divide(halves, self.weight, -1, 2 * self.left_weight)[0]

    def left_before(self, number: int) -> int:
        """Return how many of the node's first `number` samples go left."""
        return (2 * number * self.left_weight + self.weight) // (2 * self.weight)


@dataclass(frozen=True)
class Mixture:
    """The tree. Leaves are numbered as the sources, splits after them, the root last."""

    weights: tuple[int, ...]
    """Whole numbers in the exact proportion of the sources' weights."""
    splits: tuple[Split, ...]
    """From the root down: a node comes before its children."""
    root: int

    def locate(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the sources `(n,)` of samples `(n,)`, and each sample's number in its source."""
        numbers = np.array(indices, np.int64)
        sources = np.empty_like(numbers)
        none = np.zeros(0, np.int64)
        arrived = {self.root: np.arange(len(numbers))}
        # From the root down, every split sends the samples that arrived to its two children.
        for split in self.splits:
            here = arrived.pop(split.node, none)
            if not len(here):
                continue
            goes_left, numbers[here] = split.divide(numbers[here])
            arrived[split.left] = here[goes_left]
            arrived[split.right] = here[~goes_left]
        for source, here in arrived.items():
            sources[here] = source
        return sources, numbers

    def find(self, source: int, numbers: np.ndarray) -> np.ndarray:
        """Return the samples `(n,)` that have these numbers `(n,)` in a source of positive weight."""
        samples = np.array(numbers, np.int64)
        node = source
        for split in reversed(self.splits):
            if node in (split.left, split.right):
                samples = split.join(node, samples)
                node = split.node
        return samples

    def samples_before(self, index: int) -> np.ndarray:
        """Return the number of samples below `index` from each source, `(sources,) int64`."""
        before = dict.fromkeys(range(len(self.weights)), 0) | {self.root: index}
        for split in self.splits:
            before[split.left] = split.left_before(before[split.node])
            before[split.right] = before[split.node] - before[split.left]
        return np.array([before[source] for source in range(len(self.weights))], np.int64)


def make_mixture(weights: Sequence[float | Fraction]) -> Mixture:
    """Build the tree for weights, which need not sum to 1; sources of weight 0 get no sample."""
    whole = _whole_numbers(weights)
    nodes = [(weight, source) for source, weight in enumerate(whole) if weight > 0]
    heapq.heapify(nodes)
    splits: list[Split] = []
    while len(nodes) > 1:
        lighter_weight, lighter = heapq.heappop(nodes)
        heavier_weight, heavier = heapq.heappop(nodes)
        split = Split(len(whole) + len(splits), heavier, lighter, heavier_weight, lighter_weight)
        splits.append(split)
        heapq.heappush(nodes, (split.weight, split.node))
    return Mixture(whole, tuple(reversed(splits)), nodes[0][1])


def _whole_numbers(weights: Sequence[float | Fraction]) -> tuple[int, ...]:
    """Return the weights as whole numbers in the same proportion, decimal fractions exactly."""
    exact = [Fraction(str(weight)) for weight in weights]
    scale = Fraction(math.lcm(*(weight.denominator for weight in exact)))
    scale /= math.gcd(*(int(weight * scale) for weight in exact))
    total = sum(exact)
    if total * scale <= LARGEST_TOTAL:
        return tuple(int(weight * scale) for weight in exact)
    rounded = [round(weight * LARGEST_TOTAL / total) for weight in exact]
    # A source of positive weight keeps at least one part.
    return tuple(max(count, int(weight > 0)) for count, weight in zip(rounded, exact, strict=True))


def _divide(numbers: np.ndarray, times: int, plus: int, by: int) -> tuple[np.ndarray, np.ndarray]:
    """Return quotients and remainders `(n,) int64` of `(numbers x times + plus) / by`, exactly.

    `by` is at most 2 x LARGEST_TOTAL, and so is `times`; quotients are below LARGEST_SAMPLE. The
    quotient in floating point is then off by 2 at most, so the remainder is below 2^63, and is
    correct although each product wraps at 2^64.
    """
    near = (numbers * (times / by)).astype(np.int64)
    rest = numbers * times + plus - near * by
    more, rest = np.divmod(rest, by)
    return near + more, rest
