"""A SentencePiece `.model` file as a record: its pieces and how its text is prepared.

The file is one protocol buffer, `sentencepiece_model.proto`; the handful of fields needed here are
read by hand, since the library itself does not give all of them.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece

from pipeline.errors import DataError

SPACE = "▁"
"""SentencePiece's symbol for a space (U+2581)."""
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Types of pieces, in the proto's numbering."""
MODEL_TYPES = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}


@dataclass(frozen=True)
class SentencePieceModel:
    """What a conversion has to know."""

    model_type: str
    pieces: tuple[str, ...]
    """The vocabulary: position is id."""
    scores: tuple[float, ...]
    """Each exactly a float32."""
    types: tuple[int, ...]
    byte_fallback: bool
    space_as_suffix: bool
    rewrites: bool
    """It holds a table of normalisation rules: text is rewritten before it is cut."""
    normalizer: str
    dummy_prefix: bool
    """A space is put in front of every text."""
    remove_extra_spaces: bool
    escape_spaces: bool

    def ids_of(self, *types: int) -> list[int]:
        """Return the ids of pieces of these types."""
        return [i for i, kind in enumerate(self.types) if kind in types]

    @property
    def unknown_id(self) -> int:
        """Id of the unknown piece; every model has one."""
        return self.types.index(UNKNOWN)


def read_model(path: Path) -> SentencePieceModel:
    """Read a `.model` file. Raises DataError where it is none."""
    try:
        data = path.read_bytes()
        sentencepiece.SentencePieceProcessor(model_proto=data)  # its own checks
        return parse_model(data)
    except (OSError, RuntimeError, ValueError, IndexError, struct.error) as error:
        raise DataError(
            f"{path}: is not a SentencePiece model that can be read ({error})"
        ) from None


def parse_model(data: bytes) -> SentencePieceModel:
    """Return what a `.model` file's content says. Raises ValueError or IndexError where it is
    none."""
    pieces = []
    trainer = {}
    normalizer = {}
    for number, value in _fields(data):
        if number == 1:
            pieces.append(dict(_fields(value)))
        elif number == 2:
            trainer = dict(_fields(value))
        elif number == 3:
            normalizer = dict(_fields(value))
    if not pieces:
        raise ValueError("no pieces")
    return SentencePieceModel(
        model_type=MODEL_TYPES.get(trainer.get(3, 1), "unknown"),
        pieces=tuple(piece[1].decode() for piece in pieces),
        scores=tuple(struct.unpack("<f", piece.get(2, bytes(4)))[0] for piece in pieces),
        types=tuple(piece.get(3, NORMAL) for piece in pieces),
        byte_fallback=bool(trainer.get(35, 0)),
        space_as_suffix=bool(trainer.get(24, 0)),
        rewrites=bool(normalizer.get(2, b"")),
        normalizer=normalizer.get(1, b"").decode(),
        dummy_prefix=bool(normalizer.get(3, 1)),
        remove_extra_spaces=bool(normalizer.get(4, 1)),
        escape_spaces=bool(normalizer.get(5, 1)),
    )


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield `(field number, value)`: int of a varint, bytes of anything else.

    Source: protobuf's encoding, "Message Structure".
    """
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        wire_type = key & 7
        if wire_type == 0:
            value, position = _varint(message, position)
            yield key >> 3, value
            continue
        if wire_type == 2:
            size, position = _varint(message, position)
        elif wire_type in (1, 5):
            size = 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"wire type {wire_type}")
        if position + size > len(message):
            raise ValueError("ends in the middle of a field")
        yield key >> 3, message[position : position + size]
        position += size


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 127) << shift
        position = position + 1
        shift = shift + 7
        if byte < 128:
            return value, position
