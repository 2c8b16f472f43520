"""Content of raw files: every compression, every way a file can be broken, and what is no text at
all."""

import bz2
import gzip
import lzma
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.kinds import SOURCE_KINDS
from pipeline.corpus.raw_files import COMPRESSIONS, CONTENT_BYTES, FileBroken, decompressed
from pipeline.corpus.row_settings import RowSettings
from pipeline.corpus.rows import Reject, Row


def rows_of(path: Path, content: bytes, kind: str = "jsonl") -> list[Row | Reject]:
    path.write_bytes(content)
    return list(SOURCE_KINDS[kind].read_rows(path, RowSettings()))


def frames(*contents: bytes) -> bytes:
    return b"".join(zstandard.ZstdCompressor().compress(content) for content in contents)


SKIPPABLE = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
"""A frame without content, as `pzstd` and seekable zstd files have: magic, length 3
(little-endian), 3 bytes."""


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zst": frames,
    ".zstd": frames,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
}
PADDED = (".gz", ".xz", ".bz2")
ONE_TWO = [Row(b"one", b"{}", 0), Row(b"two", b"{}", 1)]


def test_every_compression_is_tested() -> None:
    assert PACKERS.keys() == COMPRESSIONS.keys()


@pytest.mark.parametrize("suffix", PACKERS)
def test_concatenated_frames_are_one_file_even_where_a_line_spans_them(
    tmp_path: Path, suffix: str
) -> None:
    halves = b'{"text": "on', b'e"}\n{"text": "two"}\n'
    assert rows_of(tmp_path / f"a.jsonl{suffix}", b"".join(map(PACKERS[suffix], halves))) == ONE_TWO


@pytest.mark.parametrize("suffix", PACKERS)
def test_files_are_read_side_by_side(tmp_path: Path, suffix: str) -> None:
    """As by the threads of one worker, each of which has a file open."""
    generator = random.Random(1)
    files = [tmp_path / f"{name}.jsonl{suffix}" for name in "ab"]
    wanted = []
    for file in files:
        texts = [generator.randbytes(3000).hex() for _ in range(100)]
        file.write_bytes(
            PACKERS[suffix]("".join(f'{{"text": "{text}"}}\n' for text in texts).encode())
        )
        wanted.append([Row(text.encode(), b"{}", number) for number, text in enumerate(texts)])
    pairs = list(
        zip(*(SOURCE_KINDS["jsonl"].read_rows(file, RowSettings()) for file in files), strict=True)
    )
    assert [list(rows) for rows in zip(*pairs, strict=True)] == wanted


@pytest.mark.parametrize("suffix", PADDED)
@pytest.mark.parametrize("zeros", [1, 512, 20_000])
def test_zeros_after_a_member_are_padding(tmp_path: Path, suffix: str, zeros: int) -> None:
    """As of a tape's last block, which gzip(1) and xz(1) skip; a member behind it is read, not
    lost."""
    one, two = (PACKERS[suffix](line) for line in (b'{"text": "one"}\n', b'{"text": "two"}\n'))
    padding = b"\0" * zeros
    assert rows_of(tmp_path / f"end.jsonl{suffix}", one + two + padding) == ONE_TWO
    assert rows_of(tmp_path / f"between.jsonl{suffix}", one + padding + two + padding) == ONE_TWO
    with pytest.raises(FileBroken, match=r"in its beginning|truncated"):
        rows_of(tmp_path / f"only.jsonl{suffix}", padding)


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("rest", [b"garbage", b"\0garbage", b"\n", b"\0\0\x1f"])
def test_what_is_neither_a_member_nor_padding_is_an_error_after_the_rows(
    tmp_path: Path, suffix: str, rest: bytes
) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(PACKERS[suffix](b'{"text": "one"}\n{"text": "two"}\n') + rest)
    rows = SOURCE_KINDS["jsonl"].read_rows(path, RowSettings())
    assert [next(rows), next(rows)] == ONE_TWO
    with pytest.raises(FileBroken, match=rf"a\.jsonl{suffix}"):
        next(rows)


