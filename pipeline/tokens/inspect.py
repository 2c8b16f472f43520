"""`pipeline inspect`: show what the data looks like, before and after tokenization.

Reads data_dir/documents; also data_dir/tokenizer and data_dir/tokens where they exist and were made
from these documents. A source whose ids existed already has no documents there: its shards are the
`.idx` files, and its texts are decoded ids. Returns JSON values, which `inspect_view` prints.
Imports nothing that takes a second to import.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.corpus.documents import SPLITS, DocumentRow, shard_footer
from pipeline.corpus.keys import find_documents
from pipeline.errors import DataError, UserError
from pipeline.logs import note
from pipeline.store.layout import DataFolder
from pipeline.store.manifests.shard_places import logical_name, source_of
from pipeline.store.pretrained_folders import TOKENIZER_JSON
from pipeline.tokens import indexed_dataset
from pipeline.tokens.inspected_data import (
    MOST_SHARDS,
    Data,
    Overview,
    Question,
    ShownDocument,
    ShownToken,
    ShownTokens,
    SourceOverview,
    measure_lengths,
    spread_evenly,
)
from pipeline.tokens.pieces import Pieces, as_text

MOST_ENCODED_CHARACTERS = 1_000_000
"""Characters of a document that are encoded, where its tokens are not on disk."""
MOST_FOUND = 20
"""Documents of one original id or url that are shown."""
SAMPLE_CHARACTERS = 240
"""Characters of the sample that the overview shows for each source."""


def overview(data: Data, question: Question) -> Overview:
    """Describe the sources: their counts by split, lengths of documents, and a sample.

    Lengths and sample, the beginning of one document, are of the split that is asked for.
    """
    # A sample shows tokens only where they are on disk.
    shown = data
    if not data.tokens:
        shown = replace(data, pieces=None)
    short = replace(question, characters=SAMPLE_CHARACTERS)

    sources: dict[str, SourceOverview] = {}
    for source in _sources(data, question):
        counts = data.counts[source]
        sizes = {split: counts.text_bytes.get(split, 0) for split in SPLITS}
        tokens = _tokens_by_split(data, source)
        sources[source] = {
            "documents": {split: counts.documents.get(split, 0) for split in SPLITS},
            "text_bytes": sizes,
            "tokens": tokens,
            "bytes_per_token": {split: _ratio(sizes[split], tokens[split]) for split in SPLITS},
            "lengths": measure_lengths(data, source, question.split),
            "sample": next(_picked(shown, source, short, 1), None),
        }
    return {
        "data_dir": str(data.folder),
        "split": question.split,
        "sources": sources,
        "sources_without_text": sorted(data.existing),
        "notes": list(data.notes),
    }


def _tokens_by_split(data: Data, source: str) -> dict[str, int | None]:
    """Return the tokens of each split; None where there are no token files."""
    if data.tokens is None:
        return dict.fromkeys(SPLITS)
    tokens: dict[str, int | None] = dict.fromkeys(SPLITS, 0)
    for split, counts in data.tokens.get(source, {}).items():
        tokens[split] = counts["tokens"]
    return tokens


def _ratio(size: int, tokens: int | None) -> float | None:
    if size and tokens:
        return size / tokens
    return None


def documents(data: Data, question: Question) -> list[ShownDocument]:
    """Return the documents that are asked for.

    Raises UserError where one does not exist; the message names those that do.
    """
    if question.id is not None:
        return _by_id(data, question)
    sources = _sources(data, question)
    if question.document is None:
        count = question.samples or 1
        return [
            document for source in sources for document in _picked(data, source, question, count)
        ]
    if len(sources) > 1:
        raise UserError(
            f"--document {question.document}: needs a source; add --source with one of "
            f"{', '.join(sources)}."
        )
    return [_by_number(data, sources[0], question.document, question)]


def _sources(data: Data, question: Question) -> list[str]:
    if question.split not in SPLITS:
        raise UserError(f"--split {question.split}: there are {' and '.join(SPLITS)}")
    if question.source is None:
        return list(data.counts)
    if question.source not in data.counts:
        raise UserError(
            f"--source {question.source}: {DataFolder(data.folder).documents} has no such source; "
            f"there are {', '.join(data.counts)}"
        )
    return [question.source]


def _picked(data: Data, source: str, question: Question, count: int) -> Iterator[ShownDocument]:
    """Yield documents of MOST_SHARDS shards, picked at random, in the order of the shards.

    One seed picks the same documents every time.
    """
    paths = spread_evenly(data.shards(source, question.split), MOST_SHARDS)
    total = sum(len(_rows_read(data, path)) for path in paths)
    generator = random.Random(f"{question.seed}/{source}")
    for number in sorted(generator.sample(range(total), min(count, total))):
        place = _locate(data, paths, number)
        assert place is not None, "the numbers are below the sum of the rows"
        yield _document(data, place[0], question.split, place[1], question.characters)


def _locate(data: Data, paths: Sequence[Path], number: int) -> tuple[Path, int] | None:
    """Return the shard and the row of document `number`, counted from 0 through all shards.

    Documents that are removed do not count. None where there are fewer documents.
    """
    for path in paths:
        rows = _rows_read(data, path)
        if number < len(rows):
            return path, int(rows[number])
        number -= len(rows)
    return None


def _rows_read(data: Data, path: Path) -> np.ndarray:
    """Return the rows of a shard that are read, `(documents,)`."""
    if path.suffix == ".idx":
        return np.arange(_rows(path))
    return data.documents.kept_rows(path)


def _rows(path: Path) -> int:
    """Return the documents in a shard, removed ones too."""
    if path.suffix == ".idx":
        return len(indexed_dataset.read(path.with_suffix("")).documents) - 1
    return shard_footer(path).num_rows


def _by_number(data: Data, source: str, number: int, question: Question) -> ShownDocument:
    place = None
    if number >= 0:
        place = _locate(data, data.shards(source, question.split), number)
    if place is None:
        counts = data.counts[source].documents
        existing = "none"
        if counts[question.split]:
            existing = f"0 to {counts[question.split] - 1:,}"
        other = next(split for split in SPLITS if split != question.split)
        raise UserError(
            f"--document {number}: source {source} has no such document in {question.split} "
            f"(--split); document numbers there: {existing}; in {other}: {counts[other]:,} documents"
        )
    return _document(data, place[0], question.split, place[1], question.characters)


def _by_id(data: Data, question: Question) -> list[ShownDocument]:
    """Find the document `source/shard/row`, or all documents with this original id or url."""
    key = str(question.id)
    with_text = [name for name in data.counts if name not in data.existing]
    ids = find_documents(DataFolder(data.folder).documents, key, with_text)
    if len(ids) > MOST_FOUND:
        note(
            f"{len(ids):,} documents have the original id or url {key}; these are the first "
            f"{MOST_FOUND}"
        )
    shown = ids[:MOST_FOUND] or [key]
    return [_by_own_id(data, own_id, question.characters) for own_id in shown]


def _by_own_id(data: Data, identity: str, characters: int) -> ShownDocument:
    source, stem, row = [*identity.split("/"), "", "", ""][:3]
    if source not in data.counts or identity.count("/") != 2:
        raise UserError(
            f"--id {identity}: an id is source/shard/row; sources are {', '.join(data.counts)}, "
            f"for example {_example(data)}. Nor is it the original id or url of a document: in no "
            "meta is it `id`, `url` or `*_id`."
        )
    paths = {path.stem: (path, split) for split in SPLITS for path in data.shards(source, split)}
    if stem not in paths:
        names = list(paths)
        first_to_last = names[0]
        if len(names) > 1:
            first_to_last = f"{names[0]} to {names[-1]}"
        raise UserError(
            f"--id {identity}: source {source} has no shard {stem}; it has {len(names)}, "
            f"{first_to_last}"
        )
    path, split = paths[stem]
    rows = _rows(path)
    if not (row.isascii() and row.isdigit() and int(row) < rows):
        raise UserError(f"--id {identity}: {source}/{stem} has the rows 0 to {rows - 1:,}")
    return _document(data, path, split, int(row), characters)


def _example(data: Data) -> str:
    """Return the id of a document that exists, for a message."""
    for source in data.counts:
        for split in SPLITS:
            paths = data.shards(source, split)
            if paths:
                return f"{source}/{paths[0].stem}/0"
    return "none, there are no documents"


def _document(data: Data, path: Path, split: str, row: int, characters: int) -> ShownDocument:
    """Read one row of a shard, with its tokens."""
    record = _record(data, path, row)
    text = record["text"]
    shown = text[:characters]
    reasons: list[str] = []
    if path.suffix != ".idx":
        reasons = data.documents.reasons(path, row)
    document: ShownDocument = {
        "id": record["id"],
        "meta": record["meta"],
        "origin_file": record["origin_file"],
        "origin_row": record["origin_row"],
        "source": source_of(data.name(path)),
        "split": split,
        "text_bytes": len(text.encode()),
        "characters": len(text),
        "characters_shown": len(shown),
        "text": shown,
        "tokens": None,
    }
    if reasons:
        document["removed"] = reasons
    else:
        document["tokens"] = _tokens(data, path, row, text, characters)
    return document


def _record(data: Data, path: Path, row: int) -> DocumentRow:
    """Return a row of a documents shard; of an `.idx` file, its decoded ids with empty meta."""
    if path.suffix != ".idx":
        return data.documents.read(path, [row])[0]
    pieces = data.pieces
    assert pieces is not None, "tokens have been made, so there is a tokenizer"
    ids = indexed_dataset.read(path.with_suffix("")).document(row)
    # An id that the tokenizer lacks is left out here; `_tokens` refuses it.
    parts = [
        pieces.of_id[i] for i in map(int, ids) if i < len(pieces.of_id) and i not in pieces.special
    ]
    return {
        "id": f"{logical_name(data.name(path))}/{row}",
        "text": b"".join(parts).decode("utf-8", "replace"),
        "meta": "",
        "origin_file": str(path.resolve()),
        "origin_row": row,
    }


def _tokens(data: Data, path: Path, row: int, text: str, characters: int) -> ShownTokens | None:
    """Return the tokens of a document's first `characters`; None where there is no tokenizer yet.

    Raises DataError where the token files lack the document or have ids that the tokenizer lacks.
    """
    # Take the ids from the token files where they exist, else encode the text.
    if data.pieces is None:
        return None
    if data.tokens is not None:
        shard = indexed_dataset.read(data.token_prefix(path))
        number = row
        if path.suffix != ".idx":
            number = _number_of_row(shard, row)
        ids = shard.document(number)
        origin = "data_dir/tokens"
    else:
        ids = _encode(data.folder, text[:MOST_ENCODED_CHARACTERS])
        origin = "encoded now"
        if len(text) > MOST_ENCODED_CHARACTERS:
            origin += f", its first {MOST_ENCODED_CHARACTERS:,} characters"

    # Translate the ids; one that the tokenizer lacks means a damaged token file.
    try:
        shown = _first_tokens(data.pieces, ids, characters)
    except IndexError:
        wrong = indexed_dataset.with_suffix(data.token_prefix(path), ".bin")
        raise DataError(
            f"{wrong}: holds the id {ids.max()}, the tokenizer ends at "
            f"{len(data.pieces.of_id) - 1}. {indexed_dataset.made_again(wrong)}"
        ) from None
    return {"count": len(ids), "from": origin, "shown": shown}


def _number_of_row(shard: indexed_dataset.Shard, row: int) -> int:
    """Return which document of the token files comes from a row of the Parquet shard."""
    numbers = np.flatnonzero(shard.rows() == row)
    if not len(numbers):
        file = indexed_dataset.with_suffix(shard.prefix, ".doc")
        raise DataError(f"{file}: does not list row {row}. {indexed_dataset.made_again(file)}")
    return int(numbers[0])


def _first_tokens(pieces: Pieces, ids: np.ndarray, characters: int) -> list[ShownToken]:
    """Return the tokens of the first `characters`, with the special tokens that follow them.

    Raises IndexError for an id that the tokenizer lacks.
    """
    shown: list[ShownToken] = []
    length = 0
    for number in map(int, ids):
        piece = pieces.of_id[number]
        is_special = number in pieces.special
        if length >= characters and not is_special:
            break
        text = as_text(piece)
        token: ShownToken = {"id": number, "text": text, "bytes": None, "special": is_special}
        if text.encode() != piece:
            token["bytes"] = piece.hex()
        shown.append(token)
        # In UTF-8, each byte but 0b10xxxxxx begins a character.
        length += sum(byte & 0xC0 != 0x80 for byte in piece)
    return shown


def _encode(folder: Path, text: str) -> np.ndarray:
    """Return the ids of a text as the tokenizer of data_dir gives them, `(tokens,) int64`."""
    from tokenizers import Tokenizer

    encoder = Tokenizer.from_file(str(DataFolder(folder).tokenizer / TOKENIZER_JSON))
    encoder.encode_special_tokens = True
    return np.array(encoder.encode(text, add_special_tokens=False).ids, np.int64)
