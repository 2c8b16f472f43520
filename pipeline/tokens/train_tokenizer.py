"""The `train-tokenizer` stage: documents -> data_dir/tokenizer, a fast tokenizer that transformers loads.

Whatever the kind, the exported folder is loaded again as a user would and must give the reference's ids on thousands
of strings, else the stage fails.
"""

import random
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import xxhash

from pipeline.artifacts import Result, file_record, read_manifest, write_json
from pipeline.config import RunConfig
from pipeline.corpus.documents import iterate_texts
from pipeline.errors import DataError
from pipeline.logs import human_bytes, note
from pipeline.tokens.encode import prove_fast_encoder

PROOF_STRINGS = 2400
"""At least 2,000 strings are compared: three of four cut from documents, the rest made of random characters."""
EDGE_STRINGS = (
    "", " ", "  ", " " * 64, "\n", "\n\n\n", "\t\t", "\r\n", "a b", " a", "a ", "\u00a0", "\u2581", "\u2581\u2581 a",
    "<unk>", "<|endoftext|>", "a<|endoftext|>b", "</s>", "<0x41>", "0123456789", "3.14159",
    "\U0001f600\U0001f468\u200d\U0001f469",
    "e\u0301 \u00e9", "\ufeffx", "\x00", "\x1b[0m", "x" * 5000,
)  # fmt: skip


def train_tokenizer(config: RunConfig) -> Result:
    """Train or take the tokenizer, export it, prove the export exact."""
    folder = config.paths.data_dir / "tokenizer"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if old.is_file():
            old.unlink()
    if config.tokenizer.kind == "pretrained":
        reference = _take_pretrained(config, folder)
        sampled = 0
    else:
        reference, sampled = _train(config, folder)
    loaded = load_exported(folder)
    strings = proof_strings(config)
    differing = [s for s in strings if reference(s) != _ids(loaded, s)]
    if differing:
        raise DataError(
            f"{folder}: the exported tokenizer gives other ids than its reference for {len(differing)} of {len(strings)} "
            f"strings, first {differing[0][:80]!r}. Choose another tokenizer.kind."
        )
    lossless = sum(loaded.decode(_ids(loaded, s), skip_special_tokens=False) == s for s in strings)
    report = {
        "kind": config.tokenizer.kind,
        "vocab_size": len(loaded),
        "end_of_document_id": loaded.eos_token_id,
        "training_bytes": sampled,
        "strings_compared": len(strings),
        "strings_that_differ": 0,
        "strings_decoded_to_themselves": lossless,
        "gigatoken": prove_fast_encoder(folder, strings),
    }
    write_json(folder / "report.json", report)
    headline = f"{len(loaded):,} ids ({config.tokenizer.kind}), exact on {len(strings):,} strings"
    files = {path.name: file_record(path) for path in sorted(folder.iterdir()) if path.is_file()}
    return Result({"headline": headline, **report}, files)


def pretrained_inventory(config: RunConfig) -> dict[str, Any]:
    """Describe the folder of a `pretrained` tokenizer for the stage's fingerprint."""
    if config.tokenizer.kind != "pretrained" or config.tokenizer.path is None:
        return {}
    file = config.tokenizer.path / "tokenizer.json"
    if not file.is_file():
        raise DataError(
            f"tokenizer.path = {config.tokenizer.path}: holds no tokenizer.json; name a folder of a fast tokenizer"
        )
    return {"pretrained tokenizer.json": file_record(file)["checksum"]}


