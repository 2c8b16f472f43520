"""Text to ids at speed: gigatoken where it gives exactly the reference's ids, else the reference
itself.

The reference is the `tokenizers` backend of the exported fast tokenizer. Special-token text inside
a document is encoded as text unless asked for; one end-of-document id follows each document.

gigatoken gets a batch as one text, its documents joined by a separator that is registered as an
added token: the ids then come as one array, without an object per document, and end-of-document ids
only have to take the separator's places. Added tokens cut the text before anything else looks at
it, so documents do not touch each other; the proofs (`count_differences`) encode in just this way.
"""

import importlib.metadata
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson
import psutil
import xxhash
from tokenizers import Tokenizer

from pipeline.errors import DataError
from pipeline.store.counts import GigatokenProof, TokenizerCounts
from pipeline.store.files import read_json
from pipeline.store.layout import manifest_path, tokenizer_report_path
from pipeline.store.pretrained_folders import TOKENIZER_CONFIG, TOKENIZER_JSON

Ids = tuple[np.ndarray, np.ndarray]
"""Concatenated ids `(tokens,) uint32`, an end-of-document id after each document, and documents'
lengths in tokens, that id included, `(documents,) int64`."""

EncoderKind = Literal["auto", "reference"]
"""`auto` is gigatoken where it was proven to give the reference's ids."""
Documents = Sequence[bytes | memoryview]
"""Texts in UTF-8."""

SEPARATOR = "\U0010fffe\U0010ffff\U0010ffff\U0010ffff"
"""Noncharacters of the last plane: no text should hold them, and one that does goes to the
reference. No end of it is also a beginning, so that a text beside it cannot shift where it is
found."""
REFERENCE_BATCH_BYTES = 1 << 20
"""Text that the reference encodes at once: it needs a hundred bytes of memory for each of them."""
CUT_CONTEXT_BYTES = 2000
"""On either side of a place where a longer text may be cut for the reference."""
MOST_RESIDENT_BYTES = 700_000_000
"""gigatoken remembers every word it has seen (0.10.0 has no bound); a process larger than this
starts it afresh,"""
FORGET_EVERY_BYTES = 1 << 26
"""but not before it has encoded this much: loading takes a tenth of a second, and something else
may be large."""


@dataclass
class _Fast:
    """A gigatoken tokenizer, for one thread at a time: threads that share one wait for each
    other."""

    tokenizer: Any
    encoded_bytes: int = 0


