"""Byte-pair encoding of bytes in plain Python: the reference of what is read from public files.

Slow and short. The fast form of a vocabulary is compared with it when a tokenizer is made.
"""

import heapq
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import regex
from tokenizers import Regex, pre_tokenizers

from pipeline.errors import DataError

Priority = Callable[[bytes, bytes], int | None]
"""Two neighbours -> the priority of their merge, lowest first; None where they are not merged."""


def merged(word: bytes, priority: Priority) -> list[bytes]:
    """Return the parts of a word after all merges.

    Neighbours with the lowest priority are merged first, of equal ones the leftmost. Takes n log(n)
    steps for n bytes. Source: Sennrich et al. 2016, arXiv:1508.07909, algorithm 1.
    """
    # The parts as a linked list: a part that was merged into its left neighbour is empty.
    parts = [word[at : at + 1] for at in range(len(word))]
    following = list(range(1, len(parts) + 1))
    preceding = list(range(-1, len(parts) - 1))
    waiting: list[tuple[int, int, bytes, bytes]] = []

    def consider(left: int) -> None:
        right = following[left]
        if right < len(parts):
            rank = priority(parts[left], parts[right])
            if rank is not None:
                heapq.heappush(waiting, (rank, left, parts[left], parts[right]))

    # Merge the best pair until there is none; a pair of which one part has changed is gone.
    for left in range(len(parts) - 1):
        consider(left)
    while waiting:
        _, left, first, second = heapq.heappop(waiting)
        right = following[left]
        is_outdated = parts[left] != first or right == len(parts) or parts[right] != second
        if is_outdated:
            continue
        parts[left] = first + second
        parts[right] = b""
        following[left] = following[right]
        if following[left] < len(parts):
            preceding[following[left]] = left
        consider(left)
        if preceding[left] >= 0:
            consider(preceding[left])
    return [part for part in parts if part]


def merges_of_ranks(ranks: Mapping[bytes, int]) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    """Return the merges that give the tokens of a rank file, in their order; and the others.

    Merging by ranks reaches a token in one way only: by the two parts that all merges of lower rank
    leave of it. A token of which they leave more than two is not reached by merges; tiktoken gives
    it for a whole word alone.
    """
    merges: list[tuple[bytes, bytes]] = []
    unreached: list[bytes] = []
    for token, rank in sorted(ranks.items(), key=lambda entry: entry[1]):
        if len(token) < 2:
            continue
        parts = merged(token, _below(ranks, rank))
        if len(parts) == 2:
            merges.append((parts[0], parts[1]))
        else:
            unreached.append(token)
    return merges, unreached


def _below(ranks: Mapping[bytes, int], limit: int) -> Priority:
    """Return the priority of merges whose token has a rank below a limit."""

    def priority(left: bytes, right: bytes) -> int | None:
        rank = ranks.get(left + right)
        if rank is None or rank >= limit:
            return None
        return rank

    return priority


@dataclass
class ReferenceEncoder:
    """Encodes a text: cut by an expression, each word merged."""

    expression: str
    ids: Mapping[bytes, int]
    priority: Priority
    takes_whole_words: bool
    """Whether a word that is a token needs no merges, as in tiktoken."""
    _words: dict[bytes, list[int]] = field(default_factory=dict[bytes, list[int]])
    """Ids of the words that were met before."""

    def __call__(self, text: str) -> list[int]:
        """Return the ids. Raises DataError where the expression leaves some of the text."""
        words = self._cut(text)
        if sum(map(len, words)) != len(text):
            raise DataError(
                f"tokenizer.pattern = {self.expression!r}: matches not all of the text "
                f"{text[:80]!r}, and what it leaves would be lost; add an alternative for it, such "
                r"as |[\s\S]"
            )
        return [number for word in words for number in self._ids_of(word.encode())]

    def _cut(self, text: str) -> list[str]:
        """Return the words of a text.

        The module `regex` cuts it, as another engine than that of the fast tokenizer. Its tables may
        know newer characters, which only the fast tokenizer's own engine classes as tiktoken does.
        """
        if any(unicodedata.category(character) == "Cn" for character in set(text)):
            cutter = pre_tokenizers.Split(Regex(self.expression), behavior="removed", invert=True)
            return [word for word, _ in cutter.pre_tokenize_str(text)]
        return [match.group() for match in regex.finditer(self.expression, text)]

    def _ids_of(self, word: bytes) -> list[int]:
        if word not in self._words:
            parts = [word]
            if not self.takes_whole_words or word not in self.ids:
                parts = merged(word, self.priority)
            self._words[word] = [self.ids[part] for part in parts]
        return self._words[word]
