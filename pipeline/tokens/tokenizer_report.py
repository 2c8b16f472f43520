"""Measure a tokenizer on the corpus: its rates per source, its vocabulary, and other tokenizers.

Reads data_dir/documents and data_dir/tokenizer, and the tokenizers named in `tokenizer.compare`.
Keeps the measurements in data_dir/tokenizer/statistics.json where that can be written. The stage
`tokenize` measures, since it runs again whenever documents or tokenizer change; `report` and
`inspect` show what is kept. They measure only where what is kept does not fit: other tokenizers are
to be compared, data_dir was made before `tokenize` measured, or it could not be written. Texts are
encoded with `tokenizers`, the reference; or with gigatoken where it was proven to give the same ids,
as `tokenize` does.

Measured on the same text, for every source and for all together:

- bytes and characters per token; tokens per word, where a word is a maximal run of characters that
  are not white space;
- the share of byte-fallback tokens. SentencePiece: pieces `<0xNN>`. Byte-level: tokens of a single
  byte that is part of a character of several bytes (a larger piece that ends within a character is
  not counted);
- the share of tokens that are a single byte, letters and digits included.

End-of-document tokens are not counted.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TypedDict

import numpy as np
from tokenizers import Tokenizer

from pipeline.config.run_config import RunConfig
from pipeline.corpus.documents import shard_footer
from pipeline.corpus.selecting.kept_documents import KeptDocuments, kept_documents
from pipeline.errors import DataError, one_line
from pipeline.logs import progress
from pipeline.store import versions
from pipeline.store.artifacts import read_manifest
from pipeline.store.curation.selection_folder import selection_folder
from pipeline.store.files import file_record, fingerprint, read_json, write_json
from pipeline.store.layout import data_folder, manifest_path
from pipeline.store.pretrained_folders import TOKENIZER_JSON
from pipeline.tokens.encode import id_count, load_encoder, why_reference
from pipeline.tokens.pieces import Pieces, as_text, load_pieces
from pipeline.tokens.text_size import byte_count, sizes_together, text_size
from pipeline.tokens.tokenizer_figures import (
    Measured,
    NamedFigures,
    PieceEntry,
    Sampled,
    TextSize,
    TokenizerFigures,
    TokenizerReport,
    TokenRates,
)
from pipeline.tokens.vocabulary_effect import vocabulary_effect

SAMPLE_BYTES = 2_000_000
"""Maximum size of the text per source: held-out documents first, then training documents."""
DOCUMENT_CHARACTERS = 100_000
"""Characters of a document that are measured, so that one book is not the whole sample."""
SAMPLE_SHARDS = 8
"""Shards, spread evenly, that a split's share of the sample comes from."""
BATCH_TEXTS = 64
"""Texts encoded at once."""
COMPARED_CHARACTERS = 2000
"""Characters of each source that both encoders encode, where gigatoken encodes."""
LISTED_PIECES = 10
"""Number of longest pieces, and of most frequent pieces, that are listed."""


class KeptMeasurements(TypedDict):
    """Content of statistics.json."""

    key: str
    """Hash of the texts and the tokenizers."""
    measured: Measured


def tokenizer_report(config: RunConfig) -> TokenizerReport:
    """Return the whole report, measured only where nothing that fits is kept.

    Raises DataError where documents or tokenizer are missing, or a tokenizer to compare with cannot
    be read.
    """
    return {**_measured(config), "model": vocabulary_effect(config)}


def keep_measurements(config: RunConfig) -> None:
    """Measure the tokenizer for `report`, unless the measurements are kept already.

    Where that fails, as for a missing tokenizer to compare with, nothing is raised: `report` will.
    """
    with suppress(DataError):
        _measured(config)


def compared_inventory(config: RunConfig) -> dict[str, str]:
    """Return `{"compared tokenizer NAME": checksum}` for the fingerprint of `report`.

    Raises DataError naming every file that is missing.
    """
    files = compared_files(config)
    missing = [str(file) for file in files.values() if not file.is_file()]
    if missing:
        raise DataError(
            f"tokenizer.compare: missing are {', '.join(missing)}. Use folders that hold "
            "tokenizer.json, or such files; or leave them out."
        )
    return {
        f"compared tokenizer {name}": file_record(file)["checksum"] for name, file in files.items()
    }


def check_compared(config: RunConfig) -> None:
    """Raise DataError where a file of `tokenizer.compare` is missing or is not a tokenizer."""
    compared_inventory(config)
    for file in compared_files(config).values():
        try:
            Tokenizer.from_file(str(file))
        except Exception as error:  # `tokenizers` raises bare Exceptions
            raise DataError(
                f"tokenizer.compare: {file} is not a tokenizer of the tokenizers library "
                f"({one_line(error)}). Use another file, or leave it out."
            ) from None


