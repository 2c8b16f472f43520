"""Finding and naming raw files."""

import os
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers import run_stages

from pipeline.config.kinds import SOURCE_KINDS
from pipeline.config.run_file import load
from pipeline.corpus.file_search import InputFile, SourceFiles
from pipeline.corpus.folders import count_left_out
from pipeline.corpus.prepare import prepare
from pipeline.corpus.source_kind import describe_sources
from pipeline.errors import DataError
from pipeline.store.artifacts import read_manifest, stage_states
from pipeline.store.stages import STAGES


def search_files(source: str, kind: str, paths: Sequence[Path]) -> SourceFiles:
    return SOURCE_KINDS[kind].search(source, paths)


def find_files(source: str, kind: str, paths: Sequence[Path]) -> list[InputFile]:
    return search_files(source, kind, paths).files


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return folder


def names(files: list[InputFile]) -> list[str]:
    return [file.name for file in files]


def test_files_globs_and_folders_are_expanded_and_named_from_their_entry(tmp_path: Path) -> None:
    corpus = fill(
        tmp_path / "c",
        "b/2.jsonl.zst",
        "a.json.gz",
        "LICENSE",
        ".hidden.jsonl",
        ".git/x.jsonl",
        "b/1.JSONL",
    )
    (tmp_path / "c" / "loop").symlink_to(corpus)
    assert names(find_files("s", "jsonl", [corpus])) == [
        "c/a.json.gz",
        "c/b/1.JSONL",
        "c/b/2.jsonl.zst",
    ]
    assert names(find_files("s", "jsonl", [corpus / "**" / "*.zst"])) == ["b/2.jsonl.zst"]
    assert names(find_files("s", "jsonl", [tmp_path / "?" / "*" / "*.zst"])) == ["c/b/2.jsonl.zst"]
    assert names(find_files("s", "jsonl", [corpus / "[b]"])) == ["b/1.JSONL", "b/2.jsonl.zst"]
    assert names(find_files("s", "jsonl", [corpus / "LICENSE"])) == ["LICENSE"]
    assert names(find_files("s", "text", [corpus / "b"])) == ["b/1.JSONL", "b/2.jsonl.zst"]


def test_a_file_that_comes_twice_has_the_first_entrys_name_and_of_two_links_the_first(
    tmp_path: Path,
) -> None:
    corpus = fill(tmp_path / "c", "a.json.gz", "b/1.jsonl")
    (corpus / "b" / "0.jsonl").symlink_to(corpus / "b" / "1.jsonl")
    assert names(find_files("s", "jsonl", [corpus, corpus / "a.json.gz"])) == [
        "c/a.json.gz",
        "c/b/0.jsonl",
    ]
    assert names(find_files("s", "jsonl", [corpus / "a.json.gz", corpus])) == [
        "a.json.gz",
        "c/b/0.jsonl",
    ]


def test_names_do_not_depend_on_where_the_corpus_lies_or_on_other_files(tmp_path: Path) -> None:
    here, there = (
        fill(tmp_path / name / "c", "x/1.jsonl", "2.jsonl") for name in ("here", "deep/there")
    )
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
        f"sources.s.paths: {tmp_path}/2023/wiki/1.jsonl and {tmp_path}/2024/wiki/1.jsonl would "
        "both be named wiki/1.jsonl (1 more such pairs), but documents are told apart by this name. "
        f"Make them two sources, or name their common parent folder {tmp_path}."
    )


def test_a_name_that_is_no_text_is_escaped(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jsonl")).write_text("x")
    assert names(find_files("s", "jsonl", [tmp_path / "*.jsonl"])) == ["caf\\xe9.jsonl"]


def test_every_path_that_gives_nothing_is_named_with_its_source(tmp_path: Path) -> None:
    fill(tmp_path / "empty", "notes.txt")
    with pytest.raises(DataError) as raised:
        find_files(
            "books", "jsonl", [tmp_path / "gone.jsonl", tmp_path / "*.zst", tmp_path / "empty"]
        )
    gone, pattern, empty = str(raised.value).splitlines()
    assert gone.startswith(
        f"sources.books.paths: {tmp_path}/gone.jsonl does not exist. Correct the path"
    )
    assert pattern.startswith(
        f"sources.books.paths: {tmp_path}/*.zst matches no file. Correct the path"
    )
    assert empty.startswith(
        f"sources.books.paths: {tmp_path}/empty holds no file named *.jsonl or "
    )


def test_a_dead_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "dead.jsonl").symlink_to(tmp_path / "gone")
    with pytest.raises(
        DataError, match=r"sources\.s\.paths: .*dead\.jsonl cannot be read: No such file"
    ):
        find_files("s", "jsonl", [tmp_path])


