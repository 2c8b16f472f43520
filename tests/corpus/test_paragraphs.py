"""Text cut into documents at blank lines: a partition, wherever blocks and tasks end."""

import re
from pathlib import Path

import pytest
from helpers import iterate_texts, prepare_here
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.kinds import SOURCE_KINDS
from pipeline.config.run_file import load
from pipeline.corpus.kinds.paragraphs import cut_at_blank_lines
from pipeline.corpus.row_settings import RowSettings
from pipeline.corpus.rows import Reject, Row, split_at
from pipeline.errors import ConfigError

STORY = "one\n\ntwo\nlines\n\n\n \nthree\n\nfour\n"


def parts_of(text: str, document_bytes: int, block: int = 1000) -> list[str]:
    content = text.encode()
    blocks = [content[start : start + block] for start in range(0, len(content), block)] or [b""]
    lines = split_at(blocks, b"\n")
    return [bytes(part).decode() for part in cut_at_blank_lines(lines, document_bytes)]


@pytest.mark.parametrize(
    ("document_bytes", "parts"),
    [
        (1, ["one\n\n", "two\nlines\n\n\n \n", "three\n\n", "four\n"]),
        (5, ["one\n\n", "two\nlines\n\n\n \n", "three\n\n", "four\n"]),
        (6, ["one\n\ntwo\nlines\n\n\n \n", "three\n\n", "four\n"]),
        (8, ["one\n\ntwo\nlines\n\n\n \n", "three\n\nfour\n"]),
        (1000, [STORY]),
    ],
)
def test_a_text_is_cut_at_the_first_blank_line_after_the_size(
    document_bytes: int, parts: list[str]
) -> None:
    assert parts_of(STORY, document_bytes) == parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a\r\n\r\nb\r\n", ["a\r\n\r\n", "b\r\n"]),
        ("\n\n a\n\nb", ["\n\n a\n\n", "b"]),
        ("a\n\u3000\u00a0\nb", ["a\n\u3000\u00a0\n", "b"]),
        ("a\n\x1c\nb", ["a\n\x1c\n", "b"]),
        ("a\n\n\n\n", ["a\n\n\n\n"]),
        ("\u00e9\n\n\u00e9\n\n", ["\u00e9\n\n", "\u00e9\n\n"]),
        ("no blank line\nat all", ["no blank line\nat all"]),
        ("\n \n", ["\n \n"]),
        ("", [""]),
    ],
)
def test_blank_lines_stay_with_the_paragraph_before(text: str, parts: list[str]) -> None:
    assert parts_of(text, 1) == parts


pieces = st.lists(st.sampled_from(["a", "bc d", " ", "\n", "\n\n", "\r\n", "\u3000", "é"]))


@given(pieces.map("".join), st.integers(1, 30), st.integers(1, 9))
def test_parts_are_a_partition_and_none_is_blank(text: str, size: int, block: int) -> None:
    parts = parts_of(text, size)
    assert "".join(parts) == text and parts == parts_of(text, size, block)
    assert all(len(part.encode()) >= size for part in parts[:-1])
    assert all(part.strip() for part in parts) or not text.strip()
    # Cut as early as it may be: no part has a place to cut once it is long enough.
    for part in parts:
        for place in re.finditer(r"\n[^\S\n]*\n(?=[^\n]*\S)", part):
            before = part[: place.end()]
            assert len(before.encode()) < size or not before.strip()


def test_a_part_that_is_no_text_is_rejected_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\n\n\xff\n\nthree")
    rows = list(SOURCE_KINDS["text"].read_rows(tmp_path / "a.txt", RowSettings(document_bytes=1)))
    assert [row[:3] for row in rows] == [
        (b"one\n\n", b"{}", 0),
        ("invalid-utf8", 1, "\ufffd\n\n"),
        (b"three", b"{}", 2),
    ]
    assert isinstance(rows[1], Reject) and isinstance(rows[2], Row)


def test_a_blank_file_is_one_reject(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\n \n\n")
    (row,) = SOURCE_KINDS["text"].read_rows(tmp_path / "a.txt", RowSettings(document_bytes=1))
    assert row[0] == "empty-text"


def test_a_part_that_is_too_long_is_rejected_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.corpus.rows.LONGEST_BYTES", 20)
    (tmp_path / "a.txt").write_bytes(b"0123456789\n" * 5 + b"\nthree\n\nfour")
    rows = list(SOURCE_KINDS["text"].read_rows(tmp_path / "a.txt", RowSettings(document_bytes=1)))
    assert [row[0] for row in rows] == ["too-long", b"three\n\n", b"four"]


def test_documents_of_a_novel_have_stable_ids_and_cr_lf_becomes_lf(run_file: Path) -> None:
    novel = run_file.parent / "novel.txt"
    chapters = [f"Chapter {n}\r\n\r\n" + f"It was the {n}th day.\r\n" * 9 for n in range(30)]
    novel.write_bytes("\r\n".join(chapters).encode())
    folder = run_file.parent / "data" / "documents"

    def documents(*more: str) -> dict[str, str]:
        source = f"sources.novel={{kind: text, paths: ['{novel}'], document_bytes: 300}}"
        prepare_here(run_file, source, "prepare.validation_fraction=0", *more)
        return dict(iterate_texts(folder, "novel", "train"))

    first = documents()
    whole = "".join(first.values())
    assert whole == "\n".join(chapters).replace("\r\n", "\n")
    assert 15 <= len(first) <= 30 and all(text.strip() for text in first.values())
    # A file that is added changes neither ids nor texts of this one.
    (run_file.parent / "other.txt").write_text("another\n\nstory")
    both = documents(f"sources.novel.paths=['{novel}', '{run_file.parent}/other.txt']")
    assert "".join(both.values()).count("Chapter") == 30


def test_only_text_is_cut(run_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"document_bytes = 64000: only text is cut into docum"):
        load(run_file, ["sources.web.document_bytes=64kB"])
