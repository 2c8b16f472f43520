"""The form `tiktoken`: tokens with their ranks, one a line, as the package tiktoken reads them.

The file holds neither the pattern that cuts text nor special tokens: both are in the run file.
Llama 3's `tokenizer.model` is such a file, too.
"""

import base64
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from pipeline.config.sections import TokenizerSection
from pipeline.errors import DataError, first_of
from pipeline.logs import counted_noun, note
from pipeline.tokens.forms.byte_vocabulary import (
    ByteVocabulary,
    as_piece,
    unused_name,
    with_special_tokens,
)
from pipeline.tokens.forms.tokenizer_form import TokenizerForm, path_of
from pipeline.tokens.kinds.tokenizer_kind import MadeTokenizer

LINE = re.compile(rb"([A-Za-z0-9+/]*={0,2}) (\d{1,9})")
"""A line of the file: the bytes of a token in base64, and its rank."""
EMPTY = b"="
"""Base64 of an entry without bytes, which Whisper's files have."""
SUFFIX = ".tiktoken"
SHOWN_TOKENS = 8
"""Maximum number of special tokens that are listed."""


class TiktokenFile(TokenizerForm):
    """A file of ranks with `tokenizer.pattern`."""

    words = "a tiktoken file (with tokenizer.pattern)"
    takes = ("pattern", "special_tokens")

    def recognises(self, settings: TokenizerSection) -> bool:
        """Tell whether the path is a file with that suffix, or whose first line is one of ranks."""
        path = path_of(settings)
        if not path.is_file():
            return False
        if path.suffix == SUFFIX:
            return True
        with path.open("rb") as file:
            return LINE.fullmatch(file.readline(1000).rstrip(b"\r\n")) is not None

    def check(self, settings: TokenizerSection) -> None:
        """Raise DataError for a missing or wrong pattern, a broken file and special tokens."""
        _expression(settings)
        _vocabulary(settings)

    def expected_ids(self, settings: TokenizerSection) -> int:
        """Return the highest id, special tokens included, and one."""
        _expression(settings)
        return _vocabulary(settings).ids

    def take(self, settings: TokenizerSection, folder: Path) -> MadeTokenizer:
        """Write the tokenizer; the reference is merging by ranks in plain Python."""
        from pipeline.tokens import tokenizer_folder
        from pipeline.tokens.forms.byte_merges import ReferenceEncoder, merges_of_ranks

        # Words are looked up as a whole only where that makes a difference: another reader of the
        # folder might not know how.
        expression = _expression(settings)
        ranks = _ranks(path_of(settings))
        vocabulary = _vocabulary(settings)
        merges, unreached = merges_of_ranks(ranks)
        pairs = [(as_piece(left), as_piece(right)) for left, right in merges]
        fast = vocabulary.fast(pairs, expression, takes_whole_words=bool(unreached))
        tokenizer_folder.write(fast, folder, settings.end_of_document, None)
        note(f"train-tokenizer: {len(ranks):,} tokens; special: {_special_in_words(vocabulary)}")
        reference = ReferenceEncoder(
            expression, ranks, lambda left, right: ranks.get(left + right), takes_whole_words=True
        )
        return MadeTokenizer(reference, {})


def _expression(settings: TokenizerSection) -> str:
    """Return the expression that cuts text. Raises DataError where none is set, or a wrong one."""
    from pipeline.tokens.split_patterns import expression_of, pattern_names

    if settings.pattern is None:
        raise DataError(
            f"tokenizer.path = {settings.path}: is a tiktoken file, which holds tokens and their "
            "ranks but not the pattern that cuts text into words, and another pattern gives other "
            f"ids. Set tokenizer.pattern to the one that it was made with: {pattern_names()}, or a "
            "regular expression"
        )
    return expression_of(settings.pattern)


def _vocabulary(settings: TokenizerSection) -> ByteVocabulary:
    """Return the ids with the special tokens.

    Those of `tokenizer.special_tokens`; without them those that were published with the pattern, if
    the file has as many ranks as the published one; else the end of a document, with the next id.
    """
    from pipeline.tokens.split_patterns import NAMED_PATTERNS

    ranks = _ranks(path_of(settings))
    special = settings.special_tokens
    if not special:
        named = NAMED_PATTERNS.get(settings.pattern or "")
        special = {settings.end_of_document: max(ranks.values()) + 1}
        if named is not None and named.ranks == len(ranks):
            special = dict(named.special_tokens)
    # No text becomes a token without bytes; its id stays unused.
    pieces = {as_piece(token): rank for token, rank in ranks.items() if token}
    return with_special_tokens(pieces, special, settings)


def _special_in_words(vocabulary: ByteVocabulary) -> str:
    """Return the special tokens that have names of their own, and the number of unused ids."""
    own = [
        f"{name} {number}"
        for name, number in vocabulary.special.items()
        if name != unused_name(number)
    ]
    unused = len(vocabulary.special) - len(own)
    words = first_of(own, SHOWN_TOKENS)
    if unused:
        words += f"; {counted_noun(unused, 'unused id')}"
    return words


def _ranks(file: Path) -> Mapping[bytes, int]:
    """Read the ranks. Raises DataError with the first line that is wrong."""
    status = file.stat()
    return _kept_ranks(file, (status.st_mtime_ns, status.st_size, status.st_ino))


@lru_cache(maxsize=2)
def _kept_ranks(file: Path, version: tuple[int, ...]) -> Mapping[bytes, int]:
    """Read the ranks; kept, since several checks of one command ask. `version`: see `_ranks`."""
    # Each line has a token and a rank of its own.
    ranks: dict[bytes, int] = {}
    lines: dict[int, int] = {}
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        if not line:
            continue
        entry = _entry(line)
        problem = None
        if entry is None:
            problem = "is no token in base64 with its rank"
        elif entry[0] in ranks:
            problem = f"has the token of line {lines[ranks[entry[0]]]}"
        elif entry[1] in lines:
            problem = f"has the rank of line {lines[entry[1]]}"
        if entry is None or problem is not None:
            raise DataError(
                f"{file}, line {number}: {line[:80].decode('utf-8', 'replace')!r} {problem}; copy "
                "the tiktoken file again"
            )
        ranks[entry[0]] = entry[1]
        lines[entry[1]] = number

    # Each byte is a token.
    lacking = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if lacking:
        raise DataError(
            f"{file}: has no token for the byte 0x{lacking[0]:02X}, without which no text that "
            "holds it can be encoded; copy the tiktoken file again"
        )
    return ranks


def _entry(line: bytes) -> tuple[bytes, int] | None:
    """Return the token and the rank of a line; None where it is no such line."""
    match = LINE.fullmatch(line)
    if match is None:
        return None
    if match[1] == EMPTY:
        return b"", int(match[2])
    try:
        return base64.b64decode(match[1], validate=True), int(match[2])
    except ValueError:
        return None
