"""Encode text at speed, with gigatoken where it gives exactly the ids of the reference.

The reference is the `tokenizers` backend of the exported fast tokenizer; it encodes wherever
gigatoken would give other ids. A special token that is written in a document is encoded as text,
unless the settings ask for the token. One end-of-document id follows each document.

gigatoken gets a batch as one text, its documents joined by a separator that is registered as an
added token. So the ids come as one array, without an object per document, and end-of-document ids
only have to replace those of the separator. Added tokens cut the text before anything else sees it,
so documents do not touch each other; the comparison (`count_differences`) encodes in the same way.
Reads data_dir/tokenizer.
"""

import importlib.metadata
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import orjson
import psutil
import xxhash
from tokenizers import Tokenizer

from pipeline.errors import DataError
from pipeline.store.counts import GigatokenProof, TokenizerCounts
from pipeline.store.files import read_json
from pipeline.store.layout import manifest_path, tokenizer_report_path
from pipeline.store.pretrained_folders import TOKENIZER_JSON
from pipeline.tokens.tokenizer_json import (
    TokenizerDescription,
    ids_of_model,
    read_description,
    special_token,
)

if TYPE_CHECKING:
    import gigatoken

EncodedDocuments = tuple[np.ndarray, np.ndarray]
"""Ids of documents one after another, an end-of-document id after each, `(tokens,) uint32`; and the
lengths of the documents in tokens, that id included, `(documents,) int64`."""

EncoderKind = Literal["auto", "reference"]
"""`auto` means gigatoken where it was proven to give the ids of the reference."""
Documents = Sequence[bytes | memoryview]
"""Texts in UTF-8."""

SEPARATOR = "\U0010fffe\U0010ffff\U0010ffff\U0010ffff"
"""Noncharacters of the last plane: no text should hold them, and one that does goes to the
reference. No suffix of the separator is also a prefix, so text beside it cannot shift its place."""
REFERENCE_BATCH_BYTES = 1 << 20
"""Bytes of text that the reference encodes at once; it needs a hundred bytes of memory for each."""
CUT_CONTEXT_BYTES = 2000
"""Bytes on either side of a cut that are encoded to see whether the cut changes any id."""
MOST_RESIDENT_BYTES = 700_000_000
"""Memory of this process above which gigatoken is loaded anew: it remembers every word that it has
seen (version 0.10.0 has no bound)."""
FORGET_EVERY_BYTES = 1 << 26
"""Bytes that gigatoken encodes at least before it is loaded anew: loading takes a tenth of a
second, and it may be something else that takes the memory."""
MOST_CUTS_TRIED = 10
"""Maximum number of places of each kind (line, space) that are tried to cut a long text."""


@dataclass
class _Fast:
    """A gigatoken tokenizer, used by one thread at a time: threads that shared it would wait."""

    tokenizer: "gigatoken.Tokenizer"
    encoded_bytes: int = 0


