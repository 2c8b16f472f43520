"""Near-duplicates: which document stays, why, and that nothing but documents and settings decides it."""

import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from compared_texts import (
    WORDS,
    Verdicts,
    compare,
    ids_in,
    one_by_one,
    pairs_of,
    verdicts_of,
    write_shard,
)

from pipeline.corpus.near_duplicates import band_records, groups, pairs, rounds
from pipeline.corpus.near_duplicates.compared_shards import ComparedShard
from pipeline.corpus.near_duplicates.emptied_documents import (
    EmptiedDocuments,
    rows_in_groups,
    write_emptied,
)
from pipeline.corpus.near_duplicates.near_duplicates import NearDuplicates
from pipeline.corpus.near_duplicates.shingles import jaccard, shingles_of
from pipeline.errors import Interrupted
from pipeline.work.executor import run_tasks

A = ids_in(100, 138)
B = ids_in(103, 141)
C = ids_in(106, 144)
"""Texts of 37 shingles each: A and B, and B and C, have 34 of 40 in common, A and C 31 of 43."""


def test_similarity_is_the_exact_share_of_common_shingles() -> None:
    assert pairs_of([A, B, C]) == [34 / 40, 31 / 43, 34 / 40]
    assert round(31 / 43, 2) == 0.72
    nothing = np.zeros(0, np.uint64)
    assert jaccard(nothing, nothing) == 0
    assert jaccard(nothing, shingles_of(A, WORDS)) == 0
    assert jaccard(shingles_of(A, WORDS), shingles_of(A, WORDS)) == 1
    # Shingles count once, and case and punctuation do not count.
    assert jaccard(shingles_of("a b a b", WORDS), shingles_of("A, b! a", WORDS)) == 1


def test_chain_is_cut_at_the_documents_that_stay(tmp_path: Path) -> None:
    in_order = compare([write_shard(tmp_path / "abc", "s", [A, B, C])], tmp_path / "abc/work")
    assert verdicts_of(in_order) == {"s/train_00_000/1": ("s/train_00_000/0", 0.85)}
    middle_first = compare([write_shard(tmp_path / "bac", "s", [B, A, C])], tmp_path / "bac/work")
    assert verdicts_of(middle_first) == {
        "s/train_00_000/1": ("s/train_00_000/0", 0.85),
        "s/train_00_000/2": ("s/train_00_000/0", 0.85),
    }


def test_priority_is_group_then_length_then_shard_and_row(tmp_path: Path) -> None:
    longer = f"{B} {ids_in(500, 504)}"
    first = write_shard(tmp_path, "z", [A], group=0)
    second = write_shard(tmp_path, "a", [B, longer], group=1)
    verdicts = verdicts_of(compare([second, first], tmp_path / "one"))
    assert verdicts == {"a/train_00_000/0": ("z/train_00_000/0", 0.85)}
    # Within one group the longer one comes first; 34 of 44 are too few for the other text.
    verdicts = verdicts_of(compare([second, replace(first, group=1)], tmp_path / "two"))
    assert verdicts == {"a/train_00_000/0": ("a/train_00_000/1", 37 / 41)}


def test_held_out_files_stay_whatever_they_are_like(tmp_path: Path) -> None:
    held_out = replace(write_shard(tmp_path, "held", [A, B, A]), always_stays=True)
    other = write_shard(tmp_path, "other", [C, A], group=1)
    found = compare([held_out, other], tmp_path / "work")
    assert verdicts_of(found) == {
        "other/train_00_000/0": ("held/train_00_000/1", 0.85),
        "other/train_00_000/1": ("held/train_00_000/0", 1.0),
    }


