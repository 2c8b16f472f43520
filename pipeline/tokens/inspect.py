"""`pipeline inspect`: what the data looks like, before and after tokenization.

Reads data_dir/documents, and of data_dir/tokenizer and data_dir/tokens what is there and was made
from these documents. A source whose ids existed already has no documents there: its shards are the
`.idx` files, its texts decoded ids. Returns JSON values; `inspect_view` prints them. Imports
nothing that takes a second to import.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.corpus.documents import (
    SPLITS,
    DocumentRow,
    read_documents,
    shard_footer,
)
from pipeline.corpus.keys import find_documents
from pipeline.errors import DataError, UserError
from pipeline.logs import note
from pipeline.store.layout import DataFolder
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
    lengths,
    spread,
)
from pipeline.tokens.pieces import Pieces, as_text

MOST_ENCODED_CHARACTERS = 1_000_000
"""Longest part of a document without tokens on disk that is encoded to look at it."""

MOST_FOUND = 20
"""Documents shown of those that share an original id or url."""
SAMPLE_CHARACTERS = 240
"""Length of the sample that the overview shows for each source."""


def overview(data: Data, question: Question) -> Overview:
    """Return per source its counts by split, and of the split that is asked for the lengths and one
    document's beginning."""
    sources: dict[str, SourceOverview] = {}
    for source in _sources(data, question):
        # Sizes before and after tokenization.
        counts = data.counts[source]
        sizes = {split: counts["text_bytes"].get(split, 0) for split in SPLITS}
        tokens: dict[str, int | None] = dict.fromkeys(SPLITS)
        if data.tokens is not None:
            in_splits = data.tokens.get(source, {})
            for split in SPLITS:
                tokens[split] = in_splits[split]["tokens"] if split in in_splits else 0

        # The beginning of one document, without its tokens where they are not on disk.
        short = replace(question, characters=SAMPLE_CHARACTERS)
        picked = list(
            _picked(data if data.tokens else replace(data, pieces=None), source, short, 1)
        )
        sources[source] = {
            "documents": counts["documents"],
            "text_bytes": sizes,
            "tokens": tokens,
            "bytes_per_token": {split: _ratio(sizes[split], tokens[split]) for split in SPLITS},
            "lengths": lengths(data, source, question.split),
            "sample": picked[0] if picked else None,
        }
    return {
        "data_dir": str(data.folder),
        "split": question.split,
        "sources": sources,
        "sources_without_text": sorted(data.existing),
        "notes": list(data.notes),
    }


def _ratio(size: int, tokens: int | None) -> float | None:
    if size and tokens:
        return size / tokens
    return None


def documents(data: Data, question: Question) -> list[ShownDocument]:
    """Return the documents that are asked for. Raises UserError, saying what there is, where one
    does not exist."""
    if question.id is not None:
        return _by_id(data, question)
    sources = _sources(data, question)
    if question.document is None:
        return [
            found
            for source in sources
            for found in _picked(data, source, question, question.samples or 1)
        ]
    if len(sources) > 1:
        raise UserError(
            f"--document {question.document}: of which source? Add --source, one of "
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
            f"--source {question.source}: {DataFolder(data.folder).documents} has no such source; there "
            "are "
            f"{', '.join(data.counts)}"
        )
    return [question.source]


def _picked(data: Data, source: str, question: Question, count: int) -> Iterator[ShownDocument]:
    """Yield documents picked at random from MOST_SHARDS shards of the split, the same ones for a
    seed, in their order."""
    paths = spread(data.shards(source, question.split), MOST_SHARDS)
    total = sum(map(_rows, paths))
    for number in sorted(
        random.Random(f"{question.seed}/{source}").sample(range(total), min(count, total))
    ):
        found = _locate(paths, number)
        assert found is not None
        yield _document(data, found[0], question.split, found[1], question.characters)


def _locate(paths: Sequence[Path], number: int) -> tuple[Path, int] | None:
    """Return the shard and the row of the document at a place, from 0, in shards one after another;
    None: beyond them."""
    for path in paths:
        rows = _rows(path)
        if number < rows:
            return path, number
        number -= rows
    return None


def _rows(path: Path) -> int:
    """Return the documents in a shard."""
    if path.suffix == ".idx":
        return len(indexed_dataset.read(path.with_suffix("")).documents) - 1
    return shard_footer(path).num_rows


def _by_number(data: Data, source: str, number: int, question: Question) -> ShownDocument:
    found = _locate(data.shards(source, question.split), number) if number >= 0 else None
    if found is None:
        counts = data.counts[source]["documents"]
        here = f"0 to {counts[question.split] - 1:,}" if counts[question.split] else "none"
        other = next(split for split in SPLITS if split != question.split)
        raise UserError(
            f"--document {number}: source {source} has no such document in {question.split} "
            f"(--split); there: {here}; "
            f"in {other}: {counts[other]:,} documents"
        )
    return _document(data, found[0], question.split, found[1], question.characters)