@pytest.mark.parametrize("suffix", [".xz", ".bz2"])
def test_what_is_packed_to_almost_nothing_is_handed_on_in_parts(suffix: str) -> None:
    packed = PACKERS[suffix](bytes(8_000_000))
    assert len(packed) < 10_000
    parts = [len(part) for part in decompressed(Path("a"), [packed], COMPRESSIONS[suffix])]
    assert sum(parts) == 8_000_000 and max(parts) <= CONTENT_BYTES


def test_skippable_frames_have_no_content(tmp_path: Path) -> None:
    content = SKIPPABLE + frames(b'{"text": "one"}') + SKIPPABLE
    assert rows_of(tmp_path / "a.jsonl.zst", content) == [Row(b"one", b"{}", 0)]


@pytest.mark.parametrize("suffix", PACKERS)
def test_every_truncation_of_a_compressed_file_is_an_error_of_the_file(
    tmp_path: Path, suffix: str
) -> None:
    lines = b'{"text": "one"}\n{"text": "two"}\n'
    whole = PACKERS[suffix](lines)
    path = tmp_path / f"a.jsonl{suffix}"
    for length in range(len(whole)):
        with pytest.raises(FileBroken, match="is truncated" if length else "is empty"):
            rows_of(path, whole[:length])
    assert len(rows_of(path, whole)) == 2


def test_rows_before_a_break_are_given_and_the_half_line_at_it_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(frames(b'{"text": "one"}\n{"text": "tw') + frames(b'o"}\n')[:-3])
    rows = SOURCE_KINDS["jsonl"].read_rows(path, RowSettings())
    assert next(rows) == Row(b"one", b"{}", 0)
    with pytest.raises(
        FileBroken, match=r"a\.jsonl\.zst: is truncated: its \.zst data ends after 43 bytes"
    ) as raised:
        next(rows)
    assert raised.value.file == path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.zst", b'{"text": "plain"}'),
        ("a.gz", frames(b"x")),
        ("b.zst", b"\0" * 9),
        ("a.xz", b'{"text": "plain"}'),
        ("b.xz", bz2.compress(b"x")),
        ("a.bz2", b'{"text": "plain"}'),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_broken(
    tmp_path: Path, name: str, content: bytes
) -> None:
    with pytest.raises(FileBroken, match=rf"not valid {Path(name).suffix} data in its beginning"):
        rows_of(tmp_path / name, content)


def test_flipped_bytes_in_a_frame_with_a_checksum_are_found(tmp_path: Path) -> None:
    packed = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(os.urandom(400_000)))
    packed[200_000] ^= 1
    with pytest.raises(FileBroken, match=r"not valid \.zst data in the frame before byte"):
        rows_of(tmp_path / "a.zst", bytes(packed), "text")


def test_an_unreadable_file_is_broken(tmp_path: Path) -> None:
    with pytest.raises(FileBroken, match=r"gone\.jsonl: cannot be read: No such file or directory"):
        list(SOURCE_KINDS["jsonl"].read_rows(tmp_path / "gone.jsonl", RowSettings()))


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.jsonl.zst", "a.jsonl.gz", "a.jsonl.xz", "a.jsonl.bz2", "a.parquet"]
)
def test_the_bytes_read_add_up_to_the_files_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("pipeline.corpus.raw_files.BLOCK_BYTES", 100)
    path, lines = tmp_path / name, b'{"text": "%s"}\n' % os.urandom(500).hex().encode()
    path.write_bytes(PACKERS.get(path.suffix, bytes)(lines))
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": ["one", "two"]}), path)
    counts: list[int] = []
    kind = SOURCE_KINDS["parquet" if path.suffix == ".parquet" else "jsonl"]
    list(kind.read_rows(path, RowSettings(), counts.append))
    assert sum(counts) == path.stat().st_size
    assert path.suffix == ".parquet" or max(counts) == 100


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=4), st.integers(1, 7))
def test_decompression_does_not_depend_on_where_blocks_end(
    contents: list[bytes], size: int
) -> None:
    packed = frames(*contents)
    blocks = [packed[start : start + size] for start in range(0, len(packed), size)]
    assert b"".join(decompressed(Path("a.zst"), blocks, COMPRESSIONS[".zst"])) == b"".join(contents)