def test_nothing_loses_to_a_document_of_which_nothing_is_left(tmp_path: Path) -> None:
    """Of a chain A, B, C the second loses to the first; where nothing is left of A, C loses to B."""
    shard = write_shard(tmp_path, "s", [A, B, C])
    work = tmp_path / "work"
    first = compare([shard], work)
    assert verdicts_of(first) == {"s/train_00_000/1": ("s/train_00_000/0", 0.85)}

    def without(rows: list[int], before: NearDuplicates) -> EmptiedDocuments:
        path = tmp_path / f"{before.rounds}.rows"
        record = write_emptied(path, rows)
        return EmptiedDocuments(
            {shard.name: path}, {shard.name: record["checksum"]}, before.rounds, before.compared
        )

    second = compare([shard], work, emptied=without([0], first))
    assert verdicts_of(second) == {"s/train_00_000/2": ("s/train_00_000/1", 0.85)}
    # It may lose itself, as any other.
    third = compare([shard], work, emptied=without([1], second))
    assert verdicts_of(third) == {"s/train_00_000/1": ("s/train_00_000/0", 0.85)}
    assert third.rounds > second.rounds > first.rounds
    assert list(rows_in_groups(work, shard.name)) == [0, 1, 2]


def test_book_in_five_editions_is_kept_once(tmp_path: Path) -> None:
    editions = [f"{ids_in(100, 300)} {ids_in(900, 900 + 5 * edition)}" for edition in range(5)]
    other = ids_in(1000, 1200)
    shards = [write_shard(tmp_path, "books", [*editions, other])]
    verdicts = verdicts_of(compare(shards, tmp_path / "work"))
    assert sorted(verdicts) == [f"books/train_00_000/{row}" for row in range(4)]
    assert {stays for stays, _ in verdicts.values()} == {"books/train_00_000/4"}


def test_documents_without_a_common_band_are_never_compared(tmp_path: Path) -> None:
    # The same hash in another place is no common band.
    bands = [[1, 2], [3, 4], [2, 1], None]
    found = compare([write_shard(tmp_path, "s", [A] * 4, bands=bands)], tmp_path / "work")
    assert verdicts_of(found) == {}
    assert found.in_groups == 0
    assert found.documents == 3


def test_document_that_is_left_out_neither_stays_nor_is_removed(tmp_path: Path) -> None:
    shard = write_shard(tmp_path, "s", [A, B, C], keep=[True, False, True])
    assert verdicts_of(compare([shard], tmp_path / "work")) == {}
    shard = write_shard(tmp_path, "s", [B, A, C], keep=[True, False, True])
    verdicts = verdicts_of(compare([shard], tmp_path / "work"))
    assert list(verdicts) == ["s/train_00_000/2"]


def similarities(texts: Sequence[str], words: int) -> np.ndarray:
    """Return the similarity of each pair, by one product of matrices."""
    sets = [shingles_of(text, words) for text in texts]
    every = np.unique(np.concatenate(sets))
    has = np.zeros((len(sets), len(every)), np.float32)
    for row, hashes in enumerate(sets):
        has[row, np.searchsorted(every, hashes)] = 1
    common = has @ has.T
    sizes = has.sum(axis=1)
    result = common / (sizes[:, None] + sizes[None, :] - common)
    return result[np.triu_indices(len(sets), 1)]


def licensed_file(number: int) -> str:
    """A licence of 60 words and a body of its own of 25."""
    return f"{ids_in(1000, 1060)} {ids_in(10000 + 25 * number, 10025 + 25 * number)}"


def row_of_template(number: int) -> str:
    """A template of 48 words with four fields of its own between."""
    parts = [ids_in(1000 + 12 * part, 1012 + 12 * part) for part in range(4)]
    fields = [
        ids_in(10000 + 16 * number + 4 * part, 10004 + 16 * number + 4 * part) for part in range(4)
    ]
    return " ".join(f"{part} {field}" for part, field in zip(parts, fields, strict=True))


@pytest.mark.parametrize("make", [licensed_file, row_of_template])
def test_boilerplate_alone_removes_nothing(make, tmp_path: Path) -> None:
    texts = [make(number) for number in range(500)]
    values = similarities(texts, WORDS)
    assert values.min() > 0.3
    assert values.max() < 0.7

    # All of them share every band, so all pairs are candidates.
    found = compare([write_shard(tmp_path, "s", texts)], tmp_path / "work")
    assert found.largest_group == 500
    assert found.removed == 0
    # 124,750 pairs, of which none has one of its rarest shingles in common.
    assert found.compared == 0


