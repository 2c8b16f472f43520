"""Sources on an S3 server: listed, streamed, identified by etag, read again where a read breaks."""

import io
import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from corpus.trees.published_trees import make_redpajama_v2
from helpers import digests, iterate_texts, prepare_here, run_stages
from s3_server import Bucket, s3_server, use_s3

from pipeline.config.kinds import SOURCE_KINDS
from pipeline.config.run_file import load
from pipeline.config.urls import Url
from pipeline.corpus.remote.connection import Unreachable
from pipeline.corpus.remote.listing import forget_listings
from pipeline.corpus.row_settings import RowSettings
from pipeline.corpus.rows import Row
from pipeline.corpus.source_kind import describe_sources
from pipeline.corpus.trees.published_annotations import (
    published_annotations,
    side_file_identities,
)
from pipeline.corpus.trees.published_record import PublishedRecord
from pipeline.errors import DataError
from pipeline.store.artifacts import stage_states
from pipeline.store.layout import task_records
from pipeline.store.stages import STAGES


@pytest.fixture(scope="module")
def s3_port() -> Iterator[int]:
    with s3_server() as port:
        yield port


@pytest.fixture
def bucket(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    use_s3(monkeypatch, s3_port)
    return Bucket()


WEB = "sources.web.paths=[s3://corpora/web]"
TABLE = {stage.name: stage for stage in STAGES}


def lines(*texts: str) -> bytes:
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)


def parquet(texts: list[str], rows: int) -> bytes:
    written = io.BytesIO()
    table = pa.table({"text": texts, "number": list(range(len(texts)))})
    pq.write_table(table, written, row_group_size=rows, compression="none")
    return written.getvalue()


