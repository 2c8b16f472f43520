"""The stage as a whole: split, rejects, broken files, resuming, and the same bytes whatever the
workers."""

import errno
import gzip
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
import zstandard
from corpus.killed_prepare import contents, in_forking_process, survives
from helpers import iterate_texts, prepare_here

from pipeline.config.kinds import SOURCE_KINDS
from pipeline.config.run_file import load
from pipeline.corpus.documents import shard_paths
from pipeline.corpus.file_search import InputFile
from pipeline.corpus.groups import group_files
from pipeline.corpus.key_file import keys_path
from pipeline.corpus.read_task import ReadSettings, read_files
from pipeline.corpus.row_settings import RowSettings
from pipeline.corpus.split import choose_split, hash_position
from pipeline.errors import ConfigError, DataError
from pipeline.store.environment import user_variable

WEB = "%012x" % (xxhash.xxh3_64_intdigest(b"web.jsonl") >> 16)
"""Key of the task that reads web.jsonl."""


def outputs(folder: Path) -> set[str]:
    shards = {path.relative_to(folder) for path in folder.rglob("*.parquet")}
    keys = {path.relative_to(folder) for path in folder.rglob(".*.keys")}
    assert keys == set(map(keys_path, shards))
    return {path.as_posix() for path in shards | keys}


