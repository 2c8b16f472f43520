"""Groups of raw files: where they end, and that a change of the files moves no other boundary."""

from pathlib import Path

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus import groups
from pipeline.corpus.file_search import InputFile
from pipeline.corpus.groups import GROUP_BYTES, GROUP_FILES, MOST_SHARES, FileGroup, group_files

CORPUS = Path("corpus")
"""The path of every file here: groups depend on names only, and 120,000 paths take seconds."""
SMALL = GROUP_BYTES // 20
"""Twenty such files make a group on average."""


def file(name: str, size: int = SMALL) -> InputFile:
    return InputFile(CORPUS, name, size, 0)


def many(count: int, size: int = SMALL) -> list[InputFile]:
    return [file(f"{number:05d}.jsonl", size) for number in range(count)]


def names(groups: list[FileGroup]) -> list[list[str]]:
    return [[file.name for file in group.files] for group in groups]


def test_a_group_ends_after_a_file_whose_hash_is_below_its_share() -> None:
    files = [file(name, GROUP_BYTES // 2) for name in "abcdefgh"]
    hashes = {name: xxhash.xxh3_64_intdigest(name.encode()) / 2**64 for name in "abcdefgh"}
    # Half a group of bytes and a thousandth of a group of files: a share of 0.501.
    assert [name for name in hashes if hashes[name] < 0.501] == ["b", "d", "f", "h"]
    assert names(group_files(files)) == [["a", "b"], ["c", "d"], ["e", "f"], ["g", "h"]]


def test_a_key_is_the_hash_of_the_first_files_name() -> None:
    (group,) = group_files([file("a", 0)])
    assert group.key == f"{xxhash.xxh3_64_intdigest(b'a'):016x}"[:12]


def test_a_file_of_a_groups_size_is_alone() -> None:
    files = [
        file("a", 0),
        file("b", GROUP_BYTES),
        file("c", 0),
        file("d", 50 * GROUP_BYTES),
        file("e", 0),
    ]
    assert names(group_files(files)) == [["a"], ["b"], ["c"], ["d"], ["e"]]


def test_groups_hold_one_share_on_average_and_four_at_most() -> None:
    found = group_files(many(20_000))
    sizes = [len(group.files) for group in found]
    assert sum(sizes) == 20_000
    # A share is 1/20 + 1/1000, so 19.6 files on average: 1020 groups, with a standard deviation of
    # about 31.
    assert abs(len(found) - 1020) < 4 * 31
    assert max(sizes) == int(MOST_SHARES / (1 / 20 + 1 / GROUP_FILES))  # 78
    tiny = [len(group.files) for group in group_files(many(100_000, size=1))]
    assert abs(len(tiny) - 100) < 4 * 10 and max(tiny) <= MOST_SHARES * GROUP_FILES


@given(st.integers(0, 400), st.sampled_from([0, SMALL, GROUP_BYTES]))
def test_adding_a_file_changes_no_group_beyond_the_next_boundaries(place: int, size: int) -> None:
    before = many(400)
    added = file(
        f"{place:05d}-new.jsonl", size
    )  # stands before the file with that number, as "-" comes before "."
    share = 1 / 20 + 1 / GROUP_FILES
    ends = [
        n for n in range(400) if xxhash.xxh3_64_intdigest(before[n].name.encode()) / 2**64 < share
    ]
    first = max((n + 1 for n in ends if n < place), default=0)
    last = min((n for n in ends if n >= place), default=399)
    around = {*before[first : last + 1], added}
    old = set(group_files(before))
    new = set(group_files(sorted([*before, added], key=lambda file: file.name)))
    assert new != old
    assert all(around.issuperset(group.files) for group in old ^ new)


def test_two_groups_with_one_key_are_never_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "GROUP_FILES", 1)
    with pytest.raises(
        RuntimeError, match=r"two groups have the key [0-9a-f]{12}: from corpus, corpus"
    ):
        group_files([file("a"), file("a")])
