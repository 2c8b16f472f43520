"""One run over text in all its forms: counts by hand, and the same bytes after kills anywhere."""

import bz2
import json
import lzma
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus.killed_prepare import contents, in_forking_process, survives
from helpers import iterate_texts, prepare_here
from s3_server import Bucket, s3_server, use_s3

from pipeline.config.kinds import SOURCE_KINDS
from pipeline.corpus.documents import SPLITS
from pipeline.corpus.raw_files import COMPRESSIONS, FileBroken
from pipeline.corpus.row_settings import RowSettings
from pipeline.store.counts import PreparedSource


def write_corpus(folder: Path) -> list[str]:
    """Write a file or two of each form; return the overrides that make a corpus of them."""
    news = "".join(
        json.dumps({"text": f"news {n}", "url": f"https://n/{n}"}) + "\n" for n in range(5)
    )
    (folder / "news.jsonl.xz").write_bytes(lzma.compress(news.encode()))
    (folder / "notes.txt.bz2").write_bytes(bz2.compress("Été à l'île\r\n".encode("latin-1")))
    chapters = "\n\n".join(f"Chapter {n}\nIt rained." for n in range(6))
    (folder / "novel.txt").write_text(chapters)
    (folder / "last-chapter.txt").write_text("Chapter 5\nIt rained.")
    (folder / "table.csv").write_text(
        'id,title,body\n1,One,"a, b\nc"\n2,,news 3\n3,Three,\n4,short\n'
    )
    nested = [{"doc": {"text": f"nested {n}", "lang": "en"}, "n": n} for n in range(3)]
    pq.write_table(pa.Table.from_pylist(nested), folder / "nested.parquet")
    return [
        f"sources.news={{kind: jsonl, paths: ['{folder}/news.jsonl.xz']}}",
        f"sources.notes={{kind: text, paths: ['{folder}/notes.txt.bz2'], encoding: latin-1}}",
        f"sources.novel={{kind: text, paths: ['{folder}/novel.txt'], document_bytes: 25, "
        f"validation_paths: ['{folder}/last-chapter.txt']}}",
        f"sources.table={{kind: csv, paths: ['{folder}/table.csv'], text_field: [title, body]}}",
        f"sources.nested={{kind: parquet, paths: ['file://{folder}/nested.parquet'], "
        "text_field: doc.text}",
        "prepare.validation={ids: ['https://n/3']}",
        "prepare.validation_fraction=0",
        "prepare.max_bad_rows=0.5",
    ]


DOCUMENTS = {
    "news": {"train": 4, "validation": 1},
    "notes": {"train": 1, "validation": 0},
    # A chapter has 20 bytes or 22 with its blank line: two make a document, and the last one of
    # another file is half a document here.
    "novel": {"train": 3, "validation": 1},
    "table": {"train": 2, "validation": 1},
    "nested": {"train": 3, "validation": 0},
    "stored": {"train": 1, "validation": 1},
}


def texts_of(run_file: Path, source: str) -> dict[str, list[str]]:
    folder = run_file.parent / "data" / "documents"
    return {split: sorted(t for _, t in iterate_texts(folder, source, split)) for split in SPLITS}


def test_every_document_is_counted_and_on_its_side(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of a folder, one of them by its URL, beside an object of a bucket."""
    with s3_server() as port:
        use_s3(monkeypatch, port)
        Bucket().put("shelf/stored.jsonl", b'{"text": "news 3"}\n{"text": "stored"}\n')
        stored = "sources.stored={kind: jsonl, paths: ['s3://corpora/shelf']}"
        result = prepare_here(run_file, *write_corpus(run_file.parent), stored)
    counts: dict[str, PreparedSource] = result.counts["sources"]
    assert {name: counts[name]["documents"] for name in DOCUMENTS} == DOCUMENTS
    assert counts["table"]["rejected"] == {"wrong-columns": 1}
    assert counts["table"].get("blank_fields") == {"body": 1, "title": 1}
    assert counts["notes"]["crlf_line_ends"] == 1
    assert texts_of(run_file, "notes")["train"] == ["Été à l'île\n"]
    # A listed document of `news` has a copy in the table, and one in the bucket.
    assert texts_of(run_file, "news")["validation"] == ["news 3"]
    assert texts_of(run_file, "table") == {
        "train": ["One\n\na, b\nc", "Three"],
        "validation": ["news 3"],
    }
    assert texts_of(run_file, "stored") == {"train": ["stored"], "validation": ["news 3"]}
    novel = texts_of(run_file, "novel")
    assert "".join(novel["train"]) == (run_file.parent / "novel.txt").read_text()
    assert novel["validation"] == ["Chapter 5\nIt rained."]
    assert texts_of(run_file, "nested")["train"] == ["nested 0", "nested 1", "nested 2"]


@pytest.mark.ranks
def test_killed_at_any_step_it_gives_the_same_bytes(run_file: Path) -> None:
    in_forking_process(kill_at_every_step, run_file)


def kill_at_every_step(run_file: Path) -> None:
    folder = run_file.parent
    settings = write_corpus(folder)
    whole = prepare_here(run_file, *settings, f"paths.data_dir={folder}/whole")
    documents = folder / "data" / "documents"
    kills = 0
    while not survives(lambda: prepare_here(run_file, *settings), kills):
        kills += 5
        if kills % 2:
            # Every other time what was done is done again.
            shutil.rmtree(documents / ".tasks", ignore_errors=True)
            shutil.rmtree(documents / ".held-out" / ".tasks", ignore_errors=True)
    assert kills > 50, kills
    assert prepare_here(run_file, *settings) == whole
    assert contents(documents) == contents(folder / "whole" / "documents")


@pytest.mark.parametrize("suffix", COMPRESSIONS)
@pytest.mark.parametrize("kind", ["text", "csv", "jsonl"])
def test_a_damaged_file_of_each_compression_is_named(
    tmp_path: Path, kind: str, suffix: str
) -> None:
    content = b'{"text": "a"}\n' * 1000
    path = tmp_path / f"a.file{suffix}"
    path.write_bytes(packed(content, suffix)[:-4])
    with pytest.raises(FileBroken, match=rf"a\.file{suffix}: is truncated: its {suffix} data ends"):
        list(SOURCE_KINDS[kind].read_rows(path, RowSettings('{"text": "a"}')))
    path.write_bytes(b"x" + packed(content, suffix))
    with pytest.raises(FileBroken, match=rf"not valid {suffix} data in its beginning"):
        list(SOURCE_KINDS[kind].read_rows(path, RowSettings()))


def packed(content: bytes, suffix: str) -> bytes:
    from corpus.test_raw_files import PACKERS

    return PACKERS[suffix](content)