def write_jsonl(path: Path, texts: list[object]) -> None:
    lines = "".join(
        json.dumps({"text": text, "meta": {"site": str(i // 2), "id": i}}) + "\n"
        for i, text in enumerate(texts)
    )
    packed = (
        zstandard.ZstdCompressor().compress(lines.encode())
        if path.suffix == ".zst"
        else lines.encode()
    )
    path.write_bytes(packed)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def test_every_row_becomes_a_document_of_one_split_with_its_origin(run_file: Path) -> None:
    result = prepare_here(run_file)
    counts = result.counts["sources"]["web"]
    assert counts["documents"]["train"] + counts["documents"]["validation"] == 40
    assert 0 < counts["documents"]["validation"] < 20
    assert counts["rejected"] == {} and counts["broken_files"] == {} and counts["input_files"] == 1
    folder = run_file.parent / "data" / "documents"
    texts = {
        split: [text for _, text in iterate_texts(folder, "web", split)]
        for split in ("train", "validation")
    }
    assert len({*texts["train"], *texts["validation"]}) == 40
    assert sum(len(t) for t in texts["train"]) == counts["text_bytes"]["train"]
    assert all(
        choose_split(hash_position(text.encode()), 0.2) == split
        for split in texts
        for text in texts[split]
    )
    (first,) = pq.read_table(shard_paths(folder, "web", "train")[0]).slice(0, 1).to_pylist()
    row = int(first["text"].split()[1])
    assert (first["id"], first["origin_file"], first["origin_row"]) == (
        f"web/train_{WEB}_000/0",
        "web.jsonl",
        row,
    )
    assert set(result.files) == outputs(folder)
    assert result.counts["headline"].startswith("40 documents, 1.")


def test_documents_that_share_the_split_key_stay_together(run_file: Path) -> None:
    write_jsonl(run_file.parent / "web.jsonl", [f"text {i}" for i in range(40)])
    prepare_here(run_file, "sources.web.split_by=site")
    folder = run_file.parent / "data" / "documents"
    sites = {
        split: {
            json.loads(meta.as_py())["site"]
            for p in shard_paths(folder, "web", split)
            for meta in pq.read_table(p)["meta"]
        }
        for split in ("train", "validation")
    }
    assert len(sites["train"]) + len(sites["validation"]) == 20
    assert sites["train"].isdisjoint(sites["validation"]) and sites["validation"]


def test_a_missing_split_key_names_setting_row_and_remedy(run_file: Path) -> None:
    message = r"sources\.web\.split_by = 'url': row 0 of .*web\.jsonl has no such key in its meta, "
    message += r"whose keys are: none\. Name"
    with pytest.raises(DataError, match=message):
        prepare_here(run_file, "sources.web.split_by=url")


@pytest.mark.ranks
def test_the_bytes_do_not_depend_on_the_number_of_workers(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        write_jsonl(
            run_file.parent / f"{name}.jsonl.zst", [f"{name} {i}" for i in range(50)] + [""]
        )
    monkeypatch.setattr("pipeline.corpus.groups.GROUP_FILES", 1)
    settings = [
        "sources.web.paths=['*.jsonl*']",
        "prepare.max_bad_rows=0.5",
        "prepare.shard_text_bytes=60",
    ]
    monkeypatch.chdir(run_file.parent)
    alone = prepare_here(run_file, *settings, "paths.data_dir=alone")
    together = prepare_here(run_file, *settings, "paths.data_dir=together", "executor.workers=2")
    assert alone == together and len(alone.files) > 16
    assert contents(run_file.parent / "alone" / "documents") == contents(
        run_file.parent / "together" / "documents"
    )


def test_what_is_done_is_not_done_again_and_what_is_missing_is(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.corpus.groups.GROUP_FILES", 1)
    write_jsonl(run_file.parent / "more.jsonl", ["x", "y"])
    setting = f"sources.web.paths=[{run_file.parent}/*.jsonl]"
    before = prepare_here(run_file, setting)
    folder = run_file.parent / "data" / "documents"
    written = {path: path.stat().st_mtime_ns for path in folder.glob("web/*.*")}
    assert prepare_here(run_file, setting) == before
    assert {path: path.stat().st_mtime_ns for path in written} == written
    (folder / ".tasks" / f"web~{WEB}.json").unlink()
    for path in folder.glob(f"web/*_{WEB}_*.*"):
        path.write_bytes(b"half")
    assert prepare_here(run_file, setting) == before
    changed = {path.name for path in written if path.stat().st_mtime_ns != written[path]}
    assert changed == {path.name for path in written if f"_{WEB}_" in path.name} != set()


def many_files(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(folder / name, [f"{name} {i}" for i in range(3)])
        os.utime(folder / name, (1, 1))


def records(documents: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_mtime_ns for path in documents.glob(".tasks/*.json")}


@pytest.mark.parametrize("added", ["a.jsonl", "b/07-more.jsonl", "z.jsonl", "c/0.jsonl"])
def test_adding_a_file_prepares_its_group_only(
    run_file: Path, monkeypatch: pytest.MonkeyPatch, added: str
) -> None:
    monkeypatch.setattr("pipeline.corpus.groups.GROUP_FILES", 5)
    monkeypatch.chdir(run_file.parent)
    corpus, documents = run_file.parent / "corpus", run_file.parent / "data" / "documents"
    many_files(corpus, [f"{folder}/{number:02d}.jsonl" for folder in "bd" for number in range(30)])
    setting = f"sources.web.paths=[{corpus}]"
    prepare_here(run_file, setting)
    before = records(documents)
    assert len(before) > 8
    many_files(corpus, [added])
    result = prepare_here(run_file, setting)
    after = records(documents)
    ran = {name for name in after if after[name] != before.get(name)}
    (task,) = [
        t
        for t in group_files(SOURCE_KINDS["jsonl"].search("web", [corpus]).files)
        if f"corpus/{added}" in {f.name for f in t.files}
    ]
    assert (
        f"web~{task.key}" in ran and len(ran) <= 2
    )  # two where the new file ends a group within an old one
    assert result == prepare_here(run_file, setting, "paths.data_dir=anew")
    assert contents(documents) == contents(run_file.parent / "anew" / "documents")

    (corpus / added).unlink()
    prepare_here(run_file, setting)
    assert records(documents).keys() == before.keys()
    origins = {
        name
        for p in documents.glob("web/*.parquet")
        for name in pq.read_table(p)["origin_file"].to_pylist()
    }
    assert len(origins) == 60 and f"corpus/{added}" not in origins


def test_adding_a_source_leaves_the_others_alone(run_file: Path) -> None:
    documents = run_file.parent / "data" / "documents"
    prepare_here(run_file)
    before, files = records(documents), contents(documents)
    write_jsonl(run_file.parent / "a.jsonl", ["x", "y"])
    prepare_here(run_file, f"sources.a={{kind: jsonl, paths: [{run_file.parent}/a.jsonl]}}")
    assert before.items() < records(documents).items()
    assert files.items() < contents(documents).items()


@pytest.mark.ranks
def test_killed_at_any_step_and_started_again_it_gives_the_same_bytes(run_file: Path) -> None:
    in_forking_process(kill_at_every_step, run_file)


def kill_at_every_step(run_file: Path) -> None:
    """A child kills itself at its k-th opening, renaming or removing of a file, for every k there
    is."""
    write_jsonl(run_file.parent / "web.jsonl", [f"text {i}" for i in range(30)] + [5])
    settings = ["prepare.shard_text_bytes=50", "prepare.max_bad_rows=0.5"]
    whole = prepare_here(run_file, *settings, f"paths.data_dir={run_file.parent}/whole")
    documents = run_file.parent / "data" / "documents"
    kills = 0
    while not survives(lambda: prepare_here(run_file, *settings), kills):
        kills += 1
        (documents / ".tasks" / f"web~{WEB}.json").unlink(
            missing_ok=True
        )  # so that every child does everything
    assert len(whole.files) == 8 and kills > 3 * 8, kills
    assert prepare_here(run_file, *settings) == whole
    assert contents(documents) == contents(run_file.parent / "whole" / "documents")


def test_a_full_disk_is_no_broken_file_and_leaves_nothing(run_file: Path) -> None:
    """The limit of a file's size fails like a full disk: in a write, with an error of the operating
    system."""
    write_jsonl(run_file.parent / "web.jsonl", ["x" * 500, "y" * 500, os.urandom(4000).hex()])
    (file,) = SOURCE_KINDS["jsonl"].search("web", [run_file.parent / "web.jsonl"]).files
    settings = ReadSettings(
        "web", "jsonl", RowSettings(), "text", 0, "keep-readable-rows", 500, "lf"
    )
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (4000, limits[1])
    )  # two shards fit, the third does not
    code = None
    try:
        read_files(run_file.parent / "documents", "0a", [file], settings)
    except OSError as error:
        code = error.errno
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == errno.EFBIG
    assert list((run_file.parent / "documents" / "web").iterdir()) == []


def test_outputs_of_former_settings_are_removed(run_file: Path) -> None:
    prepare_here(
        run_file,
        "prepare.shard_text_bytes=50",
        "sources.old={kind: text, paths: [web.jsonl]}",
        f"sources.old.paths=[{run_file}]",
    )
    result = prepare_here(run_file)
    folder = run_file.parent / "data" / "documents"
    assert outputs(folder) == set(result.files)
    assert len(result.files) == 4


MEMORY = """
import re, sys
from pathlib import Path
from pipeline.corpus.read_task import ReadSettings, read_files
from pipeline.config.kinds import SOURCE_KINDS
from pipeline.corpus.row_settings import RowSettings

def peak():
    # Not getrusage, in which a process begins with the peak of the one that started it.
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1))

folder = Path(sys.argv[1])
kind = SOURCE_KINDS[sys.argv[2]]
before = peak()
settings = ReadSettings("web", sys.argv[2], RowSettings(), "text", 0.0, "stop", 1 << 30, "lf")
read_files(folder / "documents", "0a", kind.search("web", [Path(sys.argv[3])]).files, settings)
print(peak() - before)
"""


@pytest.mark.ranks
@pytest.mark.parametrize(
    "name", ["large.jsonl", "large.jsonl.zst", "large.txt", "large.parquet", "many.jsonl.zst"]
)
def test_memory_is_bounded_by_the_largest_document(tmp_path: Path, name: str) -> None:
    """Two documents of 40 MB in which one character makes every one take four bytes in a `str`; or
    a million tiny ones."""
    size = 40_000_000
    text = "\U0001f600" + os.urandom(size // 4).hex() + "every good boy does fine " * (size // 50)
    path = tmp_path / name
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": pa.array([text, text], pa.large_string())}), path)
    elif path.suffix == ".txt":
        path.write_text(text, "utf-8")
    elif name == "many.jsonl.zst":
        path.write_bytes(zstandard.ZstdCompressor().compress(b'{"text": "a"}\n' * 300_000))
        size = 0
    else:
        line = json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n"
        path.write_bytes(
            zstandard.ZstdCompressor().compress(line * 2) if path.suffix == ".zst" else line * 2
        )
    kind = {".parquet": "parquet", ".txt": "text"}.get(path.suffix, "jsonl")
    child = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path, kind, path], capture_output=True, check=True
    )
    assert int(child.stdout) < 6 * size + 150_000_000, int(child.stdout)


def test_rejected_rows_are_counted_by_reason_and_sampled(run_file: Path) -> None:
    with (run_file.parent / "web.jsonl").open("ab") as file:
        file.write(b'{"text": 1}\n' * 25 + b"{\n")
    result = prepare_here(run_file, "prepare.max_bad_rows=0.5")
    assert result.counts["sources"]["web"]["rejected"] == {
        "broken-json": 1,
        "text-not-a-string": 25,
    }
    lines = (run_file.parent / f"data/documents/web/rejected/{WEB}.jsonl").read_text().splitlines()
    samples = [json.loads(line) for line in lines]
    assert len(samples) == 21
    assert samples[-1] == {"file": "web.jsonl", "row": 65, "reason": "broken-json", "excerpt": "{"}


def test_too_many_bad_rows_stop_the_stage_and_a_higher_bound_reads_nothing_again(
    run_file: Path,
) -> None:
    write_jsonl(run_file.parent / "web.jsonl", ["a", "b", "", None, 5, ""])
    with pytest.raises(DataError) as raised:
        prepare_here(run_file)
    message = str(raised.value)
    for part in (
        "source web: 4 of 6 rows (66.67%)",
        "prepare.max_bad_rows = 0.01",
        "2 empty-text in web.jsonl; 1 no-text in web.jsonl; 1 text-not-a-string in web.jsonl",
        f"{run_file.parent}/data/documents/web/rejected",
        "Rows without 'text' have the keys meta",
        "sources.web.text_field",
        "or raise prepare.max_bad_rows",
    ):
        assert part in message
    record = run_file.parent / f"data/documents/.tasks/web~{WEB}.json"
    written = record.stat().st_mtime_ns
    assert (
        prepare_here(run_file, "prepare.max_bad_rows=0.7")
        .counts["headline"]
        .startswith("2 documents")
    )
    assert record.stat().st_mtime_ns == written


def test_a_source_without_documents_is_an_error(run_file: Path) -> None:
    (run_file.parent / "web.jsonl").write_text("\n\n")
    with pytest.raises(
        DataError,
        match=r"source web: its 1 input files hold no document\. Correct sources\.web\.paths",
    ):
        prepare_here(run_file)


def test_a_source_with_nothing_held_out_is_told_the_number_that_would_do(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["a", "b", "c"]
    write_jsonl(run_file.parent / "web.jsonl", texts)
    assert (
        prepare_here(run_file, "prepare.validation_fraction=0.001").counts["sources"]["web"][
            "documents"
        ]["validation"]
        == 0
    )
    (number,) = re.findall(r"validation_fraction to (\S+) or more", capsys.readouterr().err)
    counts = prepare_here(run_file, f"prepare.validation_fraction={number}").counts["sources"][
        "web"
    ]
    assert counts["documents"]["validation"] >= 1 and counts["documents"]["train"] >= 1
    assert (
        counts["smallest_hash"]
        == min(hash_position(text.encode()) for text in texts)
        < float(number)
    )
    assert "validation_fraction" not in capsys.readouterr().err


@pytest.mark.parametrize("texts", [["a"], ["a", "a"]])
def test_a_source_of_one_document_is_told_that_no_number_holds_it_out(
    run_file: Path, capsys: pytest.CaptureFixture[str], texts: list[object]
) -> None:
    write_jsonl(run_file.parent / "web.jsonl", texts)
    prepare_here(run_file, "prepare.validation_fraction=0.001")
    assert "No prepare.validation_fraction" in capsys.readouterr().err


def one_group(folder: Path, names: Sequence[str], texts: int = 3) -> list[InputFile]:
    for name in names:
        write_jsonl(folder / name, [f"{name} {i}" for i in range(texts)])
    return SOURCE_KINDS["jsonl"].search("web", [folder / name for name in names]).files


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b'{"text": "one more"}\n')


def write_at_the_same_size(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b'{"text": "B')
    os.utime(path, ns=(0, 10**9))


def replace_at_the_same_size_and_time(path: Path) -> None:
    status, other = path.stat(), path.with_suffix(".new")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("on_broken_file", ["stop", "keep-readable-rows"])
@pytest.mark.parametrize(
    ("changed", "change"),
    [
        ("a.jsonl", append),
        ("a.jsonl", write_at_the_same_size),
        ("a.jsonl", truncate),
        ("a.jsonl", Path.unlink),
        ("b.jsonl", append),
        ("b.jsonl", replace_at_the_same_size_and_time),
        ("c.jsonl", append),
        ("c.jsonl", Path.unlink),
    ],
)
def test_a_file_that_changes_while_its_group_is_read_fails_the_task_by_name(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: str,
    change: Callable[[Path], object],
    on_broken_file: Literal["stop", "keep-readable-rows"],
) -> None:
    """While b.jsonl is read: one that was read before, this one, or one that comes after it."""
    files = one_group(tmp_path, ["a.jsonl", "b.jsonl", "c.jsonl"])
    reports = []

    def report(fraction: float, **counts: int) -> None:
        if not reports and counts["documents"] > 3:
            reports.append(counts)
            change(tmp_path / changed)

    monkeypatch.setattr("pipeline.corpus.raw_files.BLOCK_BYTES", 40)
    monkeypatch.setattr("pipeline.corpus.read_task.report_progress", report)
    settings = ReadSettings("web", "jsonl", RowSettings(), "text", 0.0, on_broken_file, 50, "lf")
    with pytest.raises(DataError, match=rf"{changed}: (was|changed)"):
        read_files(tmp_path / "documents", "0a", files, settings)
    assert reports and list((tmp_path / "documents" / "web").iterdir()) == []


def test_a_stage_over_a_file_that_grew_fails_and_reads_it_anew_when_it_is_started_again(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.corpus.groups.GROUP_FILES", 1)
    one_group(run_file.parent, ["web.jsonl", "other.jsonl"], texts=30)
    setting = f"sources.web.paths=['{run_file.parent}/*.jsonl']"
    with monkeypatch.context() as patched:
        once = iter([None])
        patched.setattr(
            "pipeline.corpus.read_task.report_progress",
            lambda fraction, **counts: [append(run_file.parent / "web.jsonl") for _ in once],
        )
        patched.setattr("pipeline.corpus.raw_files.BLOCK_BYTES", 200)
        with pytest.raises(DataError, match=r"web\.jsonl: changed from") as stopped:
            prepare_here(run_file, setting)
    assert "on_broken_file" not in str(stopped.value)  # which would not help
    documents = run_file.parent / "data" / "documents"
    assert not list(documents.glob(f"web/*{WEB}*")) and not list(documents.glob(f".tasks/*{WEB}*"))
    assert sum(prepare_here(run_file, setting).counts["sources"]["web"]["documents"].values()) == 61


def test_line_ends_of_text_files_become_lf_and_are_counted_unless_they_shall_stay(
    run_file: Path,
) -> None:
    notes = run_file.parent / "notes"
    notes.mkdir()
    contents = {
        "a.txt": b"a\r\nb\r\n",
        "b.txt": b"c\rd\n\r\n",
        "c.txt.gz": gzip.compress(b"f\r\r\n\n\r"),
        "d.txt": b"e\n",
    }
    for name, content in contents.items():
        (notes / name).write_bytes(content)
    whole = [f"sources.notes={{kind: text, paths: ['{notes}']}}", "prepare.validation_fraction=0"]
    folder = run_file.parent / "data" / "documents"

    def texts() -> list[str]:
        return sorted(text for _, text in iterate_texts(folder, "notes", "train"))

    result = prepare_here(run_file, *whole)
    assert result.counts["sources"]["notes"]["crlf_line_ends"] == 4 and "4 CRLF" in " ".join(
        result.closing
    )
    assert texts() == sorted(["a\nb\n", "c\rd\n\n", "f\r\n\n\r", "e\n"])
    kept = prepare_here(run_file, *whole, "sources.notes.line_ends=as-they-are")
    assert kept.counts["sources"]["notes"]["crlf_line_ends"] == 0
    assert texts() == sorted(["a\r\nb\r\n", "c\rd\n\r\n", "f\r\r\n\n\r", "e\n"])
    with pytest.raises(ConfigError, match=r"sources\.web\.line_ends"):
        load(run_file, ["sources.web.line_ends=lf"])


def test_line_ends_within_json_text_stay_as_they_came(run_file: Path) -> None:
    lines = [json.dumps({"text": f"row {i}\r\nof two\rlines"}) for i in range(3)]
    (run_file.parent / "web.jsonl").write_bytes("\r\n".join([*lines, ""]).encode())
    counts = prepare_here(run_file, "prepare.validation_fraction=0").counts["sources"]["web"]
    assert (
        counts["documents"]["train"] == 3
        and counts["rejected"] == {}
        and counts["crlf_line_ends"] == 0
    )
    folder = run_file.parent / "data" / "documents"
    assert (
        next(text for _, text in iterate_texts(folder, "web", "train")) == "row 0\r\nof two\rlines"
    )


def test_broken_files_stop_the_stage_after_the_others(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_file.parent
    for name in ("a", "b", "c", "d"):
        write_jsonl(folder / f"{name}.jsonl.zst", [f"{name}{i}" for i in range(30)])
    truncate(folder / "a.jsonl.zst")
    (folder / "c.jsonl.zst").write_bytes(b"<html>Not Found</html>")
    monkeypatch.setattr("pipeline.corpus.groups.GROUP_FILES", 1)
    setting = f"sources.web.paths=[{folder}/*.zst]"
    with pytest.raises(DataError) as raised:
        prepare_here(run_file, setting)
    first, second, remedy = str(raised.value).splitlines()
    assert first.startswith(f"source web: {folder}/a.jsonl.zst: is truncated")
    assert second.startswith(
        f"source web: {folder}/c.jsonl.zst: not valid .zst data in its beginning"
    )
    assert remedy.endswith(
        "or set prepare.on_broken_file=keep-readable-rows to keep the rows before the damage."
    )
    documents = folder / "data" / "documents"
    whole = {
        f"{xxhash.xxh3_64_intdigest(name) >> 16:012x}" for name in (b"b.jsonl.zst", b"d.jsonl.zst")
    }
    assert {p.name for p in (documents / ".tasks").iterdir()} == {
        f"web~{key}.json" for key in whole
    }
    assert {path.name.split("_")[1] for path in documents.glob("web/*.parquet")} == whole
    assert not list(documents.rglob("*.partial"))

    write_jsonl(folder / "a.jsonl.zst", ["a0"])
    (folder / "c.jsonl.zst").unlink()
    assert prepare_here(run_file, setting).counts["headline"].startswith("61 documents")


def test_of_many_broken_files_the_first_are_named_and_all_are_counted(run_file: Path) -> None:
    corpus = run_file.parent / "corpus"
    corpus.mkdir()
    for number in range(30):
        (corpus / f"{number:02d}.json").write_text('[{"text": "a"}]')
    setting = f"sources.web.paths=[{corpus}]"
    with pytest.raises(DataError) as raised:
        prepare_here(run_file, setting)
    *named, more, remedy = str(raised.value).splitlines()
    assert (
        len(named) == 20
        and f"{corpus}/00.json: " in named[0]
        and "10 more" in more
        and "on_broken_file" in remedy
    )
    with pytest.raises(DataError, match="hold no document"):
        prepare_here(run_file, setting, "prepare.on_broken_file=keep-readable-rows")


def test_rows_before_a_break_can_be_kept(run_file: Path) -> None:
    folder = run_file.parent
    one, two = (
        zstandard.ZstdCompressor().compress(b'{"text": "%s"}\n' % word) for word in (b"one", b"two")
    )
    (folder / "cut.jsonl.zst").write_bytes(one + two[:-2])
    result = prepare_here(
        run_file,
        f"sources.web.paths=[{folder}/cut.jsonl.zst]",
        "prepare.on_broken_file=keep-readable-rows",
    )
    counts = result.counts["sources"]["web"]
    assert sum(counts["documents"].values()) == 1
    assert counts["broken_files"]["cut.jsonl.zst"].startswith(
        "is truncated: its .zst data ends after"
    )
    (line,) = result.closing
    assert "cut.jsonl.zst is truncated" in line


def test_a_missing_file_is_said_before_anything_is_read(run_file: Path) -> None:
    with pytest.raises(DataError, match=r"sources\.web\.paths: .*gone\.jsonl does not exist"):
        prepare_here(
            run_file,
            f"sources.web.paths=[{run_file.parent}/gone.jsonl]",
            "sources.own={kind: local-machine, slice: code}",
        )
    assert not (run_file.parent / "data").exists()


def test_a_real_corpus_is_prepared_whole(run_file: Path) -> None:
    """Every row of a RedPajama-shaped corpus, of `PIPELINE_TEST_CORPUS` or made here, is a
    document."""
    corpus = Path(user_variable("PIPELINE_TEST_CORPUS") or run_file.parent)
    if not (files := sorted(corpus.glob("*.jsonl.zst"))):
        write_jsonl(corpus / "book.jsonl.zst", [f"chapter {i}" for i in range(30)])
        write_jsonl(corpus / "c4.jsonl.zst", [f"page {i}\n" for i in range(30)])
        files = sorted(corpus.glob("*.jsonl.zst"))
    names = {file: file.name.partition(".")[0] for file in files}
    overrides = [
        f"sources.{name}={{kind: jsonl, paths: ['{file}']}}" for file, name in names.items()
    ]
    result = prepare_here(run_file, *overrides)
    for file, name in names.items():
        rows = (
            zstandard.ZstdDecompressor()
            .stream_reader(file.read_bytes(), read_across_frames=True)
            .read()
            .count(b"\n")
        )
        counts = result.counts["sources"][name]
        assert sum(counts["documents"].values()) == rows and counts["rejected"] == {}
