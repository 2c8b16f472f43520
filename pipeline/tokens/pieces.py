"""The bytes that each id of a tokenizer stands for.

Reads tokenizer.json alone. No tokenizer is built, so showing a few documents takes no time.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.errors import DataError
from pipeline.store.records import Json
from pipeline.tokens.tokenizer_json import TokenizerDescription, ids_of_model, read_description

PieceKind = Literal["byte-level", "sentencepiece", "other"]
"""How a vocabulary writes bytes: as GPT-2's characters, with SentencePiece's `▁` and `<0xNN>`, or as
text."""
SPACE = "▁"
"""SentencePiece's symbol for a space (U+2581)."""


@dataclass(frozen=True)
class Pieces:
    """A tokenizer's vocabulary as bytes."""

    kind: PieceKind
    of_id: tuple[bytes, ...]
    """The bytes that each id adds to the text; empty for an id that has no piece."""
    special: frozenset[int]
    """Ids of special tokens; their pieces are their names."""
    fallback: frozenset[int]
    """Ids of the pieces `<0xNN>` (SentencePiece), or of single bytes from 0x80 on (byte-level).

    A byte from 0x80 on is always part of a character of several bytes: in UTF-8 no other byte has
    the high bit.
    """

    @cached_property
    def single_byte(self) -> np.ndarray:
        """Tell for each id whether its piece is one byte, `(ids,) bool`."""
        is_single = [
            len(piece) == 1 and number not in self.special
            for number, piece in enumerate(self.of_id)
        ]
        return np.array(is_single, bool)


def load_pieces(file: Path) -> Pieces:
    """Read a tokenizer.json. Raises DataError where it is missing, or is not a tokenizer."""
    try:
        description = read_description(file)
        vocabulary = ids_of_model(description["model"])
        added = {token["id"]: token for token in description["added_tokens"]}
        kind = _piece_kind(description)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: is not a fast tokenizer that can be read ({error!r})") from None

    # The bytes of each piece of the model.
    of_id = [b""] * (max([*vocabulary.values(), *added], default=-1) + 1)
    fallback: set[int] = set()
    for piece, number in vocabulary.items():
        content = _bytes_of(piece, kind)
        of_id[number] = content
        if _is_fallback(piece, content, kind):
            fallback.add(number)

    # Added tokens are written as text, whatever the kind.
    for number, token in added.items():
        of_id[number] = token["content"].encode()
    special = frozenset(number for number, token in added.items() if token["special"])
    return Pieces(kind, tuple(of_id), special, frozenset(fallback - added.keys()))


def _piece_kind(description: TokenizerDescription) -> PieceKind:
    """Return how the vocabulary of a tokenizer.json writes bytes."""
    types = set(_types([description["pre_tokenizer"], description["decoder"]]))
    if "ByteLevel" in types:
        return "byte-level"
    if description["model"].get("byte_fallback") or types & {"Metaspace", "ByteFallback"}:
        return "sentencepiece"
    return "other"


def _is_fallback(piece: str, content: bytes, kind: PieceKind) -> bool:
    """Tell whether a piece stands for a byte of a character that no piece holds."""
    if kind == "byte-level":
        return len(content) == 1 and content >= b"\x80"
    return kind == "sentencepiece" and _byte_piece(piece) is not None


def as_text(piece: bytes) -> str:
    """Return bytes as text; a byte that is not part of a character becomes `<E4>`."""
    text = piece.decode("utf-8", "surrogateescape")
    if text.isascii():
        return text
    return "".join(map(_lone_byte, text))


def _lone_byte(character: str) -> str:
    """Write a byte that "surrogateescape" has turned into U+DC80 to U+DCFF as `<E4>`."""
    if "\udc80" <= character <= "\udcff":
        return f"<{ord(character) - 0xDC00:02X}>"
    return character


def _types(node: Json) -> Iterator[str]:
    """Yield the `type` of a node of tokenizer.json, and of every node nested in it."""
    if isinstance(node, Mapping):
        name = node.get("type")
        if isinstance(name, str):
            yield name
        node = list(node.values())
    if isinstance(node, list):
        for inner in node:
            yield from _types(inner)


def _bytes_of(piece: str, kind: PieceKind) -> bytes:
    """Return the bytes that a piece adds to the text."""
    if kind == "byte-level":
        try:
            return piece.translate(byte_of_character()).encode("latin-1")
        except UnicodeEncodeError:  # a token that is written as text
            return piece.encode()
    if kind == "sentencepiece":
        byte = _byte_piece(piece)
        if byte is None:
            return piece.replace(SPACE, " ").encode()
        return bytes([byte])
    return piece.encode()


def _byte_piece(piece: str) -> int | None:
    """Return the byte of a piece `<0xNN>`; None for any other piece."""
    if not (len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")):
        return None
    try:
        return int(piece[3:5], 16)
    except ValueError:
        return None


@lru_cache(maxsize=1)
def byte_of_character() -> dict[int, int]:
    """Return the byte of each character of a byte-level vocabulary, for `str.translate`.

    Printable bytes are written as themselves, the other 68 as the characters from U+0100 on, in
    their order. Source: `bytes_to_unicode` of GPT-2 (Radford et al. 2019), openai/gpt-2
    src/encoder.py.
    """
    itself = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in itself]
    return {byte: byte for byte in itself} | {
        256 + place: byte for place, byte in enumerate(others)
    }