def compared_files(config: RunConfig) -> dict[str, Path]:
    """Return the tokenizers to compare with: name -> tokenizer.json.

    A name is that of the folder, with as many parents as make the names differ.
    """
    # Each file once.
    files: dict[Path, None] = {}
    for path in config.tokenizer.compare:
        if path.suffix != ".json":
            path = path / TOKENIZER_JSON
        files[path] = None

    for depth in range(1, max([len(file.parts) for file in files], default=1)):
        names = ["/".join(file.parent.parts[-depth:]) for file in files]
        if len(set(names)) == len(names):
            return dict(zip(names, files, strict=True))
    return {str(file): file for file in files}


def _measured(config: RunConfig) -> Measured:
    """Return the measurements: those of statistics.json where they fit, else new ones."""
    # The measurements depend on the texts and the tokenizers.
    data = data_folder(config)
    outputs: dict[str, str] = {}
    inputs = [
        ("documents", data.documents, "prepare"),
        ("tokenizer", data.tokenizer, "train-tokenizer"),
    ]
    if config.select is not None:
        inputs.append(("selection", selection_folder(config).path, "select"))
    for name, folder, stage in inputs:
        manifest = read_manifest(manifest_path(folder))
        if manifest is None:
            raise DataError(f"{folder}: is not finished. Run `pipeline {stage}` first.")
        outputs[name] = manifest["output"]
    sources = [(name, source.has_documents) for name, source in config.sources.items()]
    # One more: the measurements have changed once while the page stayed the same.
    version = versions.REPORT + 1
    key = fingerprint([version, outputs, compared_inventory(config), sources])

    # Keep new measurements where data_dir, which is shared, is not read-only.
    path = data.tokenizer_statistics
    kept: KeptMeasurements | None = read_json(path)
    if kept is None or kept["key"] != key:
        kept = {"key": key, "measured": _measure(config)}
        with suppress(OSError):
            write_json(path, kept)
    return kept["measured"]


def _measure(config: RunConfig) -> Measured:
    """Encode the sample of each source with each tokenizer, and describe what comes out."""
    # Read the tokenizers, and the texts to measure them on.
    files = {"": data_folder(config).tokenizer / TOKENIZER_JSON, **compared_files(config)}
    pieces = {name: load_pieces(file) for name, file in files.items()}
    documents = kept_documents(config)
    texts = {name: measured_texts(documents, name) for name in config.sources_with_text}
    all_texts = {name: [*chain.from_iterable(splits.values())] for name, splits in texts.items()}
    sizes = {name: text_size(of_source) for name, of_source in all_texts.items()}

    # Count each tokenizer's ids in each source.
    own_folder = data_folder(config).tokenizer
    is_proven = config.tokens.encoder == "auto" and why_reference(own_folder, False) is None
    work = len(files) * sum(size["bytes"] for size in sizes.values())
    reports: list[NamedFigures] = []
    with progress("tokenizer report", work, "bytes") as update:
        done = 0
        for name, file in files.items():
            counts: dict[str, np.ndarray] = {}
            for source, of_source in all_texts.items():
                # The own tokenizer, which has no name, is the one that gigatoken was proven for.
                counted = count_ids_fast(own_folder, of_source) if is_proven and not name else None
                if counted is None:
                    counted = count_ids(file, of_source)
                counts[source] = counted
                done += sizes[source]["bytes"]
                update(done, source)
            reports.append({"name": name, **_figures(pieces[name], counts, sizes)})

    # Describe the texts.
    own, *others = reports
    sampled: Sampled = {
        "bytes_per_source_at_most": SAMPLE_BYTES,
        "characters_per_document_at_most": DOCUMENT_CHARACTERS,
        "sources": {
            name: {**size, "held_out_bytes": byte_count(texts[name]["validation"])}
            for name, size in sizes.items()
        },
        "sources_without_text": [name for name in config.sources if name not in texts],
    }
    return {"sample": sampled, "tokenizer": own, "compared": others}