class Encoder:
    """An exported tokenizer, loaded for encoding. Several threads may call its methods."""

    def __init__(self, folder: Path, kind: EncoderKind, parse_special_tokens: bool) -> None:
        """Load data_dir/tokenizer. Raises DataError where it has no end-of-document token."""
        self._folder = folder
        self._parse_special_tokens = parse_special_tokens
        description = read_description(folder / TOKENIZER_JSON)
        vocabulary = _vocabulary(description)
        self.end_of_document = _end_of_document(folder, vocabulary)
        self.vocab_size = max(vocabulary.values()) + 1
        self._for_gigatoken = _with_separator(description, self.vocab_size, parse_special_tokens)
        self._idle: list[_Fast] = []
        if kind == "auto":
            first = self._load_gigatoken()
            if first is not None:
                self._idle.append(first)
        self.has_fast = len(self._idle) > 0
        """Whether gigatoken can encode for this kind of tokenizer."""

    @cached_property
    def reference(self) -> Tokenizer:
        """The tokenizer in `tokenizers`.

        Loaded only when it is first needed: loading holds Python's lock, and another thread may
        encode by then.
        """
        return load_reference(self._folder, self._parse_special_tokens)

    def encode_reference(self, documents: Documents) -> EncodedDocuments:
        """Encode texts in UTF-8 with `tokenizers`."""
        ids = [np.zeros(0, np.uint32)]
        lengths = []
        end = np.array([self.end_of_document], np.uint32)
        for batch in _bounded(documents):
            # A long document is a batch of its own, and is encoded in pieces.
            if len(batch) == 1:
                parts = [self._encode([piece])[0] for piece in self._pieces(batch[0])]
                ids += [*parts, end]
                lengths.append(sum(map(len, parts)) + 1)
                continue
            for encoded in self._encode([str(document, "utf-8") for document in batch]):
                ids += [encoded, end]
                lengths.append(len(encoded) + 1)
        return np.concatenate(ids), np.array(lengths, np.int64)

    def _encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        encodings = self.reference.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, np.uint32) for encoding in encodings]

    def _pieces(self, document: bytes | memoryview) -> Iterator[str]:
        """Yield a text in pieces that bound the memory, cut where that changes no id.

        Where no such place is found, the rest comes as one piece.
        """
        start = 0
        while len(document) - start > REFERENCE_BATCH_BYTES:
            block = bytes(document[start : start + REFERENCE_BATCH_BYTES])
            free = (cut for cut in _likely_cuts(block) if self._is_free_cut(block, cut))
            cut = next(free, None)
            if cut is None:
                break
            yield block[:cut].decode()
            start += cut
        yield str(document[start:], "utf-8")

    def _is_free_cut(self, block: bytes, cut: int) -> bool:
        """Tell whether the text around a cut has the same ids as its two sides apart."""
        left = block[cut - CUT_CONTEXT_BYTES : cut]
        right = block[cut : cut + CUT_CONTEXT_BYTES]
        texts = [side.decode(errors="ignore") for side in (left + right, left, right)]
        whole, before, after = self._encode(texts)
        return np.array_equal(whole, np.concatenate([before, after]))

    def encode_fast(self, documents: Documents) -> EncodedDocuments:
        """Encode texts in UTF-8 with gigatoken, which `has_fast` says there is.

        If one of the texts holds the separator, the reference encodes them all.
        """
        import gigatoken

        # One text, so that the ids come as one array.
        joined = SEPARATOR.encode().join([*documents, b""])
        fast = self._take_fast()
        matrix, _ = fast.tokenizer.encode_batch_padded(
            gigatoken.BytesSource([joined]), 0, parallel=False
        )
        fast.encoded_bytes += len(joined)
        self._keep_fast(fast)
        del joined
        ids = np.zeros(0, np.uint32)
        if len(matrix):
            ids = matrix[0]

        # The separator's id is the first one behind the vocabulary.
        ends = np.flatnonzero(ids == self.vocab_size)
        if len(ends) != len(documents):
            return self.encode_reference(documents)
        ids[ends] = self.end_of_document
        return ids, np.diff(ends, prepend=-1)

    def count_differences(self, texts: Sequence[str]) -> int:
        """Return the number of texts for which gigatoken gives different ids from the reference.

        Only where `has_fast`.
        """
        documents = [text.encode() for text in texts]
        try:
            fast = _split(*self.encode_fast(documents))
        except Exception:  # whatever it cannot encode, the reference encodes
            return len(texts)
        reference = _split(*self.encode_reference(documents))
        pairs = zip(fast, reference, strict=True)
        return sum(not np.array_equal(ids, expected) for ids, expected in pairs)

    def _take_fast(self) -> _Fast:
        try:
            return self._idle.pop()
        except IndexError:
            fast = self._load_gigatoken()
            assert fast is not None, "encode_fast without has_fast"
            return fast

    def _keep_fast(self, fast: _Fast) -> None:
        """Keep a tokenizer for the next texts, unless remembered words fill too much memory."""
        may_be_large = fast.encoded_bytes > FORGET_EVERY_BYTES
        if may_be_large and psutil.Process().memory_info().rss > MOST_RESIDENT_BYTES:
            return
        self._idle.append(fast)

    def _load_gigatoken(self) -> _Fast | None:
        import gigatoken

        try:
            return _Fast(gigatoken.Tokenizer.from_json(self._for_gigatoken))
        except Exception:  # gigatoken does not know this kind: the reference encodes
            return None


_lock = threading.Lock()
_loaded: dict[str, Encoder] = {}


def load_encoder(folder: Path, kind: EncoderKind, parse_special_tokens: bool = False) -> Encoder:
    """Return the encoder of data_dir/tokenizer; a process keeps the last one that it has loaded."""
    content = xxhash.xxh3_128_hexdigest((folder / TOKENIZER_JSON).read_bytes())
    key = f"{content} {kind} {parse_special_tokens}"
    with _lock:
        if key not in _loaded:
            _loaded.clear()
            _loaded[key] = Encoder(folder, kind, parse_special_tokens)
        return _loaded[key]


def load_reference(folder: Path, parse_special_tokens: bool = False) -> Tokenizer:
    """Load the exported fast tokenizer as the reference for ids, without padding or truncation."""
    reference = Tokenizer.from_file(str(folder / TOKENIZER_JSON))
    reference.encode_special_tokens = not parse_special_tokens
    reference.no_padding()
    reference.no_truncation()
    return reference