def texts_of(run_file: Path, source: str = "web") -> list[str]:
    documents = run_file.parent / "data" / "documents"
    return sorted(
        text
        for split in ("train", "validation")
        for _, text in iterate_texts(documents, source, split)
    )


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The ranges that S3 is asked for, `[start, end)`."""
    import s3fs.core

    asked: list[tuple[int, int]] = []
    fetch: Callable[..., bytes] = s3fs.core._fetch_range

    def fetch_noted(*arguments: Any, **options: Any) -> bytes:
        asked.append(arguments[4:6])
        return fetch(*arguments, **options)

    monkeypatch.setattr("s3fs.core._fetch_range", fetch_noted)
    return asked


def test_a_folder_of_every_form_is_read_and_named_like_one_of_this_machine(
    bucket: Bucket, run_file: Path
) -> None:
    bucket.put("web/a.jsonl", lines("one", "two"))
    bucket.put("web/deep/b.jsonl.zst", zstandard.ZstdCompressor().compress(lines("three")))
    bucket.put("web/notes.md", b"no document")
    bucket.put("web/.part/c.jsonl", lines("hidden"))
    bucket.put("web/d.jsonl.tmp", lines("unfinished"))
    (run_file.parent / "here.jsonl").write_bytes(lines("four"))
    here = f"file://{run_file.parent}/here.jsonl"
    result = prepare_here(run_file, f"sources.web.paths=[s3://corpora/web/, '{here}']")
    assert texts_of(run_file) == ["four", "one", "three", "two"]
    counts = result.counts["sources"]["web"]
    assert counts["input_files"] == 3
    assert counts["left_out"] == {".md": 1, ".tmp": 1, "hidden": 1}
    files = SOURCE_KINDS["jsonl"].search("web", [Url("s3://corpora/web")]).files
    assert [file.name for file in files] == ["web/a.jsonl", "web/deep/b.jsonl.zst"]
    globbed = SOURCE_KINDS["jsonl"].search("web", [Url("s3://corpora/w*/**/*.zst")]).files
    assert [file.name for file in globbed] == ["web/deep/b.jsonl.zst"]
    one = SOURCE_KINDS["jsonl"].search("web", [Url("s3://corpora/web/notes.md")]).files
    assert [(file.name, file.size) for file in one] == [("notes.md", 11)]


def test_a_file_is_read_in_ranges_and_never_as_a_whole(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, requests: list[tuple[int, int]]
) -> None:
    monkeypatch.setattr("pipeline.corpus.raw_files.SERVER_BLOCK_BYTES", 1000)
    content = lines(*(f"document {n}" for n in range(200)))
    bucket.put("a.jsonl", content)
    (file,) = SOURCE_KINDS["jsonl"].search("web", [Url("s3://corpora/a.jsonl")]).files
    rows = SOURCE_KINDS["jsonl"].read_rows(file.path, RowSettings())
    first = next(rows)
    assert isinstance(first, Row) and first.text == b"document 0"
    assert requests == [(0, 1000)]
    assert len(list(rows)) == 199
    size = len(content)
    assert requests == [(start, min(start + 1000, size)) for start in range(0, size, 1000)]


def test_of_parquet_the_footer_and_one_row_group_after_the_other_are_read(
    bucket: Bucket, requests: list[tuple[int, int]], run_file: Path
) -> None:
    texts = [f"document {n} " + "x" * 1000 for n in range(400)]
    content = parquet(texts, rows=100)
    bucket.put("web/a.parquet", content)
    (file,) = SOURCE_KINDS["parquet"].search("web", [Url("s3://corpora/web/*.parquet")]).files
    rows = SOURCE_KINDS["parquet"].read_rows(file.path, RowSettings())
    next(rows)
    # The beginning (a signature), the footer, and the columns of the first of four row groups.
    assert sum(end - start for start, end in requests) < 0.5 * len(content)
    assert len(list(rows)) == 399
    assert sum(end - start for start, end in requests) < 1.2 * len(content)
    prepare_here(run_file, WEB, "sources.web.kind=parquet")
    assert texts_of(run_file) == sorted(texts)


def test_an_object_that_changed_since_the_last_run_is_named_and_makes_its_own_work_stale(
    bucket: Bucket, run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.corpus.groups.GROUP_FILES", 1)
    names = ["web/a.jsonl", "web/b.jsonl", "web/c.jsonl"]
    for name in names:
        bucket.put(name, lines(*(f"{name} {n}" for n in range(9))))
    run_stages(run_file, ["prepare"], [WEB])
    data = run_file.parent / "data" / "documents"
    before = {path.name: path.stat().st_mtime_ns for path in task_records(data).iterdir()}
    config = load(run_file, [WEB])
    assert stage_states(TABLE, config)["prepare"].kind == "done"

    # Of the same size: only the etag tells.
    bucket.put("web/b.jsonl", lines(*(f"WEB/b.jsonl {n}" for n in range(9))))
    (reason,) = stage_states(TABLE, config)["prepare"].reasons
    assert re.fullmatch(
        r'files of web, web/b\.jsonl: "ETag \w{31}\.\.\. -> "ETag \w{31}\.\.\.', reason
    )
    run_stages(run_file, ["prepare"], [WEB])
    after = {path.name: path.stat().st_mtime_ns for path in task_records(data).iterdir()}
    assert len(after) == 3 and sum(before[name] != after[name] for name in after) == 1
    assert sum(text.startswith("WEB/b") for text in texts_of(run_file)) == 9


def test_an_object_that_changes_while_it_is_read_is_refused_by_name_and_nothing_is_kept(
    bucket: Bucket, run_file: Path, monkeypatch: pytest.MonkeyPatch, requests: list[tuple[int, int]]
) -> None:
    monkeypatch.setattr("pipeline.corpus.raw_files.SERVER_BLOCK_BYTES", 100)
    monkeypatch.setattr("pipeline.corpus.remote.server_stream.WAIT_SECONDS", 0.0)
    bucket.put("web/a.jsonl", lines(*(f"one {n}" for n in range(30))))

    def replace(fraction: float, **counts: int) -> None:
        if len(requests) == 2:
            bucket.put("web/a.jsonl", lines(*(f"two {n}" for n in range(30))))

    monkeypatch.setattr("pipeline.corpus.read_task.report_progress", replace)
    with pytest.raises(DataError, match=r"s3://corpora/web/a\.jsonl: was written to") as refused:
        prepare_here(run_file, WEB)
    assert refused.value.exit_code == 2
    assert "on_broken_file" not in str(refused.value)
    assert not list((run_file.parent / "data" / "documents" / "web").glob("*.parquet"))
    monkeypatch.undo()


def test_a_listed_object_that_is_gone_is_named(bucket: Bucket, run_file: Path) -> None:
    bucket.put("web/a.jsonl", lines("one"))
    bucket.put("web/b.jsonl", lines("two"))
    (file, _) = SOURCE_KINDS["jsonl"].search("web", [Url("s3://corpora/web")]).files
    bucket.remove("web/a.jsonl")
    with pytest.raises(DataError, match=r"s3://corpora/web/a\.jsonl: was removed since"):
        list(SOURCE_KINDS["jsonl"].read_rows(file.path, RowSettings()))


def test_a_read_that_breaks_off_is_tried_again_and_after_some_attempts_given_up(
    bucket: Bucket,
    run_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import s3fs.core

    monkeypatch.setattr("pipeline.corpus.raw_files.SERVER_BLOCK_BYTES", 500)
    monkeypatch.setattr("pipeline.corpus.remote.server_stream.WAIT_SECONDS", 0.0)
    texts = [f"document {n}" for n in range(60)]
    bucket.put("web/a.jsonl", lines(*texts))
    fetch: Callable[..., bytes] = s3fs.core._fetch_range
    broken = iter([False, True, True, False])

    def break_off(*arguments: Any, **options: Any) -> bytes:
        content = fetch(*arguments, **options)
        if next(broken, False):
            return content[:-1]
        return content

    monkeypatch.setattr("s3fs.core._fetch_range", break_off)
    prepare_here(run_file, WEB)
    assert texts_of(run_file) == sorted(texts)
    said = capsys.readouterr().err
    assert "s3://corpora/web/a.jsonl: a read broke off at byte 500; trying again (1 of 4)" in said
    assert "trying again (2 of 4)" in said and "(3 of 4)" not in said

    # A server that stays away is no broken file: no row of it is kept.
    broken = iter([False] + [True] * 5)
    bucket.put("web/a.jsonl", lines(*texts, "one more"))
    keep = "prepare.on_broken_file=keep-readable-rows"
    with pytest.raises(DataError, match=r"could not be read from byte 500 on, in 5 attempts"):
        prepare_here(run_file, WEB, keep)
    assert not list((run_file.parent / "data" / "documents" / "web").glob("*.parquet"))


def test_encodings_tables_and_validation_files_are_read_from_urls_too(
    bucket: Bucket, run_file: Path
) -> None:
    bucket.put("web/a.csv", "text\ncafé\nthé\n".encode("latin-1"))
    bucket.put("held/b.csv", b"text\nheld out\n")
    bucket.put("web/held.csv", b"text\nalso held out\n")
    held_out = "sources.web.validation_paths=[s3://corpora/held, s3://corpora/web/held.csv]"
    settings = [WEB, held_out, "sources.web.kind=csv", "sources.web.encoding=latin-1"]
    run_stages(run_file, ["prepare"], settings)
    documents = run_file.parent / "data" / "documents"
    texts = {
        split: sorted(text for _, text in iterate_texts(documents, "web", split))
        for split in ("train", "validation")
    }
    assert texts == {"train": ["café", "thé"], "validation": ["also held out", "held out"]}
    config = load(run_file, settings)
    assert stage_states(TABLE, config)["prepare"].kind == "done"
    bucket.put("held/b.csv", b"text\nheld OUT\n")
    (reason,) = stage_states(TABLE, config)["prepare"].reasons
    assert reason.startswith("validation files of web, validation_paths/held/b.csv: ")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("s3://corpora/nothing", "s3://corpora/nothing does not exist. Correct the URL"),
        ("s3://nobody/web", "s3://nobody/web does not exist: the bucket nobody does not exist"),
        ("s3://corpora/web/*.csv", "s3://corpora/web/*.csv matches no file. Correct the URL"),
        ("s3://corpora/notes", "holds no file named *.jsonl"),
    ],
)
def test_a_url_that_gives_nothing_is_named(
    bucket: Bucket, run_file: Path, url: str, why: str
) -> None:
    bucket.put("web/a.jsonl", lines("one"))
    bucket.put("notes/a.md", b"one")
    with pytest.raises(DataError) as refused:
        prepare_here(run_file, f"sources.web.paths=['{url}']")
    assert why in str(refused.value)
    assert refused.value.exit_code == 2


def test_missing_credentials_are_named_with_the_variables_to_set(
    bucket: Bucket, run_file: Path, s3_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("web/a.jsonl", lines("one"))
    use_s3(monkeypatch, s3_port, key=None)
    with pytest.raises(Unreachable, match=r"no credentials for s3://.* Set AWS_ACCESS_KEY_ID and"):
        SOURCE_KINDS["jsonl"].search("web", [Url("s3://corpora/web")])


def test_a_server_that_does_not_answer_is_given_up_and_what_was_made_stays_done(
    bucket: Bucket,
    run_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bucket.put("web/a.jsonl", lines(*(f"document {n}" for n in range(9))))
    run_stages(run_file, ["prepare"], [WEB])
    config = load(run_file, [WEB])
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        use_s3(monkeypatch, port)
        monkeypatch.setattr("pipeline.corpus.remote.listing.ANSWER_SECONDS", 0.2)
        with pytest.raises(DataError) as refused:
            prepare_here(run_file, WEB)
        assert "s3://corpora/web does not answer (no answer within 0.2 s)" in str(refused.value)
        assert f"AWS_ENDPOINT_URL, which names another server, is http://127.0.0.1:{port}" in str(
            refused.value
        )
        capsys.readouterr()
        assert stage_states(TABLE, config)["prepare"].kind == "done"
        assert "its files are not compared with those of the last run" in capsys.readouterr().err
    assert len(texts_of(run_file)) == 9


KILLED = """
import os
import s3fs.core
from pipeline.__main__ import main
from pipeline.corpus import groups, raw_files
groups.GROUP_FILES = 1
raw_files.SERVER_BLOCK_BYTES = 200
fetch = s3fs.core._fetch_range
left = [6]
def count(*arguments, **options):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), 9)
    return fetch(*arguments, **options)
