"""Read a SentencePiece `.model` file: its pieces, and how it prepares a text.

The file is one protocol buffer, `sentencepiece_model.proto`. The few fields that are needed are
parsed here, since the library does not give access to all of them.
"""

import struct
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import sentencepiece

from pipeline.errors import DataError

SPACE = "▁"
"""SentencePiece's symbol for a space (U+2581)."""
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Types of pieces, numbered as in the proto."""
MODEL_TYPES = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
"""Number of a type of model in the proto -> its name."""
FIXED_SIZES = {1: 8, 5: 4}
"""Wire type of fields of a fixed size -> bytes of the value."""


@dataclass(frozen=True)
class SentencePieceModel:
    """The parts of a model that its conversion to a fast tokenizer needs."""

    model_type: str
    """One of MODEL_TYPES, or `unknown`."""
    pieces: tuple[str, ...]
    """Vocabulary, in the order of ids."""
    scores: tuple[float, ...]
    """Score of each piece, equal to the float32 in the file."""
    types: tuple[int, ...]
    """Type of each piece, such as NORMAL."""
    byte_fallback: bool
    """Whether a character without a piece becomes pieces of single bytes."""
    space_as_suffix: bool
    """Whether a space belongs to the word before it."""
    rules: bytes
    """Table of the rules by which text is rewritten before it is cut; empty without rules."""
    normalizer: str
    """Name of these rules, such as `nmt_nfkc`."""
    dummy_prefix: bool
    """Whether a space is put in front of every text."""
    remove_extra_spaces: bool
    escape_spaces: bool
    """Whether a space becomes SPACE."""

    def ids_of(self, *types: int) -> list[int]:
        """Return the ids of pieces of these types."""
        return [i for i, kind in enumerate(self.types) if kind in types]

    @property
    def unknown_id(self) -> int:
        """Id of the unknown piece, which every model has."""
        return self.types.index(UNKNOWN)


@dataclass
class _Message:
    """The fields of a protocol buffer message, by their numbers."""

    integers: dict[int, int] = field(default_factory=dict)
    """Value of each varint field; the last one where it is repeated."""
    contents: defaultdict[int, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    """All values of each other field, in order."""

    def content(self, number: int, default: bytes = b"") -> bytes:
        """Return the last value of a field that is no varint."""
        if number in self.contents:
            return self.contents[number][-1]
        return default


def read_model(path: Path) -> SentencePieceModel:
    """Read a `.model` file. Raises DataError where it is not one."""
    try:
        data = path.read_bytes()
        sentencepiece.SentencePieceProcessor(model_proto=data)  # refuses what is no model
        return parse_model(data)
    except (OSError, RuntimeError, ValueError, IndexError, struct.error) as error:
        raise DataError(
            f"{path}: is not a SentencePiece model that can be read ({error}). Set tokenizer.path "
            "to a SentencePiece .model file"
        ) from None


def parse_model(data: bytes) -> SentencePieceModel:
    """Parse the content of a `.model` file.

    Raises ValueError or IndexError where it is not one.
    """
    model = _parse(data)
    pieces = [_parse(piece) for piece in model.contents[1]]
    trainer = _parse(model.content(2))
    normalizer = _parse(model.content(3))
    if not pieces:
        raise ValueError("no pieces")
    return SentencePieceModel(
        model_type=MODEL_TYPES.get(trainer.integers.get(3, 1), "unknown"),
        pieces=tuple(piece.content(1).decode() for piece in pieces),
        scores=tuple(struct.unpack("<f", piece.content(2, bytes(4)))[0] for piece in pieces),
        types=tuple(piece.integers.get(3, NORMAL) for piece in pieces),
        byte_fallback=bool(trainer.integers.get(35, 0)),
        space_as_suffix=bool(trainer.integers.get(24, 0)),
        rules=normalizer.content(2),
        normalizer=normalizer.content(1).decode(),
        dummy_prefix=bool(normalizer.integers.get(3, 1)),
        remove_extra_spaces=bool(normalizer.integers.get(4, 1)),
        escape_spaces=bool(normalizer.integers.get(5, 1)),
    )


def _parse(data: bytes) -> _Message:
    """Parse a message; nested messages stay bytes.

    Source: protobuf's encoding, "Message Structure".
    """
    message = _Message()
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number = key >> 3
        wire_type = key & 7
        if wire_type == 0:
            message.integers[number], position = _varint(data, position)
            continue
        if wire_type == 2:
            size, position = _varint(data, position)
        elif wire_type in FIXED_SIZES:
            size = FIXED_SIZES[wire_type]
        else:
            raise ValueError(f"wire type {wire_type}")
        if position + size > len(data):
            raise ValueError("ends in the middle of a field")
        message.contents[number].append(data[position : position + size])
        position += size
    return message


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Return the varint that begins at a position, and the position of the byte after it."""
    value = 0
    shift = 0
    while True:
        byte = data[position]
        value |= (byte & 127) << shift
        position += 1
        shift += 7
        if byte < 128:
            return value, position