def _by_id(data: Data, question: Question) -> list[ShownDocument]:
    """Find `source/shard/row`, or all documents with this original id or url."""
    key = str(question.id)
    found = find_documents(
        DataFolder(data.folder).documents,
        key,
        [name for name in data.counts if name not in data.existing],
    )
    if len(found) > MOST_FOUND:
        note(
            f"{len(found):,} documents have the original id or url {key}; these are the first "
            f"{MOST_FOUND}"
        )
    return [_by_own_id(data, own, question.characters) for own in found[:MOST_FOUND] or [key]]


def _by_own_id(data: Data, identity: str, characters: int) -> ShownDocument:
    source, stem, row = [*identity.split("/"), "", "", ""][:3]
    if source not in data.counts or identity.count("/") != 2:
        raise UserError(
            f"--id {identity}: an id is source/shard/row; sources are {', '.join(data.counts)}, "
            "for example "
            f"{_example(data)}. Nor is it the original id or url of a document: in no meta is it "
            "`id`, `url` or `*_id`."
        )
    paths = {path.stem: (path, split) for split in SPLITS for path in data.shards(source, split)}
    if stem not in paths:
        names = list(paths)
        range_of = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
        raise UserError(
            f"--id {identity}: source {source} has no shard {stem}; it has {len(names)}, {range_of}"
        )
    path, split = paths[stem]
    rows = _rows(path)
    if not (row.isascii() and row.isdigit() and int(row) < rows):
        raise UserError(f"--id {identity}: {source}/{stem} has the rows 0 to {rows - 1:,}")
    return _document(data, path, split, int(row), characters)


def _example(data: Data) -> str:
    for source in data.counts:
        for split in SPLITS:
            paths = data.shards(source, split)
            if paths:
                return f"{source}/{paths[0].stem}/0"
    return "none, there are no documents"


def _document(data: Data, path: Path, split: str, row: int, characters: int) -> ShownDocument:
    """Read one row of a shard, with its tokens."""
    record = _decoded(data, path, row) if path.suffix == ".idx" else read_documents(path, [row])[0]
    text = record["text"]
    shown = text[:characters]
    return {
        "id": record["id"],
        "meta": record["meta"],
        "origin_file": record["origin_file"],
        "origin_row": record["origin_row"],
        "source": path.parent.name,
        "split": split,
        "text_bytes": len(text.encode()),
        "characters": len(text),
        "characters_shown": len(shown),
        "text": shown,
        "tokens": _tokens(data, path, row, text, characters),
    }


def _decoded(data: Data, path: Path, row: int) -> DocumentRow:
    """Return a document of which there are only ids, as a row of a documents shard would be; it has
    no meta."""
    pieces = data.pieces
    assert pieces is not None, "tokens have been made, so there is a tokenizer"
    ids = indexed_dataset.read(path.with_suffix("")).document(row)
    known = [
        pieces.of_id[i] for i in map(int, ids) if i < len(pieces.of_id) and i not in pieces.special
    ]
    return {
        "id": f"{path.parent.name}/{path.stem}/{row}",
        "text": b"".join(known).decode("utf-8", "replace"),
        "meta": "",
        "origin_file": str(path.resolve()),
        "origin_row": row,
    }


def _tokens(data: Data, path: Path, row: int, text: str, characters: int) -> ShownTokens | None:
    """Return the document's tokens up to `characters`, as training reads them or encoded now; None:
    no tokenizer yet."""
    # Take the ids from the token files where they exist, else encode the text.
    if data.pieces is None:
        return None
    if data.tokens is not None:
        shard = indexed_dataset.read(data.token_prefix(path))
        places = [row] if path.suffix == ".idx" else np.flatnonzero(shard.rows() == row)
        if not len(places):
            lacking = indexed_dataset.with_suffix(data.token_prefix(path), ".doc")
            raise DataError(
                f"{lacking}: says nothing of row {row}. {indexed_dataset.made_again(lacking)}"
            )
        ids = shard.document(int(places[0]))
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
            f"{len(data.pieces.of_id) - 1}. "
            f"{indexed_dataset.made_again(wrong)}"
        ) from None
    return {"count": len(ids), "from": origin, "shown": shown}


def _first_tokens(pieces: Pieces, ids: np.ndarray, characters: int) -> list[ShownToken]:
    """Return the tokens of the first `characters`, and the end-of-document token where the text
    ends there."""
    shown: list[ShownToken] = []
    length = 0
    for number in map(int, ids):
        piece = pieces.of_id[number]
        is_special = number in pieces.special
        if length >= characters and not is_special:
            break
        text = as_text(piece)
        is_text = text.encode() == piece
        shown.append(
            {
                "id": number,
                "text": text,
                "bytes": None if is_text else piece.hex(),
                "special": is_special,
            }
        )
        length += sum(
            byte & 0xC0 != 0x80 for byte in piece
        )  # every byte of UTF-8 but these begins a character
    return shown


def _encode(folder: Path, text: str) -> np.ndarray:
    from tokenizers import Tokenizer

    encoder = Tokenizer.from_file(str(DataFolder(folder).tokenizer / TOKENIZER_JSON))
    encoder.encode_special_tokens = True
    return np.array(encoder.encode(text, add_special_tokens=False).ids, np.int64)