class Encoder:
    """An exported tokenizer, loaded for encoding; its methods may be called from several
    threads."""

    def __init__(self, folder: Path, kind: EncoderKind, parse_special_tokens: bool) -> None:
        """Load data_dir/tokenizer. Raises DataError where it has no end-of-document token."""
        self._folder = folder
        self._parse_special_tokens = parse_special_tokens
        description = orjson.loads((folder / TOKENIZER_JSON).read_bytes())
        vocabulary = _vocabulary(description)
        self.end_of_document = _end_of_document(folder, vocabulary)
        self.vocab_size = max(vocabulary.values()) + 1
        self._for_gigatoken = _with_separator(description, self.vocab_size, parse_special_tokens)
        first = self._load_gigatoken() if kind == "auto" else None
        self.has_fast = first is not None
        """Whether gigatoken knows this kind of tokenizer."""
        self._idle = [first] if first else []

    @cached_property
    def reference(self) -> Tokenizer:
        """The same in `tokenizers`. Loaded when it is first needed, while another thread encodes:
        it holds Python's lock."""
        return load_reference(self._folder, self._parse_special_tokens)

    def encode_reference(self, documents: Documents) -> Ids:
        """Encode texts in UTF-8 with `tokenizers`."""
        ids = [np.zeros(0, np.uint32)]
        lengths = []
        end = np.array([self.end_of_document], np.uint32)
        for batch in _bounded(documents):
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
        """Cut a long text where that leaves its ids as they are, so that memory stays bounded; else
        return it whole."""
        start = 0
        while len(document) - start > REFERENCE_BATCH_BYTES:
            block = bytes(document[start : start + REFERENCE_BATCH_BYTES])
            cut = next((cut for cut in _likely_cuts(block) if self._is_free_cut(block, cut)), None)
            if cut is None:
                break
            yield block[:cut].decode()
            start += cut
        yield str(document[start:], "utf-8")

    def _is_free_cut(self, block: bytes, cut: int) -> bool:
        """Tell whether the text around a place has the ids of its two sides."""
        left = block[cut - CUT_CONTEXT_BYTES : cut]
        right = block[cut : cut + CUT_CONTEXT_BYTES]
        texts = [side.decode(errors="ignore") for side in (left + right, left, right)]
        whole, before, after = self._encode(texts)
        return np.array_equal(whole, np.concatenate([before, after]))

    def encode_fast(self, documents: Documents) -> Ids:
        """Encode texts in UTF-8 with gigatoken, if there is one for this tokenizer.

        Texts of which one holds the separator go to the reference.
        """
        import gigatoken

        joined = SEPARATOR.encode().join([*documents, b""])
        fast = self._take_fast()
        matrix, _ = fast.tokenizer.encode_batch_padded(
            gigatoken.BytesSource([joined]), 0, parallel=False
        )
        fast.encoded_bytes += len(joined)
        self._keep_fast(fast)
        del joined
        ids = matrix[0] if len(matrix) else np.zeros(0, np.uint32)
        ends = np.flatnonzero(ids == self.vocab_size)
        if len(ends) != len(documents):
            return self.encode_reference(documents)
        ids[ends] = self.end_of_document
        return ids, np.diff(ends, prepend=-1)

    def count_differences(self, texts: Sequence[str]) -> int:
        """Return for how many texts gigatoken, which must be there, gives other ids than the
        reference."""
        documents = [text.encode() for text in texts]
        try:
            fast = _split(*self.encode_fast(documents))
        except Exception:  # whatever it cannot encode, the reference encodes
            return len(texts)
        reference = _split(*self.encode_reference(documents))
        return sum(
            not np.array_equal(one, other) for one, other in zip(fast, reference, strict=True)
        )

    def _take_fast(self) -> _Fast:
        try:
            return self._idle.pop()
        except IndexError:
            fast = self._load_gigatoken()
            assert fast is not None, "encode_fast without has_fast"
            return fast

    def _keep_fast(self, fast: _Fast) -> None:
        """Keep one for the next text, unless the process has grown large with the words that they
        remember."""
        large = (
            fast.encoded_bytes > FORGET_EVERY_BYTES
            and psutil.Process().memory_info().rss > MOST_RESIDENT_BYTES
        )
        if not large:
            self._idle.append(fast)

    def _load_gigatoken(self) -> _Fast | None:
        import gigatoken

        try:
            return _Fast(gigatoken.Tokenizer.from_json(self._for_gigatoken))
        except Exception:  # a kind of tokenizer that it does not know: the reference encodes
            return None


_lock = threading.Lock()
_loaded: dict[str, Encoder] = {}


def load_encoder(folder: Path, kind: EncoderKind, parse_special_tokens: bool = False) -> Encoder:
    """Return the encoder of data_dir/tokenizer; a process keeps the last one, with the words it has
    learned."""
    content = xxhash.xxh3_128_hexdigest((folder / TOKENIZER_JSON).read_bytes())
    key = f"{content} {kind} {parse_special_tokens}"
    with _lock:
        if key not in _loaded:
            _loaded.clear()
            _loaded[key] = Encoder(folder, kind, parse_special_tokens)
        return _loaded[key]


def load_reference(folder: Path, parse_special_tokens: bool = False) -> Tokenizer:
    """Load the exported fast tokenizer as the reference for ids: no padding, no truncation."""
    reference = Tokenizer.from_file(str(folder / TOKENIZER_JSON))
    reference.encode_special_tokens = not parse_special_tokens
    reference.no_padding()
    reference.no_truncation()
    return reference


