"""Merging bytes in plain Python, with numbers to check by hand."""

import pytest

from pipeline.errors import DataError
from pipeline.tokens.forms.byte_merges import ReferenceEncoder, merged, merges_of_ranks

RANKS = {b"a": 0, b"b": 1, b"c": 2, b"ab": 3, b"bc": 4, b"abc": 5, b"cab": 6, b"xyz": 7}


def by_rank(left: bytes, right: bytes) -> int | None:
    return RANKS.get(left + right)


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        (b"", []),
        (b"a", [b"a"]),
        (b"abc", [b"abc"]),  # ab before bc
        (b"bcab", [b"bc", b"ab"]),  # bc is lower than cab
        (b"cabab", [b"cab", b"ab"]),
        (b"cc", [b"c", b"c"]),
    ],
)
def test_lower_ranks_are_merged_first(word: bytes, parts: list[bytes]) -> None:
    assert merged(word, by_rank) == parts


def test_of_equal_ranks_the_leftmost_is_merged() -> None:
    ranks = {b"a": 0, b"aa": 1, b"aaa": 2}
    assert merged(b"aaa", lambda left, right: ranks.get(left + right)) == [b"aaa"]
    assert merged(b"aaaaa", lambda left, right: ranks.get(left + right)) == [b"aa", b"aaa"]


def test_each_token_has_one_merge_or_none() -> None:
    merges, unreached = merges_of_ranks(RANKS)
    assert merges == [(b"a", b"b"), (b"b", b"c"), (b"ab", b"c"), (b"c", b"ab")]
    assert unreached == [b"xyz"]


def test_a_long_word_takes_little_time() -> None:
    assert merged(b"abc" * 50_000, by_rank) == [b"abc"] * 50_000


def test_text_that_a_pattern_leaves_is_refused() -> None:
    encoder = ReferenceEncoder("[ab]+", RANKS, by_rank, takes_whole_words=True)
    assert encoder("abab") == [3, 3]
    with pytest.raises(DataError, match=r"matches not all of the text 'ab c'.*add an alternative"):
        encoder("ab c")