def test_what_is_no_regular_file_is_named_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "fifo.jsonl")
    (tmp_path / "device.jsonl").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)  # a socket's address is short
    listening = socket.socket(socket.AF_UNIX)
    listening.bind("socket.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "itself.jsonl").symlink_to(tmp_path / "itself.jsonl")
    for name in ("fifo", "device", "socket", "folder", "itself"):
        for kind in ("jsonl", "parquet", "text"):
            with pytest.raises(FileBroken, match=name):
                list(SOURCE_KINDS[kind].read_rows(tmp_path / f"{name}.jsonl", RowSettings()))
    listening.close()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0f\nsize 5\n"


@pytest.mark.parametrize(
    ("content", "kind", "word"),
    [
        (b'[{"text": "a"}, {"text": "b"}]', "jsonl", "array"),
        (b'[\n  {"text": "a"},\n  {"text": "b"}\n]\n', "jsonl", "array"),
        (b"[\r\n", "jsonl", "array"),
        (b'\xef\xbb\xbf[{"text": "a"}, {"text": "b"}]', "jsonl", "array"),
        (b'\xef\xbb\xbf\n{\n "text": "a"\n}\n', "jsonl", "spread"),
        (b"\xef\xbb\xbf<html>", "jsonl", "page"),
        (b'["a", "b"]\n', "jsonl", "array"),
        (b'[{"text": "cut off', "jsonl", "array"),
        (b'\n{\n  "text": "a"\n}\n{\n  "text": "b"\n}\n', "jsonl", "spread"),
        (b'{\r\n\t"text": "a"\r\n}\r\n', "jsonl", "spread"),
        (b'{"text": "a",\n "n": 1}\n{"text": "b",\n "n": 2}\n', "jsonl", "spread"),
        (b'{"text": "a"}\r{"text": "b"}', "jsonl", "carriage return"),
        ('{"text": "a"}\n'.encode("utf-16"), "jsonl", "UTF-16"),
        ('{"text": "a"}\n'.encode("utf-16-be"), "jsonl", "UTF-16"),
        (b"\xff\xfe\0\0" + '{"text": "a"}\n'.encode("utf-32-le"), "jsonl", "UTF-32"),
        (bytes(3_000), "jsonl", "zero"),
        (gzip.compress(b'{"text": "a"}', mtime=0), "jsonl", r"\.gz"),
        (frames(b'{"text": "a"}'), "jsonl", r"\.zst"),
        (b"PAR1", "jsonl", "kind: parquet"),
        (b"PK\x03\x04", "jsonl", "archive"),
        (b"a.jsonl".ljust(257, b"\0") + b"ustar", "jsonl", "archive"),
        (b"\n<!DOCTYPE html>\n<title>Not Found", "jsonl", "page"),
        (POINTER, "jsonl", "git lfs pull"),
        (POINTER, "text", "git lfs pull"),
        (POINTER, "parquet", "git lfs pull"),
        (gzip.compress(b"PAR1", mtime=0), "parquet", r"\.gz"),
    ],
)
def test_a_file_without_rows_of_its_kind_is_named_with_what_to_do(
    tmp_path: Path, content: bytes, kind: str, word: str
) -> None:
    with pytest.raises(FileBroken, match=rf"a\.json: .*{word}"):
        rows_of(tmp_path / "a.json", content, kind)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\n",
        b'{"text": "one"}\n',
        b'{"text": "one", "list": [',
        b'{"text": "cut \n{"text": "two"}\n',
        b'{\n{"text": "two"}\n',
        b'["a"]\n{"text": "two"}\n',
        b'{"text": "one"}\r\n{"text": "two"}\r\n',
        b'{"text": "one"}\r',
        b"5\n",
        b'{"a": ' + b"[" * 5_000 + b"\n",
    ],
)
def test_what_may_be_json_lines_is_left_to_its_rows(head: bytes) -> None:
    assert SOURCE_KINDS["jsonl"].why_unreadable(head) is None
    assert SOURCE_KINDS["text"].why_unreadable(head) is None