def id_count(tokenizer: Tokenizer) -> int:
    """Return one more than the largest id, the length of an array that ids index.

    Some vocabularies have gaps: the 100,261 ids of cl100k_base go up to 100,276.
    """
    return max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1


def prove_fast_encoder(folder: Path, texts: Sequence[str]) -> GigatokenProof:
    """Count the texts for which gigatoken gives different ids from the reference (tokenizers).

    `folder`: folder of the tokenizer.json that both load. The caller writes the counts to
    report.json, where `why_reference` reads them.
    """
    proof: GigatokenProof = {
        "version": importlib.metadata.version("gigatoken"),
        "strings_compared": len(texts),
    }
    for parse_special_tokens in (False, True):
        encoder = load_encoder(folder, "auto", parse_special_tokens)
        proof["knows_it"] = encoder.has_fast
        if not encoder.has_fast:
            continue
        differing = encoder.count_differences(texts)
        if parse_special_tokens:
            proof["strings_that_differ_with_special_tokens_parsed"] = differing
        else:
            proof["strings_that_differ"] = differing
    return proof


def why_reference(folder: Path, parse_special_tokens: bool) -> str | None:
    """Return why gigatoken may not encode for this tokenizer; None where it gave the same ids."""
    # Only the installed version counts.
    report: TokenizerCounts | None = read_json(tokenizer_report_path(folder))
    proof = None
    if report is not None:
        proof = report.get("gigatoken")
    installed = importlib.metadata.version("gigatoken")
    remedy = f"make the tokenizer anew (delete {manifest_path(folder)})"
    if proof is None:
        return f"gigatoken {installed} was not compared with it: {remedy}"
    if proof["version"] != installed:
        return f"gigatoken {installed} was compared in version {proof['version']} with it: {remedy}"

    # What the comparison gave, with these settings.
    if not proof.get("knows_it"):
        return f"gigatoken {installed} does not support this kind of tokenizer"
    if parse_special_tokens:
        differing = proof.get("strings_that_differ_with_special_tokens_parsed")
    else:
        differing = proof.get("strings_that_differ")
    if differing:
        compared = proof["strings_compared"]
        return f"gigatoken {installed} gave other ids for {differing} of {compared} strings"
    return None


def _with_separator(
    description: TokenizerDescription, separator_id: int, parse_special_tokens: bool
) -> bytes:
    """Return tokenizer.json for gigatoken: with the separator, without what stays text."""
    kept = [
        token
        for token in description["added_tokens"]
        if parse_special_tokens or not token["special"]
    ]
    separator = {
        "id": separator_id,
        "content": SEPARATOR,
        "special": True,
        "normalized": False,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
    }
    return orjson.dumps({**description, "added_tokens": [*kept, separator]})


def _vocabulary(description: TokenizerDescription) -> dict[str, int]:
    """Return the id of every token of a tokenizer.json."""
    added = {token["content"]: token["id"] for token in description["added_tokens"]}
    return ids_of_model(description["model"]) | added


def _end_of_document(folder: Path, vocabulary: Mapping[str, int]) -> int:
    token = special_token(folder, "eos_token")
    if not token or token not in vocabulary:
        raise DataError(
            f"{folder}: the tokenizer has no end-of-text token (eos_token in tokenizer_config.json)"
        )
    return vocabulary[token]


def _bounded(documents: Documents) -> Iterator[list[bytes | memoryview]]:
    """Yield batches of at most REFERENCE_BATCH_BYTES; a longer document is a batch alone."""
    batch: list[bytes | memoryview] = []
    size = 0
    for document in documents:
        if batch and size + len(document) > REFERENCE_BATCH_BYTES:
            yield batch
            batch = []
            size = 0
        batch.append(document)
        size += len(document)
    if batch:
        yield batch


def _likely_cuts(block: bytes) -> Iterator[int]:
    """Yield places before a word that begins a line, then before a space between words.

    Each kind from the block's end back, MOST_CUTS_TRIED places at most.
    """
    for gap, offset in ((b"\n", 1), (b" ", 0)):
        yielded = 0
        at = block.rfind(gap, CUT_CONTEXT_BYTES, len(block) - CUT_CONTEXT_BYTES)
        while yielded < MOST_CUTS_TRIED and at > 0:
            is_before_word = block[at + 1 : at + 2].isalnum()
            if is_before_word and (gap == b"\n" or block[at - 1 : at].isalnum()):
                yielded += 1
                yield at + offset
            at = block.rfind(gap, CUT_CONTEXT_BYTES, at)


def _split(ids: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """Return the ids of each document."""
    if len(lengths):
        return np.split(ids, np.cumsum(lengths)[:-1])
    return []
