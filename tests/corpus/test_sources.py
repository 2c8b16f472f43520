"""Finding, naming and grouping raw files."""

from pathlib import Path

import pytest

from pipeline.corpus import sources
from pipeline.corpus.sources import InputFile, find_files, group_files, inventory
from pipeline.errors import DataError
from pipeline.run_file import load


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return folder


def names(files: list[InputFile]) -> list[str]:
    return [file.name for file in files]


def test_files_globs_and_folders_are_expanded_sorted_and_taken_once(tmp_path: Path) -> None:
    corpus = fill(tmp_path / "c", "b/2.jsonl.zst", "a.json.gz", "LICENSE", ".hidden.jsonl", ".git/x.jsonl", "b/1.JSONL")
    (tmp_path / "c" / "loop").symlink_to(corpus)
    everything = ["a.json.gz", "b/1.JSONL", "b/2.jsonl.zst"]
    assert names(find_files("s", "jsonl", [corpus])) == everything
    assert names(find_files("s", "jsonl", [corpus, corpus / "a.json.gz", corpus / "b" / "*"])) == everything
    assert names(find_files("s", "jsonl", [corpus / "**" / "*.zst"])) == ["2.jsonl.zst"]
    assert names(find_files("s", "jsonl", [corpus / "LICENSE"])) == ["LICENSE"]
    assert names(find_files("s", "text", [corpus / "b"])) == ["1.JSONL", "2.jsonl.zst"]


def test_names_do_not_depend_on_where_the_corpus_lies(tmp_path: Path) -> None:
    here, there = (fill(tmp_path / name, "x/1.jsonl", "2.jsonl") for name in ("here", "deep/there"))
    assert (
        names(find_files("s", "jsonl", [here])) == names(find_files("s", "jsonl", [there])) == ["2.jsonl", "x/1.jsonl"]
    )


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


def test_small_neighbours_share_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "GROUP_BYTES", 10)
    monkeypatch.setattr(sources, "GROUP_FILES", 3)
    files = [InputFile(Path(str(i)), str(i), size, 0) for i, size in enumerate([4, 6, 1, 30, 1, 0, 0, 0])]
    assert [names(group) for group in group_files(files)] == [["0", "1"], ["2"], ["3"], ["4", "5", "6"], ["7"]]


def test_the_inventory_changes_with_a_file_and_not_with_an_installed_package(run_file: Path) -> None:
    override = "sources.own={kind: local-machine, slice: code}"
    before = inventory(load(run_file, [override]))
    assert before["files of own"] == "gathered by version 1"
    with (run_file.parent / "web.jsonl").open("a") as file:
        file.write('{"text": "more"}\n')
    after = inventory(load(run_file, [override]))
    assert {name for name in after if after[name] != before[name]} == {"files of web"}


def test_the_inventory_names_all_that_is_missing(run_file: Path) -> None:
    config = load(run_file, ["sources.web.paths=[gone.jsonl]", "sources.more={kind: text, paths: [nowhere]}"])
    with pytest.raises(DataError, match=r"(?s)sources\.web\.paths: .*gone\.jsonl.*sources\.more\.paths: .*nowhere"):
        inventory(config)
