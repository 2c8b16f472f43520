"""Paragraphs that stood before are spans to cut; the first one in the order of priority stays."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from compared_texts import ALONE, write_column, write_shard

from pipeline.config.curation.annotate_section import ParagraphUnit
from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.paragraphs import ParagraphHashes
from pipeline.corpus.near_duplicates import repeated_paragraphs
from pipeline.corpus.near_duplicates.compared_shards import ComparedShard
from pipeline.corpus.near_duplicates.repeated_paragraphs import (
    PARAGRAPHS,
    find_repeated_paragraphs,
    read_cuts,
)
from pipeline.work.workers import workers

Cuts = dict[str, list[str]]
"""Source -> the pieces of text that are cut, in order."""


def shard_of_texts(
    folder: Path,
    source: str,
    texts: Sequence[str],
    group: int = 0,
    unit: ParagraphUnit = "lines",
) -> ComparedShard:
    shard = write_shard(folder, source, texts, group)
    values: list[list[dict[str, int]]] = []
    for text in texts:
        ((starts, ends, hashes),) = ParagraphHashes(unit).values(DocumentText(text))
        spans = zip(starts.tolist(), ends.tolist(), hashes.tolist(), strict=True)
        values.append([{"start": start, "end": end, "hash": key} for start, end, key in spans])
    write_column(shard.annotations, PARAGRAPHS, values)
    return shard


def pieces_cut(
    folder: Path, texts: dict[str, list[str]], groups: Sequence[int] = (0, 1, 2), fewest: int = 1
) -> Cuts:
    """Return what is cut of each source's texts."""
    shards = [
        shard_of_texts(folder, source, texts[source], group)
        for source, group in zip(texts, groups, strict=False)
    ]
    with workers(ALONE) as crew:
        found = find_repeated_paragraphs(shards, folder / "work", crew, fewest)
    cuts = {
        shard.source: [
            texts[shard.source][row["row"]][row["start"] : row["end"]]
            for row in read_cuts(found.paths[shard.name]).to_pylist()
        ]
        for shard in shards
    }
    assert found.repeated == sum(map(len, cuts.values()))
    assert found.characters == sum(len(piece) for pieces in cuts.values() for piece in pieces)
    return cuts


def test_first_paragraph_in_the_order_of_priority_stays(tmp_path: Path) -> None:
    texts = {
        "a": ["One é line.\nshared footer\n"],
        "b": ["Shared, FOOTER!\nown\nown\n", "x\nOne é line."],
    }
    assert pieces_cut(tmp_path / "ab", texts) == {
        "a": [],
        "b": ["Shared, FOOTER!\n", "own\n", "One é line."],
    }
    # The other source first: its own repetition is still cut.
    assert pieces_cut(tmp_path / "ba", texts, groups=(1, 0)) == {
        "a": ["One é line.\n", "shared footer\n"],
        "b": ["own\n"],
    }


def test_longer_document_comes_first_within_a_group(tmp_path: Path) -> None:
    texts = {"a": ["footer\n", "a longer text\nfooter\n"]}
    assert pieces_cut(tmp_path, texts) == {"a": ["footer\n"]}
    cut = read_cuts(next((tmp_path / "work").rglob("cuts/*/*.parquet"))).to_pylist()
    assert [row["row"] for row in cut] == [0]


def test_short_paragraphs_may_be_left(tmp_path: Path) -> None:
    texts = {
        "a": ["End.\nA long last line of the page.\n", "End.\nA long last line of the page.\n"]
    }
    assert pieces_cut(tmp_path, texts, fewest=10) == {"a": ["A long last line of the page.\n"]}


def test_partitions_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"line {number % 7}\n" for number in range(40)]
    texts = {"a": ["".join(lines[:20]), "".join(lines[5:25])], "b": ["".join(lines)]}
    expected = pieces_cut(tmp_path / "one", texts)
    assert sum(map(len, expected.values())) == 80 - 7
    monkeypatch.setattr(repeated_paragraphs, "partitions_for", lambda _: 8)
    assert pieces_cut(tmp_path / "eight", texts) == expected


