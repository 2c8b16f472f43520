"""The form `merges`: vocab.json and merges.txt of a byte-level tokenizer, as of GPT-2."""

import json
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.sections import TokenizerSection
from pipeline.errors import DataError, first_of
from pipeline.store.files import write_json
from pipeline.store.pretrained_folders import (
    MERGES_TXT,
    TOKENIZER_CONFIG,
    VOCAB_JSON,
    open_tokenizer,
)
from pipeline.store.records import Json
from pipeline.tokens.forms.byte_vocabulary import (
    ByteVocabulary,
    as_bytes,
    character_of_byte,
    with_special_tokens,
)
from pipeline.tokens.forms.tokenizer_form import TokenizerForm, path_of
from pipeline.tokens.kinds.tokenizer_kind import Encode, MadeTokenizer

NAMES = ((VOCAB_JSON, MERGES_TXT), ("encoder.json", "vocab.bpe"))
"""Names of the two files: those of transformers, and those of GPT-2's own release."""
VERSION = "#version"
"""Beginning of a first line that is no merge."""
DEFAULT_PATTERN = "gpt2"
MOST_UNMADE = 100
"""Maximum number of pieces that no merge makes, besides bytes. GPT-2 has one, its end of a document,
and models that were made from it some dozens; a merges.txt that was cut off leaves thousands."""
ADDED_TOKENS = "added_tokens.json"
"""File of tokens that were added to a vocabulary, name -> id."""
SHOWN_PIECES = 3
"""Maximum number of pieces that a message lists."""


@dataclass(frozen=True)
class Merges:
    """The content of the two files."""

    vocabulary: ByteVocabulary
    merges: tuple[tuple[str, str], ...]
    """Pairs of pieces, the first merge first."""


class MergesFiles(TokenizerForm):
    """A folder with vocab.json and merges.txt, or the two named one by one."""

    words = "vocab.json with merges.txt (a folder with both, or tokenizer.merges)"
    takes = ("merges", "pattern", "special_tokens")

    def recognises(self, settings: TokenizerSection) -> bool:
        """Tell whether merges are named, or the path is a folder with both files or one of them."""
        if settings.merges is not None:
            return True
        return _both_at(path_of(settings)) is not None

    def files(self, settings: TokenizerSection) -> list[Path]:
        """Return the file of the vocabulary and that of the merges."""
        if settings.merges is None:
            both = _both_at(path_of(settings))
            assert both is not None, "the form is recognised by it"
            return both
        for setting, path in (("path", settings.path), ("merges", settings.merges)):
            if path is None or not path.is_file():
                raise DataError(
                    f"tokenizer.{setting} = {path}: is no file; set tokenizer.path to the "
                    f"{VOCAB_JSON} and tokenizer.merges to the {MERGES_TXT} of one tokenizer"
                )
        return [path_of(settings), settings.merges]

    def check(self, settings: TokenizerSection) -> None:
        """Raise DataError for files that do not fit together, and a pattern that cannot be used."""
        from pipeline.tokens.split_patterns import expression_of

        expression_of(settings.pattern or DEFAULT_PATTERN)
        self._read(settings)

    def expected_ids(self, settings: TokenizerSection) -> int:
        """Return the highest id and one."""
        return self._read(settings).vocabulary.ids

    def take(self, settings: TokenizerSection, folder: Path) -> MadeTokenizer:
        """Write the tokenizer.

        The reference is transformers' reader of the two files. With a pattern that is not GPT-2's it
        is an implementation in plain Python.
        """
        from pipeline.tokens import tokenizer_folder
        from pipeline.tokens.forms.byte_merges import ReferenceEncoder
        from pipeline.tokens.split_patterns import NAMED_PATTERNS, expression_of

        expression = expression_of(settings.pattern or DEFAULT_PATTERN)
        content = self._read(settings)
        fast = content.vocabulary.fast(content.merges, expression, takes_whole_words=False)
        tokenizer_folder.write(fast, folder, settings.end_of_document, None)
        if expression == NAMED_PATTERNS[DEFAULT_PATTERN].expression:
            return MadeTokenizer(_transformers_reader(*self.files(settings)), {})

        # Each piece of text by its bytes; pieces that are text, as special tokens are, never occur.
        spelled = {as_bytes(piece): number for piece, number in content.vocabulary.pieces.items()}
        ids = {token: number for token, number in spelled.items() if token is not None}
        order = {
            (as_bytes(left), as_bytes(right)): number
            for number, (left, right) in enumerate(content.merges)
        }
        reference = ReferenceEncoder(
            expression, ids, lambda left, right: order.get((left, right)), takes_whole_words=False
        )
        return MadeTokenizer(reference, {})

    def _read(self, settings: TokenizerSection) -> Merges:
        vocabulary_file, merges_file = self.files(settings)
        pieces = _read_vocabulary(vocabulary_file)
        merges = _read_merges(merges_file, vocabulary_file, pieces)
        _refuse_unmade(merges_file, merges, pieces)
        _refuse_added(vocabulary_file.with_name(ADDED_TOKENS), pieces, settings)
        vocabulary = with_special_tokens(pieces, settings.special_tokens, settings)
        return Merges(vocabulary, merges)


def _both_at(path: Path) -> list[Path] | None:
    """Return the two files in a folder, or beside one of them; None where one is missing."""
    for names in NAMES:
        folder = path
        if path.name in names and path.is_file():
            folder = path.parent
        files = [folder / name for name in names]
        if all(file.is_file() for file in files):
            return files
    return None


