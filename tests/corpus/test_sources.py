"""Finding and naming raw files."""

import os
from pathlib import Path

import pytest
from helpers import run_stages

from pipeline.__main__ import STAGES
from pipeline.artifacts import states
from pipeline.corpus.prepare import prepare
from pipeline.corpus.sources import InputFile, find_files, inventory
from pipeline.errors import DataError
from pipeline.run_file import load


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return folder


def names(files: list[InputFile]) -> list[str]:
    return [file.name for file in files]


def test_files_globs_and_folders_are_expanded_and_named_from_their_entry(tmp_path: Path) -> None:
    corpus = fill(tmp_path / "c", "b/2.jsonl.zst", "a.json.gz", "LICENSE", ".hidden.jsonl", ".git/x.jsonl", "b/1.JSONL")
    (tmp_path / "c" / "loop").symlink_to(corpus)
    assert names(find_files("s", "jsonl", [corpus])) == ["c/a.json.gz", "c/b/1.JSONL", "c/b/2.jsonl.zst"]
    assert names(find_files("s", "jsonl", [corpus / "**" / "*.zst"])) == ["b/2.jsonl.zst"]
    assert names(find_files("s", "jsonl", [tmp_path / "?" / "*" / "*.zst"])) == ["c/b/2.jsonl.zst"]
    assert names(find_files("s", "jsonl", [corpus / "[b]"])) == ["b/1.JSONL", "b/2.jsonl.zst"]
    assert names(find_files("s", "jsonl", [corpus / "LICENSE"])) == ["LICENSE"]
    assert names(find_files("s", "text", [corpus / "b"])) == ["b/1.JSONL", "b/2.jsonl.zst"]


def test_a_file_that_comes_twice_has_the_first_entrys_name_and_of_two_links_the_first(tmp_path: Path) -> None:
    corpus = fill(tmp_path / "c", "a.json.gz", "b/1.jsonl")
    (corpus / "b" / "0.jsonl").symlink_to(corpus / "b" / "1.jsonl")
    assert names(find_files("s", "jsonl", [corpus, corpus / "a.json.gz"])) == ["c/a.json.gz", "c/b/0.jsonl"]
    assert names(find_files("s", "jsonl", [corpus / "a.json.gz", corpus])) == ["a.json.gz", "c/b/0.jsonl"]


def test_names_do_not_depend_on_where_the_corpus_lies_or_on_other_files(tmp_path: Path) -> None:
    here, there = (fill(tmp_path / name / "c", "x/1.jsonl", "2.jsonl") for name in ("here", "deep/there"))
    known = names(find_files("s", "jsonl", [here]))
    assert known == names(find_files("s", "jsonl", [there])) == ["c/2.jsonl", "c/x/1.jsonl"]
    fill(tmp_path, "elsewhere/y/0.jsonl", "here/c/a/b.jsonl")
    more = names(find_files("s", "jsonl", [here, tmp_path / "elsewhere"]))
    assert more == ["c/2.jsonl", "c/a/b.jsonl", "c/x/1.jsonl", "elsewhere/y/0.jsonl"]


def test_two_files_of_one_name_are_an_error_with_a_way_out(tmp_path: Path) -> None:
    for year in ("2023", "2024"):
        fill(tmp_path / year / "wiki", "1.jsonl", "2.jsonl")
    with pytest.raises(DataError) as raised:
        find_files("s", "jsonl", [tmp_path / year / "wiki" for year in ("2023", "2024")])
    assert str(raised.value) == (
        f"sources.s.paths: {tmp_path}/2023/wiki/1.jsonl and {tmp_path}/2024/wiki/1.jsonl would both be named "
        f"wiki/1.jsonl (1 more such pairs), by which documents are told apart. Make them two sources, or name their "
        f"common parent folder {tmp_path}."
    )


def test_a_name_that_is_no_text_is_escaped(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jsonl")).write_text("x")
    assert names(find_files("s", "jsonl", [tmp_path / "*.jsonl"])) == ["caf\\xe9.jsonl"]


def test_every_path_that_gives_nothing_is_named_with_its_source(tmp_path: Path) -> None:
    fill(tmp_path / "empty", "notes.txt")
    with pytest.raises(DataError) as raised:
        find_files("books", "jsonl", [tmp_path / "gone.jsonl", tmp_path / "*.zst", tmp_path / "empty"])
    gone, pattern, empty = str(raised.value).splitlines()
    assert gone.startswith(f"sources.books.paths: {tmp_path}/gone.jsonl does not exist. Correct the path")
    assert pattern.startswith(f"sources.books.paths: {tmp_path}/*.zst matches no file. Correct the path")
    assert empty.startswith(f"sources.books.paths: {tmp_path}/empty holds no file named *.jsonl or ")


def test_a_dead_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "dead.jsonl").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match=r"sources\.s\.paths: .*dead\.jsonl cannot be read: No such file"):
        find_files("s", "jsonl", [tmp_path])


def test_the_inventory_changes_with_a_file_and_not_with_an_installed_package(run_file: Path) -> None:
    override = "sources.own={kind: local-machine, slice: code}"
    before = inventory(load(run_file, [override]))
    assert before["files of own"] == "gathered by version 1"
    with (run_file.parent / "web.jsonl").open("a") as file:
        file.write('{"text": "more"}\n')
    after = inventory(load(run_file, [override]))
    assert {name for name in after if after[name] != before[name]} == {"files of web"}


def test_a_source_that_is_gone_is_described_by_nothing_and_a_mistyped_path_by_what_is_wrong(run_file: Path) -> None:
    gone = inventory(load(run_file, [f"sources.web.paths=[{run_file.parent}/gone.jsonl]"]))
    assert gone == {"files of web": None}
    both = f"sources.web.paths=[{run_file.parent}/web.jsonl,{run_file.parent}/gone.jsonl]"
    assert "gone.jsonl does not exist" in inventory(load(run_file, [both]))["files of web"]


def test_a_mistyped_path_beside_a_good_one_is_not_taken_for_done(run_file: Path) -> None:
    run_stages(run_file, ["prepare"], [])
    stages = {stage.name: stage for stage in STAGES}
    (run_file.parent / "web.jsonl").rename(run_file.parent / "moved.jsonl")
    assert states(stages, load(run_file))["prepare"].kind == "done"  # read already, and kept
    (run_file.parent / "moved.jsonl").rename(run_file.parent / "web.jsonl")
    config = load(run_file, [f"sources.web.paths=[{run_file.parent}/web.jsonl,{run_file.parent}/wbe.jsonl]"])
    state = states(stages, config)["prepare"]
    assert state.kind == "stale" and "files of web" in state.reasons[0]
    with pytest.raises(DataError, match=r"wbe\.jsonl does not exist"):
        prepare(config)