def test_document_that_is_left_out_does_not_count(tmp_path: Path) -> None:
    shard = shard_of_texts(tmp_path, "a", ["footer\nand more\n", "footer\n"])
    kept = write_shard(tmp_path / "k", "a", ["", ""], keep=[False, True]).keep
    with workers(ALONE) as crew:
        found = find_repeated_paragraphs([replace(shard, keep=kept)], tmp_path / "work", crew)
    assert found.repeated == 0
    assert found.paragraphs == 1


def test_paragraph_that_others_cut_does_not_count_as_standing(tmp_path: Path) -> None:
    """Of five copies the first is cut in part, the second is whole, and only those behind it go."""
    texts = ["one\nfooter\n12345", "footer\n1234", "footer\n123", "footer\n12", "footer\n"]
    shard = shard_of_texts(tmp_path, "a", texts)
    cuts = [[(5, 7)], [(7, 9)], [(4, 90)], [], []]
    kept = write_shard(tmp_path / "k", "a", texts, keep=[True] * 5, cut_out=cuts).keep
    with workers(ALONE) as crew:
        found = find_repeated_paragraphs([replace(shard, keep=kept)], tmp_path / "work", crew)
    rows = read_cuts(found.paths[shard.name]).to_pylist()
    assert rows == [{"row": row, "start": 0, "end": 7} for row in (2, 3, 4)]
    # In no document: nothing is cut by both.
    cuts = [[(5, 7)], [(0, 1)], [(6, 7)], [(3, 4), (5, 90)], [(0, 7)]]
    kept = write_shard(tmp_path / "l", "a", texts, keep=[True] * 5, cut_out=cuts).keep
    changed = replace(shard, keep=kept, fingerprint="others")
    with workers(ALONE) as crew:
        found = find_repeated_paragraphs([changed], tmp_path / "work", crew)
    assert found.repeated == 0


def test_held_out_files_are_never_cut(tmp_path: Path) -> None:
    held_out = replace(shard_of_texts(tmp_path, "a", ["x\nx\n"]), always_stays=True)
    other = shard_of_texts(tmp_path, "b", ["x\ny\n"], group=1)
    with workers(ALONE) as crew:
        found = find_repeated_paragraphs([held_out, other], tmp_path / "work", crew)
    assert read_cuts(found.paths[held_out.name]).num_rows == 0
    assert read_cuts(found.paths[other.name]).to_pylist() == [{"row": 0, "start": 0, "end": 2}]


def test_three_sentences_that_stood_before_are_cut(tmp_path: Path) -> None:
    texts = [
        "Aaa aa. Bbb bb. Ccc cc. Ddd dd.",
        # B to D stood before, and overlap no other span that did.
        "Xxx xx. bbb, bb! Ccc cc. Ddd dd. Yyy yy.",
        # Both of its spans stood before: they are cut as one.
        "Aaa aa. Bbb bb. Ccc cc. Ddd dd!",
        # Two sentences are no span.
        "Aaa aa. Bbb bb. Zzz zz. Ccc cc. Ddd dd.",
    ]
    shards = [
        shard_of_texts(tmp_path, f"s{number}", [text], number, "three-sentences")
        for number, text in enumerate(texts)
    ]
    with workers(ALONE) as crew:
        found = find_repeated_paragraphs(shards, tmp_path / "work", crew)
    cut = [
        [text[row["start"] : row["end"]] for row in read_cuts(found.paths[shard.name]).to_pylist()]
        for shard, text in zip(shards, texts, strict=True)
    ]
    assert cut == [
        [],
        ["bbb, bb! Ccc cc. Ddd dd. "],
        ["Aaa aa. Bbb bb. Ccc cc. ", "Bbb bb. Ccc cc. Ddd dd!"],
        [],
    ]
    # Characters of overlapping spans count once.
    assert (found.repeated, found.characters) == (3, 25 + 31)