def measured_texts(
    documents: KeptDocuments, source: str, most_bytes: int = SAMPLE_BYTES
) -> dict[str, list[str]]:
    """Return split -> texts of a source to measure on, the same ones every time.

    Together they have at most `most_bytes` of UTF-8; held-out documents come first.
    """
    left = most_bytes
    texts: dict[str, list[str]] = {}
    for split in ("validation", "train"):
        texts[split] = []
        paths = documents.shards(source, split)
        count = min(len(paths), SAMPLE_SHARDS)
        for place in range(count):
            share = left // (count - place)
            if share == 0:
                continue
            for part in _beginnings(documents, paths[place * len(paths) // count]):
                encoded = part.encode()
                if len(encoded) > share:
                    # "ignore" drops the first bytes of a character that the cut has divided.
                    encoded = encoded[:share]
                    part = encoded.decode("utf-8", "ignore")
                texts[split].append(part)
                share -= len(encoded)
                left -= len(encoded)
                if share <= 0:
                    break
    return texts


def _beginnings(documents: KeptDocuments, shard: Path) -> Iterator[str]:
    """Yield at most DOCUMENT_CHARACTERS of every document of a shard; the rest is not decoded."""
    for group in range(shard_footer(shard).num_row_groups):
        for text in documents.texts_of_group(shard, group).texts:
            # A character has at most 4 bytes; "ignore" drops the first bytes of one that is cut.
            beginning = str(text[: 4 * DOCUMENT_CHARACTERS], "utf-8", "ignore")
            yield beginning[:DOCUMENT_CHARACTERS]


def count_ids(file: Path, texts: Sequence[str]) -> np.ndarray:
    """Return how often each id occurs in the texts, `(ids,) int64`.

    Encodes with `tokenizers`, as the reference does. Raises DataError where the file is not a
    tokenizer.
    """
    try:
        encoder = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise DataError(f"{file}: is not a fast tokenizer that can be read ({error})") from None
    encoder.encode_special_tokens = True
    encoder.no_padding()
    encoder.no_truncation()
    counts = np.zeros(id_count(encoder), np.int64)
    for start in range(0, len(texts), BATCH_TEXTS):
        batch = list(texts[start : start + BATCH_TEXTS])
        encoded = encoder.encode_batch_fast(batch, add_special_tokens=False)
        ids = np.fromiter((i for encoding in encoded for i in encoding.ids), np.int64)
        in_batch = np.bincount(ids, minlength=len(counts))
        counts = np.pad(counts, (0, len(in_batch) - len(counts))) + in_batch
    return counts


def count_ids_fast(folder: Path, texts: Sequence[str]) -> np.ndarray | None:
    """Return how often each id occurs in the texts, `(ids,) int64`, encoding with gigatoken.

    `folder`: data_dir/tokenizer, for which gigatoken was proven. A piece of one text is compared with
    the reference; returns None where it differs, and where gigatoken cannot encode.
    """
    encoder = load_encoder(folder, "auto")
    piece = "".join(texts[len(texts) // 2 :][:1])[:COMPARED_CHARACTERS]
    if not encoder.has_fast or encoder.count_differences([piece]):
        return None
    try:
        ids, _ = encoder.encode_fast([text.encode() for text in texts])
    except Exception:  # whatever gigatoken cannot encode, the reference encodes
        return None
    counts = np.bincount(ids, minlength=encoder.vocab_size)
    counts[encoder.end_of_document] -= len(texts)
    return counts


def _figures(
    pieces: Pieces, counts: dict[str, np.ndarray], sizes: Mapping[str, TextSize]
) -> TokenizerFigures:
    """Return the rates for each source and for all together, and a description of the vocabulary.

    `counts`: source -> how often each id occurs, `(ids,)`. `sizes`: source -> its text.
    """
    # Counts of one length, without ids that have no piece behind the end of the vocabulary.
    ids = len(pieces.of_id)
    width = max([ids, *(len(count) for count in counts.values())])
    rows = {
        source: np.pad(count, (0, width - len(count)))[:ids] for source, count in counts.items()
    }
    total = sum(rows.values(), np.zeros(ids, np.int64))

    # The longest and the most frequent pieces; special tokens are listed apart.
    plain = [i for i in range(ids) if pieces.of_id[i] and i not in pieces.special]
    unused = [i for i in plain if total[i] == 0]
    length = {i: len(pieces.of_id[i].decode("utf-8", "replace")) for i in plain}
    longest = sorted(plain, key=lambda i: (-length[i], i))[:LISTED_PIECES]
    frequent = [int(i) for i in np.argsort(-total, kind="stable")[:LISTED_PIECES] if total[i]]
    entries: dict[int, PieceEntry] = {
        i: {"id": i, "text": as_text(pieces.of_id[i])} for i in {*longest, *frequent}
    }
    return {
        "kind": pieces.kind,
        "vocab_size": sum(map(bool, pieces.of_id)),
        "special": [{"id": i, "text": pieces.of_id[i].decode()} for i in sorted(pieces.special)],
        "single_byte_pieces": int(pieces.single_byte.sum()),
        "unused_in_sample": len(unused),
        "unused_share": len(unused) / max(len(plain), 1),
        "longest_pieces": [{**entries[i], "characters": length[i]} for i in longest],
        "frequent_pieces": [
            {**entries[i], "share": int(total[i]) / int(total.sum())} for i in frequent
        ],
        "sources": {source: _rates(row, sizes[source], pieces) for source, row in rows.items()},
        "all": _rates(total, sizes_together(sizes.values()), pieces),
    }


def _rates(counts: np.ndarray, size: TextSize, pieces: Pieces) -> TokenRates:
    """Return the rates on one text. `counts`: how often each id occurs in it, `(ids,)`."""
    tokens = int(counts.sum())
    fallback = int(counts[sorted(pieces.fallback)].sum())
    single_bytes = int(counts[pieces.single_byte].sum())
    return {
        "tokens": tokens,
        "bytes_per_token": _ratio(size["bytes"], tokens),
        "characters_per_token": _ratio(size["characters"], tokens),
        "tokens_per_word": _ratio(tokens, size["words"]),
        "byte_fallback_share": _ratio(fallback, tokens),
        "single_byte_share": _ratio(single_bytes, tokens),
    }


def _ratio(amount: float, whole: float) -> float | None:
    if whole:
        return amount / whole
    return None
