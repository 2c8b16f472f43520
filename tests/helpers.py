"""What tests of several folders call."""

import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import takewhile
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
from forks import forking
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from pipeline.checkpoint.folders import write_checkpoint_manifest
from pipeline.config.run_file import load
from pipeline.corpus.documents import SCHEMA
from pipeline.corpus.prepare import prepare
from pipeline.corpus.selecting.kept_documents import KeptDocuments
from pipeline.store.artifacts import Result
from pipeline.store.files import file_record, read_json, write_json
from pipeline.store.layout import checkpoint_name
from pipeline.tokens import tokenizer_folder

SHORT_PROOF = {"PROOF_STRINGS": 200, "LONG_LINE_CHARACTERS": 2000}
DATA_STAGES = ("prepare", "train-tokenizer", "tokenize")


def without_progress(stderr: str) -> str:
    """Return what a command printed without the lines that it prints of a stage which takes 10 s
    and more."""
    return re.sub(r".* left\)\n", "", stderr)


def run_stages(
    run_file: Path,
    names: Sequence[str],
    overrides: Sequence[str],
    whole_proof: bool = False,
) -> None:
    """Run stages in this process as the command line would, with one worker; of later stages
    nothing is asked.

    A tokenizer is proven with few strings and a short one for the long line, unless `whole_proof`:
    the whole proof takes longer than all else of these stages, and is left to the tests of it. Its
    counts are in the tokenizer's report, so a comparison with what a program made needs it.
    """
    from pipeline.cli import commands
    from pipeline.store.stages import STAGES

    before_train = takewhile(lambda stage: stage.name != "train", STAGES)
    table = {stage.name: stage for stage in before_train}
    settings = ["executor.workers=1", *overrides]
    proof = nullcontext() if whole_proof else patch.multiple(tokenizer_folder, **SHORT_PROOF)
    with proof, forking():
        for name in names:
            commands.run_one(list(table.values()), table[name], run_file, settings)


def digests(folder: Path) -> dict[str, str]:
    """Return the checksum of every finished file below a folder, by its path; no manifests; of
    hidden files the indexes."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    names = {path.relative_to(folder): path for path in files}
    return {
        name.as_posix(): file_record(path)["checksum"]
        for name, path in sorted(names.items())
        if not path.name.endswith("manifest.json")
        and (path.suffix == ".keys" or not any(p.startswith(".") for p in name.parts))
    }


def write_documents(data_dir: Path, source: str, split: str, texts: Sequence[str]) -> None:
    """Write one documents shard of a split, named as `prepare` would."""
    path = data_dir / "documents" / source / f"{split}_00000_000.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        (f"{source}/{path.stem}/{row}", text, "{}", "file", row) for row, text in enumerate(texts)
    ]
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    pq.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), path)
    list_documents(data_dir / "documents", [path])


def iterate_texts(documents_dir: Path, source: str, split: str) -> Iterator[tuple[str, str]]:
    """Yield `(id, text)` of every document of a source's split."""
    return KeptDocuments(documents_dir).iterate_texts(source, split)


def prepare_here(run_file: Path, *overrides: str) -> Result:
    """Prepare a fifth held out in this process, and list the documents as the stage's manifest
    does."""
    config = load(run_file, ["executor.workers=1", "prepare.validation_fraction=0.2", *overrides])
    result = prepare(config)
    write_json(config.paths.data_dir / "documents" / "manifest.json", {"files": result.files})
    return result


def list_documents(documents_dir: Path, paths: Sequence[Path]) -> None:
    """List documents shards in the manifest, where readers look for them, besides what it has
    already."""
    empty = {"files": {}, "counts": {}, "inputs": {}, "output": ""}
    manifest = read_json(documents_dir / "manifest.json") or empty
    manifest["files"] |= {
        path.relative_to(documents_dir).as_posix(): file_record(path) for path in paths
    }
    write_json(documents_dir / "manifest.json", manifest)


def write_byte_level_tokenizer(folder: Path) -> None:
    """Write a tokenizer of 259 ids: 0 `<|endoftext|>`, 1 to 256 single bytes, 257 `ab`, 258 `
    ab`."""
    pieces = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "ab", "Ġab"]
    tokenizer = Tokenizer(
        BPE({piece: i for i, piece in enumerate(pieces)}, [("a", "b"), ("Ġ", "ab")])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    _save(tokenizer, folder, ["<|endoftext|>"])


def write_sentencepiece_tokenizer(folder: Path) -> None:
    """Write one of 263 ids: 0 `<unk>`, 1 `<|endoftext|>`, 2 to 257 bytes, 258 ` `, 259 `a`, 260
    `b`, 261 `ab`, 262 ` ab`."""
    pieces = [
        "<unk>",
        "<|endoftext|>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        "a",
        "b",
        "ab",
        "▁ab",
    ]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(
        BPE(vocabulary, [("a", "b"), ("▁", "ab")], unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    _save(tokenizer, folder, ["<unk>", "<|endoftext|>"])


def _save(tokenizer: Tokenizer, folder: Path, special: Sequence[str]) -> None:
    tokenizer.add_special_tokens(
        [AddedToken(name, normalized=False, special=True) for name in special]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))


def pretend_checkpoint(run_dir: Path, step: int, tokens: int, **state: object) -> Path:
    """Write the manifest of a checkpoint without files: all that is looked at before a rank is
    started."""
    checkpoint = run_dir / "checkpoints" / checkpoint_name(step)
    manifest = {
        "state": {"step": step, "tokens": tokens, "skipped": []} | state,
        "ranks": 1,
        "zero_stage": 1,
        "files": {},
    }
    write_checkpoint_manifest(checkpoint, manifest)
    return checkpoint


@contextmanager
def memory_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount memory of that size as a disk at a new folder; needs root."""
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=True
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