def test_what_a_searched_folder_holds_besides_is_counted_by_what_it_is(tmp_path: Path) -> None:
    corpus = fill(
        tmp_path / "c",
        "a.jsonl",
        "b.jsonl.part",
        "b.csv",
        "x/c.CSV",
        "x/README",
        ".d.jsonl",
        ".git/e.jsonl",
    )
    fill(corpus, "f.tar.gz", "f.long-and-strange-suffix", "g.\x1b[31m")
    os.mkfifo(corpus / "h.jsonl")
    os.mkfifo(corpus / "pipe")
    (corpus / "i.jsonl").symlink_to("/dev/zero")
    (corpus / "elsewhere").symlink_to(corpus / "gone")
    found = search_files("s", "jsonl", [corpus])
    assert names(found.files) == ["c/a.jsonl"]
    assert count_left_out(found.left_out) == {
        ".csv": 2,
        "a FIFO": 2,
        "hidden": 2,
        "other names": 4,
        ".gz": 1,
        ".part": 1,
        "a device": 1,
    }
    (corpus / "elsewhere").unlink()
    text = search_files("s", "text", [corpus])
    assert "c/b.jsonl.part" not in names(text.files) and count_left_out(text.left_out)[".part"] == 1
    assert not search_files("s", "jsonl", [corpus / "a.jsonl", corpus / "*.jsonl.part"]).left_out


