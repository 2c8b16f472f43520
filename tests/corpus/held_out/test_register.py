"""What is held out by name: files, listed ids; the same text is on one side in every source."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from corpus.test_prepare import records
from helpers import iterate_texts, prepare_here
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.run_file import load
from pipeline.corpus.documents import SPLITS, shard_paths
from pipeline.corpus.held_out.held_out_texts import HASH, HeldOutTexts, join_hashes, write_hashes
from pipeline.corpus.source_kind import describe_sources
from pipeline.errors import ConfigError, DataError


def write_rows(path: Path, texts: list[str], **meta: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"text": text, "id": f"{path.stem}-{n}"} | meta) for n, text in enumerate(texts)
    ]
    path.write_text("\n".join(lines))


def texts_of(run_file: Path, source: str) -> dict[str, list[str]]:
    folder = run_file.parent / "data" / "documents"
    return {split: sorted(t for _, t in iterate_texts(folder, source, split)) for split in SPLITS}


@pytest.fixture
def corpus(run_file: Path) -> Path:
    """The run file of three sources that share texts."""
    folder = run_file.parent
    write_rows(folder / "web.jsonl", [f"web {n}" for n in range(30)] + ["shared 1", "shared 2"])
    write_rows(folder / "books/a.jsonl", ["book 1", "book 2", "shared 1", "shared 3"])
    write_rows(folder / "books/held/a.jsonl", ["held 1", "shared 2", "web 7"])
    write_rows(folder / "code.jsonl", ["code 1", "shared 3", "held 1", "web 9"])
    return run_file


def sources(corpus: Path, *more: str) -> list[str]:
    folder = corpus.parent
    return [
        f"sources.books={{kind: jsonl, paths: ['{folder}/books'], "
        f"validation_paths: ['{folder}/books/held']}}",
        f"sources.code={{kind: jsonl, paths: ['{folder}/code.jsonl']}}",
        *more,
    ]


def test_held_out_files_are_validation_in_every_source_and_nothing_else_is(corpus: Path) -> None:
    result = prepare_here(corpus, *sources(corpus), "prepare.validation_fraction=0")
    assert texts_of(corpus, "books") == {
        "train": ["book 1", "book 2", "shared 1", "shared 3"],
        "validation": ["held 1", "shared 2", "web 7"],
    }
    assert texts_of(corpus, "code") == {
        "train": ["code 1", "shared 3", "web 9"],
        "validation": ["held 1"],
    }
    assert texts_of(corpus, "web")["validation"] == ["shared 2", "web 7"]
    counts = result.counts["sources"]
    assert [counts[name].get("held_out_elsewhere") for name in counts] == [2, None, 1]
    assert counts["books"]["input_files"] == 2
    assert any(
        "source code: 1 documents of its training files are held" in line for line in result.closing
    )


def test_held_out_files_have_names_of_their_own(corpus: Path) -> None:
    prepare_here(corpus, *sources(corpus), "prepare.validation_fraction=0")
    folder = corpus.parent / "data" / "documents"
    origins = {
        split: {
            name
            for p in shard_paths(folder, "books", split)
            for name in pq.read_table(p)["origin_file"].to_pylist()
        }
        for split in SPLITS
    }
    assert origins == {"train": {"books/a.jsonl"}, "validation": {"validation_paths/held/a.jsonl"}}


def test_a_text_that_one_source_holds_out_by_hash_is_held_out_in_all(corpus: Path) -> None:
    """`books` has held-out files, so that no hash holds out any of its training files."""
    prepare_here(corpus, *sources(corpus), "prepare.validation_fraction=0.49")
    sides = {name: texts_of(corpus, name) for name in ("web", "books", "code")}
    held_out = {text for side in sides.values() for text in side["validation"]}
    trained = {text for side in sides.values() for text in side["train"]}
    assert not held_out & trained
    # By hash: of the others about half, of the books none but what others hold out.
    assert 8 <= len(sides["web"]["validation"]) <= 24
    assert {"book 1", "book 2"} <= set(sides["books"]["train"])


def test_training_files_are_held_out_too_where_they_are_asked_to_be(corpus: Path) -> None:
    asked = sources(corpus, "sources.books.validation_fraction=0.49", "sources.books.split_by=id")
    prepare_here(corpus, *asked, "prepare.validation_fraction=0")
    books = texts_of(corpus, "books")
    by_hash = set(books["validation"]) - {"held 1", "shared 2", "web 7"}
    assert by_hash and set(books["train"])
    trained = set(texts_of(corpus, "web")["train"]) | set(texts_of(corpus, "code")["train"])
    assert not trained & set(books["validation"])


def test_listed_documents_are_held_out_with_their_copies(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = corpus.parent / "ids.txt"
    ids.write_text("web-3\n\n code-1 \nno-such-id\n")
    listed = [
        f"prepare.validation={{ids: [web-30], file: '{ids}'}}",
        "prepare.validation_fraction=0",
    ]
    prepare_here(corpus, *sources(corpus, "sources.books.validation_paths=[]"), *listed)
    assert texts_of(corpus, "web")["validation"] == ["shared 1", "web 3"]
    assert texts_of(corpus, "books")["validation"] == ["shared 1", "shared 3"]
    assert texts_of(corpus, "code")["validation"] == ["shared 3"]
    assert "1 of 4 listed ids are no document's" in capsys.readouterr().err


def test_a_url_and_a_number_are_ids(run_file: Path) -> None:
    rows = [{"text": f"text {n}", "page_id": n, "url": f"https://a/{n}"} for n in range(9)]
    (run_file.parent / "web.jsonl").write_text("\n".join(map(json.dumps, rows)))
    listed = "prepare.validation={ids: [3, 'https://a/5']}"
    prepare_here(run_file, listed, "prepare.validation_fraction=0")
    assert texts_of(run_file, "web")["validation"] == ["text 3", "text 5"]


def test_ids_of_a_file_end_with_its_lines_alone(run_file: Path) -> None:
    rows = [{"text": f"text {n}", "id": f"a\u2028{n}\x85b"} for n in range(9)]
    (run_file.parent / "web.jsonl").write_text("\n".join(map(json.dumps, rows)))
    ids = run_file.parent / "ids.txt"
    ids.write_bytes("\ufeffa\u20283\x85b\r\n a\u20285\x85b".encode())
    prepare_here(run_file, f"prepare.validation={{file: '{ids}'}}", "prepare.validation_fraction=0")
    assert texts_of(run_file, "web")["validation"] == ["text 3", "text 5"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("{ids: [nobody]}", "no document has one of the 1 listed ids as the id, url .*nobody"),
        ("{file: FOLDER/gone.txt}", "file: .*gone.txt cannot be read: No such file"),
        ("{file: FOLDER/empty.txt}", "file: .*empty.txt holds no id"),
        ("{file: FOLDER/latin.txt}", "byte 2 of .*latin.txt is not UTF-8"),
    ],
)
def test_ids_that_cannot_be_used_stop_the_stage_by_name(
    run_file: Path, setting: str, message: str
) -> None:
    (run_file.parent / "empty.txt").write_text("\n \n")
    (run_file.parent / "latin.txt").write_bytes(b"ab\xff")
    setting = setting.replace("FOLDER", str(run_file.parent))
    with pytest.raises(DataError, match=rf"prepare\.validation.*{message}"):
        prepare_here(run_file, f"prepare.validation={setting}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("prepare.validation={}", r"prepare\.validation.*needs `ids: \[\.\.\.\]` or `file: PATH`"),
        ("prepare.validation={ids: [true]}", r"prepare\.validation\.ids"),
        ("sources.web.validation_fraction=0.5", r"sources\.web\.validation_fraction"),
        (
            "sources.code={kind: local-machine, slice: code, validation_paths: [a]}",
            r"sources\.code\.validation_paths: kind local-machine has no such setting",
        ),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    run_file: Path, override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(run_file, [override])


def test_missing_and_doubled_held_out_files_are_named(corpus: Path) -> None:
    gone = f"sources.web.validation_paths=['{corpus.parent}/gone']"
    with pytest.raises(DataError, match=r"sources\.web\.validation_paths: .*gone does not exist"):
        prepare_here(corpus, gone)
    same = f"sources.web.validation_paths=['{corpus.parent}/web.jsonl']"
    with pytest.raises(DataError, match="so there is nothing to train on"):
        prepare_here(corpus, same)


def test_a_source_that_is_held_out_whole_is_warned_about(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(corpus.parent / "code.jsonl", ["held 1", "web 7"])
    prepare_here(corpus, *sources(corpus), "prepare.validation_fraction=0")
    assert "source code: all of its 2 documents are held out by name" in capsys.readouterr().err


def test_what_is_done_stays_done_and_a_changed_held_out_file_makes_it_stale(corpus: Path) -> None:
    documents = corpus.parent / "data" / "documents"
    settings = sources(corpus)
    first = prepare_here(corpus, *settings)
    before, described = records(documents), describe_sources(load(corpus, settings))
    assert prepare_here(corpus, *settings) == first and records(documents) == before
    write_rows(corpus.parent / "books/held/a.jsonl", ["held 1", "shared 2", "web 8"])
    now = describe_sources(load(corpus, settings))
    assert {name for name in now if now[name] != described[name]} == {"validation files of books"}
    prepare_here(corpus, *settings)
    assert "web 8" in texts_of(corpus, "web")["validation"]
    # Without settings of the kind, nothing of them is left.
    prepare_here(corpus)
    assert not [p for p in documents.rglob("*") if ".held-out" in str(p) and p.is_file()]


def test_a_corpus_that_moved_away_whole_is_no_reason_to_read_again(corpus: Path) -> None:
    settings = sources(corpus)
    shutil.rmtree(corpus.parent / "books")
    described = describe_sources(load(corpus, settings))
    assert described["files of books"] is None and described["validation files of books"] is None


@given(st.lists(st.integers(0, 2**64 - 1)), st.integers(0, 2**64 - 1))
def test_hashes_are_found(numbers: list[int], other: int) -> None:
    held_out = HeldOutTexts(np.unique(np.array(numbers, HASH)))
    assert all(number in held_out for number in numbers)
    assert (other in held_out) == (other in numbers)


def test_hashes_of_several_files_are_joined(tmp_path: Path) -> None:
    write_hashes(tmp_path / "a", {5, 2**64 - 1})
    write_hashes(tmp_path / "b", {5, 7})
    joined = join_hashes([tmp_path / "a", tmp_path / "b"])
    assert joined.tolist() == [5, 7, 2**64 - 1] and (tmp_path / "b").stat().st_size == 16
    assert join_hashes([]).tolist() == []
