"""What each id of a tokenizer stands for, in bytes.

Reads tokenizer.json alone: no tokenizer is built, so that looking at a few documents takes no time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson

from pipeline.errors import DataError

SPACE = "▁"
"""SentencePiece's symbol for a space (U+2581)."""


@dataclass(frozen=True)
class Pieces:
    """A tokenizer's vocabulary as bytes."""

    kind: Literal["byte-level", "sentencepiece", "other"]
    """How its vocabulary writes bytes: GPT-2's characters, SentencePiece's `▁` and `<0xNN>`, or as
    text."""
    of_id: tuple[bytes, ...]
    """The bytes that each id adds to the text; empty for an id that has no piece."""
    special: frozenset[int]
    """Ids of special tokens; their pieces are their names."""
    fallback: frozenset[int]
    """Ids of the pieces `<0xNN>` (SentencePiece), or of single bytes from 0x80 on (byte-level).

    The latter are always part of a character of several bytes: in UTF-8 no other byte has the high
    bit.
    """

    @property
    def single_byte(self) -> np.ndarray:
        """Tell for each id whether its piece is one byte, `(ids,) bool`."""
        return np.array(
            [len(p) == 1 and i not in self.special for i, p in enumerate(self.of_id)], bool
        )


def load_pieces(file: Path) -> Pieces:
    """Read a tokenizer.json. Raises DataError where it is missing, or is none."""
    try:
        description = orjson.loads(file.read_bytes())
        vocabulary = description["model"]["vocab"]
        if isinstance(vocabulary, list):  # unigram: pairs of piece and score
            vocabulary = {piece: number for number, (piece, _) in enumerate(vocabulary)}
        added = {token["id"]: token for token in description["added_tokens"]}
        types = set(_types([description["pre_tokenizer"], description["decoder"]]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: is not a fast tokenizer that can be read ({error!r})") from None
    has_bytes = description["model"].get("byte_fallback") or types & {"Metaspace", "ByteFallback"}
    kind = "byte-level" if "ByteLevel" in types else "sentencepiece" if has_bytes else "other"
    of_id = [b""] * (max([*vocabulary.values(), *added], default=-1) + 1)
    fallback = set()
    for piece, number in vocabulary.items():
        of_id[number] = _bytes_of(piece, kind)
        lone_byte = len(of_id[number]) == 1 and of_id[number] >= b"\x80"
        if (kind == "byte-level" and lone_byte) or (
            kind == "sentencepiece" and _byte_piece(piece) is not None
        ):
            fallback.add(number)
    for number, token in added.items():
        of_id[number] = token["content"].encode()
    special = frozenset(number for number, token in added.items() if token["special"])
    return Pieces(kind, tuple(of_id), special, frozenset(fallback - added.keys()))


def as_text(piece: bytes) -> str:
    """Return bytes as text; what is no character becomes `<E4>`."""
    text = piece.decode("utf-8", "surrogateescape")
    if text.isascii():
        return text
    return "".join(map(_lone_byte, text))


def _lone_byte(character: str) -> str:
    """Undo "surrogateescape", which carries a byte that is no character as U+DC80 and following."""
    if "\udc80" <= character <= "\udcff":
        return f"<{ord(character) - 0xDC00:02X}>"
    return character


def _types(node: Any) -> Iterator[str]:
    """Yield every `type` below a node of tokenizer.json."""
    if isinstance(node, dict):
        if isinstance(node.get("type"), str):
            yield node["type"]
        node = list(node.values())
    if isinstance(node, list):
        for inner in node:
            yield from _types(inner)


def _bytes_of(piece: str, kind: str) -> bytes:
    if kind == "byte-level":
        try:
            return piece.translate(byte_of_character()).encode("latin-1")
        except UnicodeEncodeError:  # an added token, written as text
            return piece.encode()
    if kind == "sentencepiece":
        byte = _byte_piece(piece)
        if byte is None:
            return piece.replace(SPACE, " ").encode()
        return bytes([byte])
    return piece.encode()


def _byte_piece(piece: str) -> int | None:
    """Return the byte of a piece `<0xNN>`."""
    is_byte = len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")
    try:
        if is_byte:
            return int(piece[3:5], 16)
        return None
    except ValueError:
        return None


@lru_cache(maxsize=1)
def byte_of_character() -> dict[int, int]:
    """Return the byte that each character of a byte-level vocabulary stands for, as a table for
    `str.translate`.

    Printable bytes stand for themselves, the other 68 are the characters from U+0100 on, in their
    order. Source: `bytes_to_unicode` of GPT-2 (Radford et al. 2019), openai/gpt-2 src/encoder.py.
    """
    itself = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in itself]
    return {byte: byte for byte in itself} | {
        256 + place: byte for place, byte in enumerate(others)
    }