def id_count(tokenizer: Tokenizer) -> int:
    """Return one more than the largest id: what a vocabulary's size means to whatever is indexed by
    ids.

    Some have holes: of cl100k_base, 100,261 ids go up to 100,276.
    """
    return max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1


def prove_fast_encoder(folder: Path, texts: Sequence[str]) -> GigatokenProof:
    """Compare gigatoken with the reference; the result stands in the tokenizer's report, where
    `tokenize` finds it."""
    proof: GigatokenProof = {
        "version": importlib.metadata.version("gigatoken"),
        "strings_compared": len(texts),
    }
    for parse_special_tokens in (False, True):
        encoder = load_encoder(folder, "auto", parse_special_tokens)
        proof["knows_it"] = encoder.has_fast
        if encoder.has_fast:
            differing = encoder.count_differences(texts)
            if parse_special_tokens:
                proof["strings_that_differ_with_special_tokens_parsed"] = differing
            else:
                proof["strings_that_differ"] = differing
    return proof


def why_reference(folder: Path, parse_special_tokens: bool) -> str | None:
    """Return why gigatoken may not encode for this tokenizer, None where it was proven to give the
    same ids."""
    report: TokenizerCounts | None = read_json(tokenizer_report_path(folder))
    proof = report.get("gigatoken") if report else None
    installed = importlib.metadata.version("gigatoken")
    if proof is None or proof["version"] != installed:
        proven = (
            "was not compared" if proof is None else f"was compared in version {proof['version']}"
        )
        return f"gigatoken {installed} {proven} with it: make the tokenizer anew (delete {manifest_path(folder)})"
    if not proof.get("knows_it"):
        return f"gigatoken {installed} does not know this kind of tokenizer"
    if parse_special_tokens:
        differing = proof.get("strings_that_differ_with_special_tokens_parsed")
    else:
        differing = proof.get("strings_that_differ")
    if differing:
        return f"gigatoken {installed} gave other ids for {differing} of {proof['strings_compared']} strings"
    return None


def _with_separator(
    description: Mapping[str, Any], separator_id: int, parse_special_tokens: bool
) -> bytes:
    """Return tokenizer.json as gigatoken gets it: with the separator, without special tokens that
    are to stay text."""
    kept = [t for t in description["added_tokens"] if parse_special_tokens or not t["special"]]
    separator = {"id": separator_id, "content": SEPARATOR, "special": True, "normalized": False}
    separator |= dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    return orjson.dumps({**description, "added_tokens": [*kept, separator]})


def _vocabulary(description: Mapping[str, Any]) -> dict[str, int]:
    """Return the id of every token of a tokenizer.json."""
    model = description["model"]["vocab"]
    if isinstance(model, list):  # unigram: [piece, score] in the order of ids
        model = {piece: index for index, (piece, _) in enumerate(model)}
    return model | {token["content"]: token["id"] for token in description["added_tokens"]}


def _end_of_document(folder: Path, vocabulary: Mapping[str, int]) -> int:
    settings = read_json(folder / TOKENIZER_CONFIG) or {}
    token = settings.get("eos_token")
    token = token.get("content") if isinstance(token, dict) else token
    if not token or token not in vocabulary:
        raise DataError(
            f"{folder}: the tokenizer has no end-of-text token (eos_token in tokenizer_config.json)"
        )
    return vocabulary[token]


def _bounded(documents: Documents) -> Iterator[list[bytes | memoryview]]:
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
    """Yield places before the word that begins a line, then before a space between words, from the
    block's end back."""
    for gap, offset in ((b"\n", 1), (b" ", 0)):
        at = len(block) - CUT_CONTEXT_BYTES
        found = 0
        while found < 10 and (at := block.rfind(gap, CUT_CONTEXT_BYTES, at)) > 0:
            if block[at + 1 : at + 2].isalnum() and (gap == b"\n" or block[at - 1 : at].isalnum()):
                found += 1
                yield at + offset


def _split(ids: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    if len(lengths):
        return np.split(ids, np.cumsum(lengths)[:-1])
    return []
