"""Parts of documents that are replaced: what overlaps, and what separates words on both sides of a cut."""

import re
from pathlib import Path

import hypothesis.strategies as st
import pytest
from curation import write_corpus
from hypothesis import given

from pipeline.config.run_file import load
from pipeline.corpus.selecting.kept_documents import kept_documents
from pipeline.corpus.selecting.select import select
from pipeline.corpus.selecting.verdicts import Cut, apply_cuts, joined_cuts, separated_cuts
from pipeline.store.files import write_json


def cut_at(start: int, end: int, replacement: str = "") -> Cut:
    return {"start": start, "end": end, "replacement": replacement, "reason": "test"}


@pytest.mark.parametrize(
    ("text", "cuts", "left"),
    [
        ("one bad two", [cut_at(3, 8)], "one two"),
        ("one bad two", [cut_at(4, 8)], "one two"),
        ("one bad two", [cut_at(3, 7)], "one two"),
        ("one\nbad\ntwo", [cut_at(3, 8)], "one\ntwo"),
        # At both ends of a text there is nothing to separate.
        ("bad two", [cut_at(0, 4)], "two"),
        ("one bad", [cut_at(3, 7)], "one"),
        # Parts that follow each other leave one blank.
        ("one bad two", [cut_at(3, 5), cut_at(5, 8)], "one two"),
        # What takes the place of another part counts as text.
        ("one bad a@b.c", [cut_at(3, 8), cut_at(8, 13, "x@y.z")], "one x@y.z"),
        ("a@b.c bad one", [cut_at(0, 5, "x@y.z"), cut_at(5, 10)], "x@y.z one"),
        # A replacement that the run file names is taken as it is.
        ("one bad two", [cut_at(3, 8, "-")], "one-two"),
    ],
)
def test_a_cut_joins_no_words(text: str, cuts: list[Cut], left: str) -> None:
    assert apply_cuts(text, separated_cuts(text, cuts)) == left


@given(
    st.text("ab \n", min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5)), max_size=4),
)
def test_every_word_that_is_left_is_a_piece_of_one(text: str, parts: list[tuple[int, int]]) -> None:
    cuts, _ = joined_cuts([cut_at(start, start + size) for start, size in parts], len(text))
    covered = {place for cut in cuts for place in range(cut["start"], cut["end"])}
    pieces = "".join("\0" if place in covered else text[place] for place in range(len(text)))
    left = apply_cuts(text, separated_cuts(text, cuts))
    assert left.split() == pieces.replace("\0", " ").split()
    # Without white space added, it is the text without its parts.
    assert apply_cuts(text, cuts) == pieces.replace("\0", "")
    assert len(left) - len(apply_cuts(text, cuts)) <= len(cuts)


def test_published_spans_are_cut_without_joining_words(tmp_path: Path) -> None:
    lines = "rps_lines_start_with_bulletpoint"
    columns = {
        lines: [
            [{"start": 3, "end": 8, "score": 1.0}],
            None,
            [{"start": 0, "end": 3, "score": 1.0}],
        ]
    }
    # What is left of the last one is white space, as prepare rejects it.
    texts = ["one bad two", "as it is", "bad\u2028\u3000"]
    write_corpus(tmp_path / "data", "web", texts, columns=columns)
    (tmp_path / "run.yaml").write_text(
        "paths: {data_dir: data, run_dir: run}\nexecutor: {workers: 1}\nannotate: {}\n"
        "sources: {web: {kind: jsonl, paths: [web.jsonl]}}\n"
        f"select: {{cut_spans: [{{column: {lines}}}], max_removed: {{default: 1}}}}\n"
    )
    config = load(tmp_path / "run.yaml", needs=())
    write_json(tmp_path / "data/selection/manifest.json", {"files": select(config).files})
    texts = [text for _, text in kept_documents(config).iterate_texts("web", "train")]
    assert texts == ["one two", "as it is"]


def test_first_copy_of_a_paragraph_that_is_cut_itself_leaves_the_second(tmp_path: Path) -> None:
    """Personal data that are replaced leave their paragraph what it is."""
    lines = "rps_lines_start_with_bulletpoint"
    texts = ["twice\nmail a@b.c\nlonger", "twice\nmail a@b.c\nlong", "twice\nmail a@b.c\nend"]
    spans = [
        [
            {"start": 0, "end": 6, "hash": 1},
            {"start": 6, "end": 17, "hash": 2},
            {"start": 17, "end": len(text), "hash": 10 + row},
        ]
        for row, text in enumerate(texts)
    ]
    columns = {
        lines: [[{"start": 0, "end": 5, "score": 1.0}], None, None],
        "pii": [[{"start": 11, "end": 16, "kind": "email"}]] * 3,
        "paragraph_hashes": spans,
    }
    write_corpus(tmp_path / "data", "web", texts, columns=columns)
    (tmp_path / "run.yaml").write_text(
        "paths: {data_dir: data, run_dir: run}\nexecutor: {workers: 1}\nannotate: {}\n"
        "sources: {web: {kind: jsonl, paths: [web.jsonl]}}\n"
        f"select: {{cut_spans: [{{column: {lines}}}], max_removed: {{default: 1}}, pii: replace, "
        "paragraph_duplicates: {fewest_characters: 1}}\n"
    )
    config = load(tmp_path / "run.yaml", needs=())
    write_json(tmp_path / "data/selection/manifest.json", {"files": select(config).files})
    first, second, third = (
        text for _, text in kept_documents(config).iterate_texts("web", "train")
    )
    assert re.sub(r" \S+@\S+\n", " MAIL\n", first) == "\nmail MAIL\nlonger"
    assert second == "twice\nlong"
    assert third == "end"
