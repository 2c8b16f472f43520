"""A byte-level vocabulary as it is read from public files, and the fast tokenizer that it becomes.

Such files hold pieces and their ids. Special tokens are in the run file, or in the vocabulary as
pieces that no merge makes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tokenizers import AddedToken, Tokenizer, decoders
from tokenizers.models import BPE

from pipeline.config.sections import TokenizerSection
from pipeline.errors import DataError
from pipeline.tokens.pieces import byte_of_character
from pipeline.tokens.split_patterns import byte_level_cutter

MOST_UNUSED_IDS = 10_000
"""Maximum number of ids without a piece or a special token; more are a mistake in
`tokenizer.special_tokens` or in the file."""


@dataclass(frozen=True)
class ByteVocabulary:
    """The ids of a byte-level tokenizer."""

    pieces: Mapping[str, int]
    """Piece, its bytes written as GPT-2's characters -> id."""
    special: Mapping[str, int]
    """Special token -> id, in the order of ids; some may also be in `pieces`."""

    @property
    def ids(self) -> int:
        """The highest id and one."""
        return max([*self.pieces.values(), *self.special.values()]) + 1

    def fast(
        self, merges: Sequence[tuple[str, str]], expression: str, takes_whole_words: bool
    ) -> Tokenizer:
        """Return the fast tokenizer.

        `expression` cuts the text. `takes_whole_words`: a word that is a piece needs no merges.
        """
        # A special token with an id below that of a piece has to be in the model: the library gives
        # the ids that follow the model's to all others.
        last_piece = max(self.pieces.values())
        inner = {name: number for name, number in self.special.items() if number < last_piece}
        vocabulary = {**self.pieces, **inner}
        tokenizer = Tokenizer(
            BPE(vocab=vocabulary, merges=list(merges), ignore_merges=takes_whole_words)
        )
        tokenizer.pre_tokenizer = byte_level_cutter(expression)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens(
            [AddedToken(name, special=True, normalized=False) for name in self.special]
        )
        assert all(tokenizer.token_to_id(name) == number for name, number in self.special.items())
        return tokenizer


def with_special_tokens(
    pieces: Mapping[str, int], special: Mapping[str, int], settings: TokenizerSection
) -> ByteVocabulary:
    """Return a vocabulary with the given special tokens, and `<|reserved_N|>` for each unused id N.

    Raises DataError for ids that are taken, and where the end of a document is not among them.
    """
    # A special token must not be another piece, nor take the id of one.
    where = f"tokenizer.special_tokens with tokenizer.path = {settings.path}"
    piece_of = {number: piece for piece, number in pieces.items()}
    free = max(piece_of) + 1
    names_by_id: dict[int, str] = {}
    for name, number in special.items():
        owner = piece_of.get(number, names_by_id.get(number, name))
        if owner != name:
            raise DataError(
                f"{where}: {name!r} = {number} is the id of {owner!r}; ids from {free} on are free"
            )
        if pieces.get(name, number) != number:
            raise DataError(
                f"{where}: {name!r} = {number} has the id {pieces[name]} in the vocabulary; set that"
            )
        names_by_id[number] = name
    if settings.end_of_document not in special and settings.end_of_document not in pieces:
        listed = ", ".join(map(repr, special)) or "none"
        raise DataError(
            f"tokenizer.end_of_document = {settings.end_of_document!r}: is no token of "
            f"{settings.path}; its special tokens are {listed}. Set it to one of them, or add it "
            f"to tokenizer.special_tokens; ids from {free} on are free"
        )

    # The library leaves no id out. One wrong id may be billions, so ids are counted before listed.
    last = max([*piece_of, *names_by_id])
    unused_count = last + 1 - len({*piece_of, *names_by_id})
    if unused_count > MOST_UNUSED_IDS:
        owner = names_by_id.get(last, piece_of.get(last))
        raise DataError(
            f"{where}: the highest id, {last:,} of {owner!r}, leaves {unused_count:,} ids below it "
            f"unused, more than the {MOST_UNUSED_IDS:,} that are allowed; correct it"
        )
    unused = [n for n in range(last) if n not in piece_of and n not in names_by_id]
    names_by_id |= {number: unused_name(number) for number in unused}
    return ByteVocabulary(pieces, {names_by_id[number]: number for number in sorted(names_by_id)})


def unused_name(number: int) -> str:
    """Return the name of the special token that takes an unused id."""
    return f"<|reserved_{number}|>"


@lru_cache(maxsize=1)
def character_of_byte() -> dict[int, str]:
    """Return the character with which a byte-level vocabulary writes each byte."""
    return {byte: chr(character) for character, byte in byte_of_character().items()}


def as_piece(token: bytes) -> str:
    """Return the bytes of a token as a byte-level vocabulary writes them."""
    characters = character_of_byte()
    return "".join(characters[byte] for byte in token)


def as_bytes(piece: str) -> bytes | None:
    """Return the bytes of a piece; None where it is text, as a special token is."""
    values = [byte_of_character().get(ord(character)) for character in piece]
    if None in values:
        return None
    return bytes(value for value in values if value is not None)