s3fs.core._fetch_range = count
main()
"""


@pytest.mark.ranks
def test_killed_in_the_middle_and_started_again_it_gives_the_same_bytes(
    bucket: Bucket, run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.corpus.groups.GROUP_FILES", 1)
    for name in ("a", "b", "c"):
        bucket.put(f"web/{name}.jsonl", lines(*(f"{name} {n}" * 4 for n in range(20))))
    settings = ["prepare", str(run_file), WEB, "executor.workers=1"]
    command = [sys.executable, "-c", KILLED, *settings]
    killed = subprocess.run(command, capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    data = run_file.parent / "data" / "documents"
    assert 0 < len(list(task_records(data).iterdir())) < 3
    run_stages(run_file, ["prepare"], [WEB])
    made = digests(data)
    once = run_file.parent / "once"
    run_stages(run_file, ["prepare"], [WEB, f"paths.data_dir={once}"])
    assert made == digests(once / "documents") and made


def test_the_description_of_a_source_holds_every_object(bucket: Bucket, run_file: Path) -> None:
    bucket.put("web/a.jsonl", lines("one"))
    described = describe_sources(load(run_file, [WEB]))["files of web"]
    assert isinstance(described, dict) and list(described) == ["web/a.jsonl"]


def test_a_published_tree_is_read_and_joined_with_its_side_files_like_one_of_this_machine(
    bucket: Bucket, run_file: Path, tmp_path: Path
) -> None:
    key = "2023-06/0000/en_head"
    root = make_redpajama_v2(tmp_path / "rp2", [key, "2023-06/0000/en_middle"])
    for path in root.rglob("*"):
        if path.is_file():
            bucket.put(f"rp2/{path.relative_to(root)}", path.read_bytes())
    joined: list[list[PublishedRecord | None]] = []
    for place in (str(root), f"{bucket.url}/rp2"):
        source = f"sources.web={{kind: jsonl, paths: ['{place}'], partitions: [head]}}"
        prepare_here(run_file, source, "prepare.validation_fraction=0")
        config = load(run_file, [source])
        (shard,) = (config.paths.data_dir / "documents" / "web").rglob("*.parquet")
        joined.append(list(published_annotations(config, "web", shard)))
    assert len(joined[0]) == 6
    assert joined[0] == joined[1]
    (signals, *_) = side_file_identities(config, "web", shard)
    assert isinstance(signals, list) and str(signals[2]).startswith("ETag")
    name = f"duplicates/{key}.duplicates.parquet"
    bucket.remove(f"rp2/{name}")
    forget_listings()
    with pytest.raises(DataError, match=rf"^{bucket.url}/rp2/{name} is missing beside"):
        list(published_annotations(config, "web", shard))