def load_exported(folder: Path) -> Any:
    """Load a tokenizer folder as any user of transformers would."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def _train(config: RunConfig, folder: Path) -> tuple[Callable[[str], list[int]], int]:
    """Train and export; returns the reference's encode function and the bytes of text used."""
    from pipeline.tokens import byte_level_bpe, sentencepiece_bpe

    sample = _Sample(config)
    if config.tokenizer.kind == "sentencepiece-bpe":
        import sentencepiece

        model_file = folder / "tokenizer.model"
        sentencepiece_bpe.train(sample.texts(), config.tokenizer, model_file)
        model_file.with_suffix(".vocab").unlink()
        fast = sentencepiece_bpe.to_fast(model_file)
        processor = sentencepiece.SentencePieceProcessor(model_file=str(model_file))
        reference: Callable[[str], list[int]] = processor.encode  # pyright: ignore[reportAssignmentType]
        unknown = processor.id_to_piece(processor.unk_id())
    else:
        fast = byte_level_bpe.train(sample.texts(), config.tokenizer)
        fast.encode_special_tokens = True
        reference = lambda text: fast.encode(text, add_special_tokens=False).ids  # noqa: E731
        unknown = None
    if fast.get_vocab_size() != config.tokenizer.vocab_size:
        raise DataError(
            f"tokenizer.vocab_size = {config.tokenizer.vocab_size}: {human_bytes(sample.bytes)} of text gave only "
            f"{fast.get_vocab_size()} ids. Take a smaller vocabulary or more text (tokenizer.sample_bytes, sources)."
        )
    export(fast, config.tokenizer.end_of_document, unknown, folder)
    note(f"train-tokenizer: learned {fast.get_vocab_size():,} ids from {human_bytes(sample.bytes)} of text")
    return reference, sample.bytes


class _Sample:
    """Training documents chosen by the hash of their id, about `tokenizer.sample_bytes` in all."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self.bytes = 0

    def texts(self) -> Iterator[str]:
        documents = self._config.paths.data_dir / "documents"
        manifest = read_manifest(documents / "manifest.json")
        assert manifest is not None
        sources = manifest["counts"]["sources"]
        total = sum(source["text_bytes"]["train"] for source in sources.values())
        threshold = self._config.tokenizer.sample_bytes / max(total, 1) * 2**64
        for source in self._config.sources:
            for document_id, text in iterate_texts(documents, source, "train"):
                if xxhash.xxh3_64_intdigest(document_id.encode()) < threshold:
                    self.bytes += len(text.encode())
                    yield text


def export(fast: Any, end_of_document: str, unknown: str | None, folder: Path) -> None:
    """Write a folder that transformers loads."""
    from transformers import PreTrainedTokenizerFast

    fast.encode_special_tokens = False
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=fast,
        bos_token=end_of_document,
        eos_token=end_of_document,
        pad_token=end_of_document,
        unk_token=unknown,
        clean_up_tokenization_spaces=False,
    )
    wrapped.save_pretrained(folder)
    fast.encode_special_tokens = True


def _take_pretrained(config: RunConfig, folder: Path) -> Callable[[str], list[int]]:
    assert config.tokenizer.path is not None
    tokenizer = load_exported(config.tokenizer.path)
    if not tokenizer.is_fast:
        raise DataError(f"tokenizer.path = {config.tokenizer.path}: is not a fast tokenizer (tokenizer.json)")
    if tokenizer.eos_token_id is None:
        if config.tokenizer.end_of_document not in tokenizer.get_vocab():
            raise DataError(
                f"tokenizer.path = {config.tokenizer.path}: has no eos_token, and tokenizer.end_of_document = "
                f"{config.tokenizer.end_of_document!r} is not in its vocabulary; name a token that is"
            )
        tokenizer.eos_token = config.tokenizer.end_of_document
    tokenizer.save_pretrained(folder)
    return lambda text: _ids(tokenizer, text)


def proof_strings(config: RunConfig) -> list[str]:
    """Return the strings on which the export is compared: edge cases, pieces of documents, random characters."""
    generator = random.Random(config.tokenizer.vocab_size or 0)
    documents = config.paths.data_dir / "documents"
    texts: list[str] = []
    for source in config.sources:
        texts += [text[:100_000] for _, text in islice(iterate_texts(documents, source, "train"), 300)]
    strings: list[str] = list(EDGE_STRINGS)
    while len(strings) < PROOF_STRINGS * 3 // 4:
        text = generator.choice(texts)
        start = generator.randrange(len(text))
        strings.append(text[start : start + generator.choice((4, 40, 400, 2000))])
    while len(strings) < PROOF_STRINGS:
        strings.append("".join(_random_character(generator) for _ in range(generator.randrange(1, 50))))
    return strings


def _random_character(generator: random.Random) -> str:
    """Any Unicode scalar value, half of them printable ASCII or white space."""
    if generator.random() < 0.5:
        return chr(generator.choice((*range(32, 127), 9, 10, 13, 32, 32, 32)))
    code = generator.randrange(0x110000 - 0x800)
    return chr(code if code < 0xD800 else code + 0x800)  # surrogates are no characters
