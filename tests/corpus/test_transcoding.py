"""Files in other encodings become UTF-8; what does not fit is named with its byte."""

import bz2
import codecs
import gzip
import json
import lzma
from pathlib import Path

import pytest
from helpers import iterate_texts, prepare_here
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.kinds import SOURCE_KINDS
from pipeline.config.run_file import load
from pipeline.corpus.raw_files import FileBroken
from pipeline.corpus.row_settings import RowSettings
from pipeline.corpus.rows import Row
from pipeline.corpus.transcoding import BytesDoNotFit, transcoded
from pipeline.errors import ConfigError, DataError

WORDS = {
    "latin-1": "où? à l'été",
    "cp1252": "“où” … 5 €",
    "koi8-r": "тест",
    "shift_jis": "日本語テスト",
    "euc-jp": "日本語",
    "gb18030": "汉字 and 𠀀",
    "big5": "漢字",
    "iso2022-jp": "日本 and 語",
    "utf-16": "a 𠀀 é",
    "utf-16-be": "a 𠀀 é",
    "utf-32": "a 𠀀 é",
    "utf-7": "a é",
    "utf-8-sig": "a é",
}


@pytest.mark.parametrize("encoding", WORDS)
@pytest.mark.parametrize("kind", ["text", "jsonl"])
def test_files_in_other_encodings_are_read(tmp_path: Path, kind: str, encoding: str) -> None:
    text = WORDS[encoding]
    content = text
    if kind == "jsonl":
        content = json.dumps({"text": text, "title": text}, ensure_ascii=False) + "\n"
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(content.encode(encoding)))
    (row,) = SOURCE_KINDS[kind].read_rows(path, RowSettings(encoding=encoding))
    assert isinstance(row, Row) and row.text.decode() == text
    if kind == "jsonl":
        assert json.loads(row.meta) == {"title": text}


@given(st.sampled_from(sorted(WORDS)), st.integers(1, 9))
def test_where_blocks_end_makes_no_difference(encoding: str, size: int) -> None:
    content = (WORDS[encoding] * 3).encode(encoding)
    blocks = [content[start : start + size] for start in range(0, len(content), size)]
    name = codecs.lookup(encoding).name
    assert b"".join(transcoded(blocks, name)).decode() == content.decode(encoding)


@pytest.mark.parametrize(
    ("encoding", "content", "byte"),
    [
        ("ascii", b"0123456\xe97", 7),
        ("cp1252", b"0123456789\x81", 10),
        ("shift_jis", b"012\x83\x65\xff\xff", 5),
        ("euc_jp", b"0123\xa4", 4),
        ("gb18030", b"01234\x81\x20", 5),
        ("utf-16-le", b"a\0b\0\0\xdc", 4),
        ("utf-16-le", b"a\0b\0c", 4),
        ("utf-32-le", b"a\0\0\0\xff\xff\xff\xff", 4),
        ("utf-8-sig", b"\xef\xbb\xbfab\xff", 5),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_bytes_that_do_not_fit_are_named(
    encoding: str, content: bytes, byte: int, size: int
) -> None:
    blocks = [content[start : start + size] for start in range(0, len(content), size)]
    with pytest.raises(BytesDoNotFit, match=rf"^byte {byte} of its content"):
        list(transcoded(blocks, encoding))


def test_half_a_surrogate_pair_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(BytesDoNotFit, match="half a surrogate pair"):
        list(transcoded([b"a +2AA- b"], "utf-7"))


@pytest.mark.parametrize("kind", ["text", "jsonl"])
@pytest.mark.parametrize("packed", [gzip.compress(b"x", mtime=0), b"PAR1", b"PK\x03\x04"])
def test_what_is_no_text_is_recognised_although_each_byte_is_a_character(
    tmp_path: Path, kind: str, packed: bytes
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(packed)
    with pytest.raises(FileBroken, match=r"holds \.gz data|is Parquet|is an archive"):
        list(SOURCE_KINDS[kind].read_rows(path, RowSettings(encoding="iso8859-1")))


def test_utf16_without_the_setting_is_told_the_setting(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"text": "a"}\n'.encode("utf-16"))
    with pytest.raises(FileBroken, match="set the source's `encoding` to UTF-16"):
        list(SOURCE_KINDS["jsonl"].read_rows(path, RowSettings()))


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [("", bytes), (".xz", lzma.compress), (".bz2", bz2.compress), (".gz", gzip.compress)],
)
def test_a_file_that_does_not_fit_stops_the_stage_by_name(
    run_file: Path, suffix: str, pack: type[bytes]
) -> None:
    notes = run_file.parent / f"notes.txt{suffix}"
    notes.write_bytes(pack(b"good\n" * 10 + b"\x81"))
    source = f"sources.notes={{kind: text, paths: ['{notes}'], encoding: cp1252}}"
    with pytest.raises(DataError) as stopped:
        prepare_here(run_file, source)
    message = str(stopped.value)
    assert f"source notes: {notes}: byte 50 of its content (81) does not fit" in message
    assert "the encoding cp1252: correct the source's `encoding`, or the file" in message
    # Nothing of the good file was lost, and nothing of the bad one is there.
    notes.write_bytes(pack("“good”".encode("cp1252")))
    counts = prepare_here(run_file, source, "prepare.validation_fraction=0").counts["sources"]
    assert counts["web"]["documents"]["train"] == 40
    folder = run_file.parent / "data" / "documents"
    assert [text for _, text in iterate_texts(folder, "notes", "train")] == ["“good”"]


def test_two_spellings_of_an_encoding_are_one_setting(run_file: Path) -> None:
    one, two = (load(run_file, [f"sources.web.encoding={name}"]) for name in ("latin1", "L1"))
    assert one == two and one.sources["web"].encoding == "iso8859-1"
    default = load(run_file, ["sources.web.encoding=UTF8"])
    assert default.model_dump() == load(run_file).model_dump()


@pytest.mark.parametrize("name", ["latin-0", "base64", "rot13", "idna", "undefined", "''", "7"])
def test_an_encoding_that_python_does_not_know_is_refused(run_file: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"sources\.web\.encoding"):
        load(run_file, [f"sources.web.encoding={name}"])


def test_kinds_that_are_no_text_refuse_an_encoding(run_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"encoding = cp1252: kind parquet has no such setting"):
        load(run_file, ["sources.web.kind=parquet", "sources.web.encoding=cp1252"])


@pytest.mark.parametrize("kind", ["text", "jsonl", "csv"])
def test_bytes_that_are_not_utf8_are_told_with_file_byte_and_setting(
    run_file: Path, kind: str
) -> None:
    contents = {"text": "abcdé", "jsonl": '{"text": "abcdé"}', "csv": "text\nabcdé\n"}
    path = run_file.parent / "old.file"
    path.write_bytes(contents[kind].encode("latin-1"))
    with pytest.raises(DataError, match=r"1 invalid-utf8 in old\.file.*set sources\.old\.encoding"):
        prepare_here(run_file, f"sources.old={{kind: {kind}, paths: ['{path}']}}")
    (rejected,) = (run_file.parent / "data/documents/old/rejected").glob("*.jsonl")
    sample = json.loads(rejected.read_text())
    byte = {"text": 4, "jsonl": 14, "csv": 4}[kind]
    assert (sample["file"], sample["row"], sample["byte"]) == ("old.file", 0, byte)