def test_a_file_that_another_source_takes_is_not_left_out(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = fill(run_file.parent / "corpus", "b.txt", "c.part", ".d", "e.jsonl.part")
    (corpus / "a.jsonl").write_text('{"text": "one"}\n')
    settings = [
        f"sources.web.paths=[{corpus}]",
        f"sources.notes={{kind: text, paths: ['{corpus}/*.txt']}}",
        "prepare.validation_fraction=0",
    ]
    run_stages(run_file, ["prepare"], settings)
    counts = read_manifest(run_file.parent / "data/documents/manifest.json")["counts"]["sources"]
    assert (
        counts["web"]["left_out"] == {".part": 2, "hidden": 1} and counts["notes"]["left_out"] == {}
    )
    assert "2 .part, 1 hidden" in capsys.readouterr().err.splitlines()[-1]


def test_files_of_two_sources_and_empty_files_are_told(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = fill(run_file.parent / "corpus", "x/a.jsonl", "x/b.jsonl", "c.jsonl")
    for name in ("x/a.jsonl", "c.jsonl"):
        (corpus / name).write_text(f'{{"text": "{name}"}}\n')
    (corpus / "x" / "b.jsonl").write_bytes(b"")
    settings = [
        f"sources.web.paths=[{corpus}]",
        f"sources.part={{kind: jsonl, paths: ['{corpus}/x']}}",
    ]
    result = prepare(load(run_file, [*settings, "prepare.validation_fraction=0"]))
    assert {name: counts["empty_files"] for name, counts in result.counts["sources"].items()} == {
        "web": 1,
        "part": 1,
    }
    assert sum("empty" in line for line in result.closing) == 2
    told = capsys.readouterr().err
    assert (
        "web and part both read 2 files" in told
        and f"{corpus}/x/a.jsonl" in told
        and "c.jsonl" not in told
    )


def test_what_is_no_file_is_refused_where_it_is_named_and_named_where_it_is_found(
    run_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = fill(run_file.parent / "corpus", "a.jsonl")
    os.mkfifo(corpus / "b.jsonl")
    monkeypatch.chdir(corpus)  # a socket's address is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("c.jsonl")
    (corpus / "d.jsonl").symlink_to("/dev/null")
    for name in ("b.jsonl", "c.jsonl", "d.jsonl", "[bc].jsonl"):
        with pytest.raises(DataError, match=r"sources\.web\.paths: .* is a (FIFO|socket|device)"):
            find_files("web", "jsonl", [corpus / name])
    (corpus / "a.jsonl").write_text('{"text": "one"}\n')
    result = prepare(
        load(run_file, [f"sources.web.paths=[{corpus}]", "prepare.validation_fraction=0"])
    )
    assert result.counts["sources"]["web"]["left_out"] == {
        "a FIFO": 1,
        "a device": 1,
        "a socket": 1,
    }
    told = capsys.readouterr().err
    assert all(f"{corpus}/{name}.jsonl" in told for name in "bcd")


def test_links_that_lead_nowhere_or_to_themselves_are_named(tmp_path: Path) -> None:
    corpus = fill(tmp_path / "c", "a.jsonl")
    (corpus / "itself.jsonl").symlink_to("itself.jsonl")
    (corpus / "one.jsonl").symlink_to("other.jsonl")
    (corpus / "other.jsonl").symlink_to("one.jsonl")
    (corpus / "gone.jsonl").symlink_to("elsewhere")
    with pytest.raises(DataError) as raised:
        find_files("s", "jsonl", [corpus])
    lines = str(raised.value).splitlines()
    assert [Path(line.split()[1]).stem for line in lines] == ["gone", "itself", "one", "other"]
    for name in ("itself.jsonl", "gone.jsonl"):
        with pytest.raises(DataError, match=rf"{name} cannot be read"):
            find_files("s", "jsonl", [corpus / name])


def test_folders_that_link_to_each_other_are_searched_once(tmp_path: Path) -> None:
    corpus = fill(tmp_path / "c", "x/a.jsonl", "y/b.jsonl")
    (corpus / "x" / "y").symlink_to(corpus / "y")
    (corpus / "y" / "x").symlink_to(corpus / "x")
    (corpus / "z").symlink_to("z")
    assert names(find_files("s", "jsonl", [corpus])) == ["c/x/a.jsonl", "c/x/y/b.jsonl"]


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("jsonl", "x.jsonl", "x.jsonl.gz"),
        ("jsonl", "x.jsonl.zst", "x.jsonl.gz"),
        ("jsonl", "X.JSON.xz", "x.json"),
        ("text", "x.txt", "x.txt.bz2"),
    ],
)
def test_one_text_in_two_forms_beside_each_other_is_an_error(
    tmp_path: Path, kind: str, one: str, other: str
) -> None:
    corpus = fill(tmp_path / "c", one, other, f"elsewhere/{one}", "y.jsonl")
    for paths in ([corpus], [corpus / one, corpus / other], [corpus / "[xX]*"]):
        with pytest.raises(DataError) as raised:
            find_files("s", kind, paths)
        assert {str(corpus / one), str(corpus / other)} <= set(str(raised.value).split())
    (corpus / other).unlink()
    assert len(find_files("s", kind, [corpus])) == 3


def test_what_the_pipeline_itself_writes_is_not_read_as_text(run_file: Path) -> None:
    """A corpus beside its `data_dir`, searched from above: the second time, the first one's
    documents lie there, too."""
    folder = run_file.parent
    settings = ["prepare.validation_fraction=0", "prepare.max_bad_rows=0.5"]
    here = [*settings, f"sources.web.paths=[{folder}]"]
    pattern = [*settings, f"sources.web.paths=['{folder}/**/*.jsonl']"]
    with (folder / "web.jsonl").open("a") as file:
        file.write("{\n")  # so that there is a file of rejected rows
    (folder / "zero1.json").rename(folder / "zero1.template")
    index = folder / "data" / "packing" / "best-fit-8" / "manifest.json"
    index.parent.mkdir(parents=True)
    index.write_text("{}")
    for overrides in (here, pattern):
        first, second = (prepare(load(run_file, overrides)).counts for _ in range(2))
        assert list((folder / "data").rglob("rejected/*.jsonl"))
        assert (
            first["sources"]["web"]["input_files"] == second["sources"]["web"]["input_files"] == 1
        )
        assert sum(second["sources"]["web"]["documents"].values()) == 40
    assert names(find_files("s", "parquet", [folder / "data" / "documents"]))  # asked for by name


def test_a_pattern_below_a_folder_with_magic_characters_in_its_name_matches(tmp_path: Path) -> None:
    for folder in ("d[1]", "d1", "e*"):
        fill(tmp_path / folder, "a.jsonl", "sub[x]/b.jsonl", "c[0].jsonl")
    assert names(find_files("s", "jsonl", [tmp_path / "d[1]" / "*.jsonl"])) == [
        "a.jsonl",
        "c[0].jsonl",
    ]
    assert names(find_files("s", "jsonl", [tmp_path / "d[1]" / "**" / "b.jsonl"])) == [
        "sub[x]/b.jsonl"
    ]
    assert names(find_files("s", "jsonl", [tmp_path / "e*" / "sub[x]" / "?.jsonl"])) == ["b.jsonl"]
    assert names(find_files("s", "jsonl", [tmp_path / "d[1]" / "c[0].jsonl"])) == ["c[0].jsonl"]
    assert names(find_files("s", "jsonl", [tmp_path / "d[0-9]" / "a.jsonl"])) == ["d1/a.jsonl"]


def test_side_folders_of_published_corpora_are_refused_with_the_folder_to_take(
    tmp_path: Path,
) -> None:
    two = fill(
        tmp_path / "rp2",
        "documents/2023-06/0/en_head.json.gz",
        "minhash/2023-06/0/en_head.minhash.parquet",
    )
    fill(
        two,
        "quality_signals/2023-06/0/en_head.signals.json.gz",
        "duplicates/2023-06/0/en_head.duplicates.parquet",
    )
    dolma = fill(tmp_path / "dolma", "v1/documents/a.jsonl.gz", "v1/attributes/tagger/a.jsonl.gz")
    for path in (two, two / "*" / "**" / "*.json.gz", tmp_path):
        with pytest.raises(
            DataError, match=rf"quality_signals/ .* text_field: raw_content: {two}/documents"
        ):
            find_files("s", "jsonl", [path])
    with pytest.raises(DataError, match=r"duplicates/ and minhash/"):
        find_files("s", "parquet", [two])
    with pytest.raises(DataError, match=rf"attributes/ .* documents/ folder: {dolma}/v1/documents"):
        find_files("s", "jsonl", [dolma])
    assert len(find_files("s", "jsonl", [two / "documents", dolma / "v1" / "documents"])) == 2
    assert len(find_files("s", "jsonl", [dolma / "v1" / "attributes"])) == 1  # asked for by name
    assert (
        len(find_files("s", "jsonl", [fill(tmp_path / "own", "attributes/a.jsonl", "b.jsonl")]))
        == 2
    )


@pytest.mark.parametrize(
    ("files", "held_out"),
    [
        (
            ["train-00000-of-00001.parquet", "test-00000-of-00001.parquet"],
            ["test-00000-of-00001.parquet"],
        ),
        (["validation.parquet", "a.parquet"], ["validation.parquet"]),
        (
            ["train/a.parquet", "test/c.parquet", "dev/b.parquet"],
            ["dev/b.parquet", "test/c.parquet"],
        ),
        (["c4-train.0.parquet", "c4-validation.0.parquet"], ["c4-validation.0.parquet"]),
        (["latest.parquet", "testimony.parquet", "android-dev.parquet", "evaluated.parquet"], []),
        (["train/VAL_01.parquet"], ["train/VAL_01.parquet"]),
    ],
)
def test_files_named_as_held_out_splits_are_pointed_out_and_taken(
    tmp_path: Path, files: list[str], held_out: list[str]
) -> None:
    corpus = fill(tmp_path / "test", *files)  # the folder's own name was asked for
    for paths in ([corpus], [corpus / "**" / "*.parquet"]):
        found = search_files("s", "parquet", paths)
        assert sorted(found.held_out) == [corpus / name for name in held_out]
        assert len(found.files) == len(files)
    assert not search_files("s", "parquet", [corpus / name for name in files]).held_out


def test_the_inventory_changes_with_a_file_and_not_with_an_installed_package(
    run_file: Path,
) -> None:
    override = "sources.own={kind: local-machine, slice: code}"
    before = describe_sources(load(run_file, [override]))
    assert before["files of own"] == "gathered by version 1"
    with (run_file.parent / "web.jsonl").open("a") as file:
        file.write('{"text": "more"}\n')
    after = describe_sources(load(run_file, [override]))
    assert {name for name in after if after[name] != before[name]} == {"files of web"}


def test_a_source_that_is_gone_is_described_by_nothing_and_a_mistyped_path_by_what_is_wrong(
    run_file: Path,
) -> None:
    gone = describe_sources(load(run_file, [f"sources.web.paths=[{run_file.parent}/gone.jsonl]"]))
    assert gone == {"files of web": None}
    both = f"sources.web.paths=[{run_file.parent}/web.jsonl,{run_file.parent}/gone.jsonl]"
    assert "gone.jsonl does not exist" in describe_sources(load(run_file, [both]))["files of web"]


def test_a_mistyped_path_beside_a_good_one_is_not_taken_for_done(run_file: Path) -> None:
    run_stages(run_file, ["prepare"], [])
    stages = {stage.name: stage for stage in STAGES}
    (run_file.parent / "web.jsonl").rename(run_file.parent / "moved.jsonl")
    assert stage_states(stages, load(run_file))["prepare"].kind == "done"  # read already, and kept
    (run_file.parent / "moved.jsonl").rename(run_file.parent / "web.jsonl")
    config = load(
        run_file, [f"sources.web.paths=[{run_file.parent}/web.jsonl,{run_file.parent}/wbe.jsonl]"]
    )
    state = stage_states(stages, config)["prepare"]
    assert state.kind == "stale" and "files of web" in state.reasons[0]
    with pytest.raises(DataError, match=r"wbe\.jsonl does not exist"):
        prepare(config)
