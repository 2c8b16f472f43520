"""Pieces against what the tokenizers library makes of the same file; text that could act on a
terminal."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import write_byte_level_tokenizer, write_sentencepiece_tokenizer
from tokenizers import Tokenizer, decoders
from tokenizers.models import Unigram

from pipeline.errors import DataError
from pipeline.tokens.pieces import as_text, load_pieces

WRITERS = [write_byte_level_tokenizer, write_sentencepiece_tokenizer]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    "text", ["ab ab é", " \n\t  ab", "日本語 🙂", "<0x41> Ġ <|endoftext|>", "\x00\x1b\x7f\x80\xff"]
)
def test_the_pieces_of_a_text_are_its_bytes(
    tmp_path: Path, write: Callable[[Path], None], text: str
) -> None:
    write(tmp_path)
    encoder = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    encoder.encode_special_tokens = True
    pieces = load_pieces(tmp_path / "tokenizer.json")
    ids = encoder.encode(text, add_special_tokens=False).ids
    assert b"".join(pieces.of_id[i] for i in ids) == text.encode()


def test_kinds_special_ids_and_bytes(tmp_path: Path) -> None:
    write_byte_level_tokenizer(tmp_path)
    byte_level = load_pieces(tmp_path / "tokenizer.json")
    assert (byte_level.kind, byte_level.special, len(byte_level.of_id)) == ("byte-level", {0}, 259)
    assert byte_level.of_id[257:] == (b"ab", b" ab")
    assert sorted(byte_level.of_id[1:257]) == [bytes([byte]) for byte in range(256)]
    assert {byte_level.of_id[i] for i in byte_level.fallback} == {
        bytes([byte]) for byte in range(0x80, 0x100)
    }
    assert byte_level.single_byte.sum() == 256
    write_sentencepiece_tokenizer(tmp_path)
    other = load_pieces(tmp_path / "tokenizer.json")
    assert (other.kind, other.special, len(other.of_id)) == ("sentencepiece", {0, 1}, 263)
    assert other.of_id[2 + 0x0A] == b"\n"
    assert other.of_id[258:] == (b" ", b"a", b"b", b"ab", b" ab")
    assert other.fallback == set(range(2, 258))
    assert other.single_byte.sum() == 256 + 3


def test_a_unigram_vocabulary_is_a_list(tmp_path: Path) -> None:
    tokenizer = Tokenizer(Unigram([("<unk>", 0.0), ("▁a", -1.0), ("b", -2.0)], 0))
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    pieces = load_pieces(tmp_path / "tokenizer.json")
    assert (pieces.kind, pieces.of_id, pieces.special) == (
        "sentencepiece",
        (b"<unk>", b" a", b"b"),
        set(),
    )


@pytest.mark.parametrize("content", [None, b"{", b"{}", b"[]"])
def test_what_is_no_tokenizer_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "tokenizer.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=r"tokenizer\.json: is not a fast tokenizer"):
        load_pieces(file)


def test_bytes_that_are_no_character() -> None:
    assert as_text("é".encode()) == "é"
    assert as_text(b" \xc3") == " <C3>"
    assert as_text(b"\xa9a") == "<A9>a"