def test_near_copies_in_a_large_group_are_compared_with_the_one_that_stays(tmp_path: Path) -> None:
    texts = [f"{ids_in(100, 200)} own{number} more{number}" for number in range(300)]
    found = compare([write_shard(tmp_path, "s", texts)], tmp_path / "work")
    assert found.removed == 299
    # Not with each other: 44,850 pairs.
    assert found.compared <= 300 * pairs.FIRST_WINDOW


def some_shards(folder: Path, seed: int, count: int) -> tuple[list[ComparedShard], Verdicts]:
    """Write three shards of texts that overlap, some with a band in common; return the verdicts that
    going through them one by one gives."""
    chance = random.Random(seed)
    shards: list[ComparedShard] = []
    texts: dict[str, list[str]] = {}
    bands: dict[str, list[list[int] | None]] = {}
    for source in range(3):
        own: list[str] = []
        own_bands: list[list[int] | None] = []
        for _ in range(count):
            start = 100 * chance.randrange(3) + chance.randrange(12)
            own.append(ids_in(start, start + chance.randrange(30, 45)))
            own_bands.append([chance.randrange(2), chance.randrange(5)])
        own_bands[0] = None
        shard = write_shard(folder, f"s{source}", own, group=chance.randrange(3), bands=own_bands)
        shards.append(shard)
        texts[shard.name] = own
        bands[shard.name] = own_bands
    return shards, one_by_one(shards, texts, bands)


@pytest.mark.parametrize(("large", "records"), [(1000, 10**6), (5, 10**6), (5, 40)])
def test_verdicts_are_those_of_going_one_by_one(
    large: int, records: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "LARGE_GROUP", large)
    monkeypatch.setattr(band_records, "RECORDS_IN_A_PARTITION", records)
    monkeypatch.setattr(pairs, "FIRST_WINDOW", 2)
    monkeypatch.setattr(pairs, "MOST_PAIRS", 40)
    for seed in range(2):
        folder = tmp_path / str(seed)
        shards, expected = some_shards(folder, seed, 25)
        found = compare(shards, folder / "work")
        assert len(expected) > 20
        assert verdicts_of(found) == expected
        assert found.removed == len(expected)
        written = [*(folder / "work" / "groups").rglob("*.groups")]
        assert len(written) == (1 if records > 1000 else 4)


def test_source_of_lowest_priority_changes_no_verdict(tmp_path: Path) -> None:
    shards, _ = some_shards(tmp_path, 5, 25)
    by_group = [replace(shard, group=number) for number, shard in enumerate(shards)]
    before: Verdicts = {}
    for count in (1, 2, 3):
        verdicts = verdicts_of(compare(by_group[:count], tmp_path / "steps"))
        assert {key: verdicts[key] for key in before} == before
        assert not {
            key for key in set(verdicts) - set(before) if not key.startswith(f"s{count - 1}")
        }
        before = verdicts
    assert before == verdicts_of(compare(by_group, tmp_path / "at-once"))


def test_chain_over_shards_takes_a_round_for_each_link(tmp_path: Path) -> None:
    texts = [ids_in(100 + 3 * link, 138 + 3 * link) for link in range(5)]
    apart = [
        write_shard(tmp_path, f"s{link}", [text], group=link) for link, text in enumerate(texts)
    ]
    found = compare(apart, tmp_path / "apart")
    assert list(verdicts_of(found)) == ["s1/train_00_000/0", "s3/train_00_000/0"]
    assert found.rounds == 5
    together = compare([write_shard(tmp_path, "all", texts)], tmp_path / "together")
    assert list(verdicts_of(together)) == ["all/train_00_000/1", "all/train_00_000/3"]
    assert together.rounds == 1


def bytes_of(found) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in found.paths.items()}