def _read_vocabulary(file: Path) -> dict[str, int]:
    """Read a vocab.json. Raises DataError where it does not give each piece an id of its own."""
    # Read a mapping of names to numbers.
    try:
        content: Json = json.loads(file.read_text("utf-8"), object_pairs_hook=_each_once)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"tokenizer.path: {file}: is not valid JSON ({error}); copy it again"
        ) from None
    pieces = _ids_in(content)
    if not pieces:
        raise DataError(
            f"tokenizer.path: {file}: is no vocabulary, which is a mapping of each piece to its "
            "id; name the vocab.json of the tokenizer"
        )

    # Every id belongs to one piece, and every byte has a piece.
    piece_of: dict[int, str] = {}
    for piece, number in pieces.items():
        if number in piece_of:
            raise DataError(
                f"tokenizer.path: {file}: {piece!r} and {piece_of[number]!r} have the same id "
                f"{number}; copy it again"
            )
        piece_of[number] = piece
    lacking = [byte for byte, piece in character_of_byte().items() if piece not in pieces]
    if lacking:
        raise DataError(
            f"tokenizer.path: {file}: has no piece for the byte 0x{min(lacking):02X}, as a "
            "byte-level vocabulary has for each of the 256. Only byte-level tokenizers are read "
            "from vocab.json and merges.txt; name the tokenizer.json of this one"
        )
    return pieces


def _each_once(entries: list[tuple[str, Json]]) -> dict[str, Json]:
    """Return a JSON object. Raises ValueError where a name stands twice."""
    content = dict(entries)
    if len(content) < len(entries):
        counts = Counter(name for name, _ in entries)
        raise ValueError(f"{counts.most_common(1)[0][0]!r} stands twice")
    return content


def _ids_in(content: Json) -> dict[str, int]:
    """Return a JSON mapping of names to whole numbers from 0; empty where it is something else."""
    if not isinstance(content, Mapping):
        return {}
    ids: dict[str, int] = {}
    for piece, number in content.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            return {}
        ids[piece] = number
    return ids


def _read_merges(
    file: Path, vocabulary_file: Path, pieces: Mapping[str, int]
) -> tuple[tuple[str, str], ...]:
    """Read a merges.txt. Raises DataError with the first line that does not fit the vocabulary."""
    try:
        lines = file.read_text("utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as UTF-8 ({error}); copy it again") from None
    merges: dict[tuple[str, str], int] = {}
    made = set(character_of_byte().values())
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r")
        if not line or (number == 1 and line.startswith(VERSION)):
            continue
        problem = _problem_of_merge(line.split(" "), made, pieces, vocabulary_file)
        if problem is None and tuple(line.split(" ")) in merges:
            problem = "is the same merge as an earlier line"
        if problem is not None:
            raise DataError(
                f"{file}, line {number}: {line[:80]!r} {problem}. Name the vocab.json and the "
                "merges.txt of one byte-level tokenizer"
            )
        left, right = line.split(" ")
        merges[left, right] = number
        made.add(left + right)
    return tuple(merges)


def _refuse_unmade(
    file: Path, merges: Collection[tuple[str, str]], pieces: Mapping[str, int]
) -> None:
    """Raise DataError where merges make too few of the pieces: the end of their file is missing."""
    made = {left + right for left, right in merges}
    unmade = [piece for piece in pieces if len(piece) > 1 and piece not in made]
    if len(unmade) > min(MOST_UNMADE, len(pieces) // 4):
        first = first_of(sorted(unmade, key=pieces.__getitem__), SHOWN_PIECES)
        raise DataError(
            f"{file}: its {len(merges):,} merges make {len(made):,} pieces of the vocabulary and "
            f"none of {len(unmade):,} others ({first}), so that it is cut off, or of another "
            "tokenizer; copy it again, or name the tokenizer.json of this one"
        )


def _refuse_added(file: Path, pieces: Mapping[str, int], settings: TokenizerSection) -> None:
    """Raise DataError for added tokens beside the vocabulary, unless they are special tokens."""
    if not file.is_file():
        return
    try:
        added = _ids_in(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: is not valid JSON ({error}); copy it again") from None
    known = {**pieces, **settings.special_tokens}
    unknown = [f"{name!r}: {number}" for name, number in added.items() if known.get(name) != number]
    if unknown:
        raise DataError(
            f"{file}: adds tokens to the vocabulary ({first_of(unknown, SHOWN_PIECES)}), which this "
            "form does not read. Name the tokenizer.json of this tokenizer, or its folder with "
            f"{TOKENIZER_CONFIG}; or set tokenizer.special_tokens to these if none is ordinary text"
        )


def _problem_of_merge(
    parts: list[str], made: set[str], pieces: Mapping[str, int], vocabulary_file: Path
) -> str | None:
    """Return what is wrong with a line of merges.txt; None where nothing is.

    `made`: the pieces of single bytes and those that earlier lines make.
    """
    if len(parts) != 2:
        return "is no merge, which is two pieces with one space between them"
    for piece in (*parts, "".join(parts)):
        if piece not in pieces:
            return f"needs the piece {piece!r}, which is not in {vocabulary_file}"
    for piece in parts:
        if piece not in made:
            return f"merges {piece!r}, which is no single byte and is made by no earlier line"
    return None


def _transformers_reader(vocabulary_file: Path, merges_file: Path) -> Encode:
    """Return the encoding of the tokenizer that transformers reads from the two files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / VOCAB_JSON).write_bytes(vocabulary_file.read_bytes())
        (folder / MERGES_TXT).write_bytes(merges_file.read_bytes())
        write_json(folder / TOKENIZER_CONFIG, {"tokenizer_class": "GPT2Tokenizer"})
        tokenizer = open_tokenizer(folder, str(vocabulary_file))
    return lambda text: tokenizer(text, add_special_tokens=False, split_special_tokens=True)[
        "input_ids"
    ]