def test_interruption_at_every_step_changes_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "LARGE_GROUP", 5)
    monkeypatch.setattr(pairs, "FIRST_WINDOW", 2)
    shards, _ = some_shards(tmp_path, 1, 12)
    lists = 0

    def counted(*arguments, **settings):
        nonlocal lists
        lists += 1
        return run_tasks(*arguments, **settings)

    modules = (rounds, *_modules_that_run_tasks())
    for module in modules:
        monkeypatch.setattr(module, "run_tasks", counted)
    whole = bytes_of(compare(shards, tmp_path / "whole"))
    steps = lists
    assert steps > 12

    # Stopped after every list of work items in turn, with one of its items lost; then run again.
    stop_after = 0

    def stopped(tasks, folder, *arguments, **settings):
        nonlocal lists
        lists += 1
        results = run_tasks(tasks, folder, *arguments, **settings)
        if lists == stop_after:
            tasks[-1].record_path(folder / ".tasks").unlink()
            raise Interrupted("stopped")
        return results

    for module in modules:
        monkeypatch.setattr(module, "run_tasks", stopped)
    for number in range(1, steps + 1):
        lists = 0
        stop_after = number
        with pytest.raises(Interrupted):
            compare(shards, tmp_path / "broken")
    stop_after = 0
    assert bytes_of(compare(shards, tmp_path / "broken")) == whole


def _modules_that_run_tasks() -> tuple:
    from pipeline.corpus.near_duplicates import comparison_steps

    return (comparison_steps,)


def test_another_threshold_leaves_bands_and_shingles_as_they_are(tmp_path: Path) -> None:
    shards = [write_shard(tmp_path, "s", [A, B, C])]
    work = tmp_path / "work"
    assert len(verdicts_of(compare(shards, work, threshold=0.8))) == 1
    before = {path: path.stat().st_mtime_ns for path in (work / "bands").rglob("*.parts")}
    before |= {path: path.stat().st_mtime_ns for path in (work / "sets").rglob("*.sets")}
    verdicts = verdicts_of(compare(shards, work, threshold=0.7))
    assert verdicts["s/train_00_000/2"] == ("s/train_00_000/0", 31 / 43)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_nothing_to_compare_is_no_error(tmp_path: Path) -> None:
    assert compare([], tmp_path / "none").removed == 0
    assert compare([write_shard(tmp_path, "s", [A, ""])], tmp_path / "work").removed == 0


KILLED = """
import os, signal, sys
from pathlib import Path
from unittest.mock import patch
sys.path.insert(0, sys.argv[1])
from compared_texts import compare
from test_near_duplicates import some_shards
from pipeline.corpus.near_duplicates import groups, pairs

left = int(sys.argv[3])
whole = Path.replace

def replace(path, target):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(path, target)

def attempt():
    folder = Path(sys.argv[2])
    shards, _ = some_shards(folder, 3, 12)
    groups.LARGE_GROUP = 5
    pairs.FIRST_WINDOW = 2
    with patch.object(Path, "replace", replace):
        compare(shards, folder / "work")

# Each attempt is a process of its own; what they import is imported once.
ends = []
while not ends or ends[-1] == -signal.SIGKILL:
    child = os.fork()
    if child == 0:
        attempt()
        os._exit(0)
    ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(len(ends) - 1)
sys.exit(ends[-1])
"""


@pytest.mark.ranks
def test_kills_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "LARGE_GROUP", 5)
    monkeypatch.setattr(pairs, "FIRST_WINDOW", 2)
    shards, _ = some_shards(tmp_path / "whole", 3, 12)
    whole = compare(shards, tmp_path / "whole" / "work")
    # Each attempt is killed before it renames its 25th file; the next one goes on from there.
    arguments = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path), "25"]
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert 3 < int(ended.stdout) < 20
    for name, path in whole.paths.items():
        part = path.relative_to(tmp_path / "whole" / "work")
        assert (tmp_path / "work" / part).read_bytes() == path.read_bytes(), name
