"""`pipeline benchmark tokenize`: speed, bottleneck and memory of turning text into tokens.

Reads a run file's finished documents and tokenizer; works in a scratch folder that it removes. The
stage is measured as a whole process, each part in a fresh process (`measure_tokenize`). Writes
JSON.
"""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.benchmarks.common import (
    FinishedProcess,
    Measurement,
    Medians,
    measure_in_rounds,
    run_process,
    run_python,
    write_results,
)
from pipeline.benchmarks.tokenize_results import (
    IN_MEMORY,
    LARGE_DOCUMENT_BYTES,
    STAGE_AUTO,
    STAGE_ONE,
    WITH_LARGE_DOCUMENT,
    TokenizeResults,
    show_results,
    speed_ratios,
)
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import dump
from pipeline.corpus.documents import SHARD_SUFFIX, shard_records
from pipeline.corpus.source_kind import input_files
from pipeline.errors import DataError
from pipeline.store.artifacts import read_manifest
from pipeline.store.counts import PrepareCounts, TokenizeCounts
from pipeline.store.files import read_json, write_json
from pipeline.store.layout import DataFolder, data_folder, manifest_path, task_records
from pipeline.store.records import ListedFile, Manifest
from pipeline.work.cores import core_count
from pipeline.work.stored_results import record_files

MEASURING_MODULE = "pipeline.benchmarks.measure_tokenize"
CONVERTING_MODULE = "pipeline.benchmarks.measure_conversion"
ONE_THREAD = {"TOKENIZERS_PARALLELISM": "false"}
MEGATRON = """\
import runpy, sys, typing, typing_extensions
if not hasattr(typing, "override"): typing.override = typing_extensions.override
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Program that starts Megatron-LM's scripts, which need Python 3.12 only for `typing.override`."""
MEGATRON_PREFIX = "megatron"
MOST_BYTES_IN_MEMORY = 2_000_000_000
"""Largest text that gigatoken encodes at once: it takes about four times as much memory."""


@dataclass(frozen=True)
class TokenizeMeasurements:
    """The run file and the scratch folder of one run of the benchmark."""

    config: RunConfig
    scratch: Path
    megatron: Path | None
    """Checkout of Megatron-LM."""

    @property
    def documents(self) -> Path:
        return data_folder(self.config).documents

    @property
    def tokenizer(self) -> Path:
        return data_folder(self.config).tokenizer


def benchmark_tokenize(
    config: RunConfig, count: int, repeat: int, megatron: Path | None, output: Path
) -> None:
    """Measure `count` rounds, print tables and write JSON.

    `repeat`: size of the large corpus, in copies of the documents. Raises DataError where documents
    or tokenizer are missing, or where there is no text.
    """
    # Both stages must have finished, and there must be text.
    data = data_folder(config)
    documents: Manifest[PrepareCounts] | None = read_manifest(data.documents_manifest)
    if documents is None or read_manifest(data.tokenizer_manifest) is None:
        raise DataError(
            f"{config.paths.data_dir}: run `pipeline prepare` and `train-tokenizer` with this run "
            "file first"
        )
    sources = documents["counts"]["sources"].values()
    text_bytes = sum(sum(source["text_bytes"].values()) for source in sources)
    if not text_bytes:
        raise DataError(
            "sources: none has documents (all are of kind megatron), so there is nothing to "
            "tokenize"
        )

    # All parts in turn, then the corpora that are too large for that.
    with tempfile.TemporaryDirectory(prefix="pipeline-benchmark-") as scratch:
        measurements = TokenizeMeasurements(config, Path(scratch), megatron)
        measured = measure_in_rounds(count, _all_parts(measurements))
        large = _measure_large(measurements, repeat, text_bytes)

    results: TokenizeResults = {
        "text_bytes": text_bytes,
        "tokens": int(measured[STAGE_ONE]["tokens"]),
        "rounds": count,
        "medians": measured,
        "large": large,
        "ratios": speed_ratios(measured, large, core_count()),
    }
    show_results(results, repeat)
    write_results(output, results)


def _all_parts(measurements: TokenizeMeasurements) -> dict[str, Measurement]:
    """Return the measurements of every round, by name."""
    cores = core_count()
    documents = measurements.documents
    tokenizer = measurements.tokenizer

    def gigatoken(name: str, threads: int) -> Measurement:
        return _part(name, documents=documents, tokenizer=tokenizer, threads=threads)

    # The parts of the stage, the stage itself, and gigatoken alone.
    parts: dict[str, Measurement] = {
        "Parquet read": _part("read_parquet_texts", documents=documents),
        "encode": _part("encode_as_the_stage", documents=documents, tokenizer=tokenizer),
        "write": _part(
            "write_token_ids",
            documents=documents,
            tokenizer=tokenizer,
            folder=measurements.scratch,
        ),
        STAGE_ONE: lambda: _tokenize(measurements, "1"),
        "gigatoken in memory, 1 thread": gigatoken("encode_with_gigatoken", 1),
        "gigatoken by row group, 1 thread": gigatoken("encode_row_groups_with_gigatoken", 1),
        STAGE_AUTO: lambda: _tokenize(measurements, "auto"),
        f"gigatoken in memory, {cores} threads": gigatoken("encode_with_gigatoken", cores),
        f"gigatoken by row group, {cores} threads": gigatoken(
            "encode_row_groups_with_gigatoken", cores
        ),
        "reference in memory, 1 thread": _part(
            "encode_with_reference", documents=documents, tokenizer=tokenizer
        ),
    }

    # The stage before, where its input can be read by a bare loop.
    raw_files = _list_raw_files(measurements)
    if raw_files is not None:
        parts["prepare, 1 worker"] = lambda: _prepare(measurements)
        parts["prepare, barest loop"] = lambda: _convert(raw_files)

    # Another program that does the same.
    if measurements.megatron is not None:
        parts["Megatron-LM preprocess_data_fast.py"] = lambda: _run_megatron(
            measurements, "preprocess_data_fast.py", "--use-gigatoken"
        )
        parts["Megatron-LM preprocess_data.py"] = lambda: _run_megatron(
            measurements, "preprocess_data.py", f"--workers={cores}"
        )
    return parts


def _run_part(name: str, **arguments: Path | int) -> FinishedProcess:
    """Call a function of `measure_tokenize` in a fresh process."""
    as_json = json.dumps(arguments, default=str)
    return run_python(MEASURING_MODULE, name, as_json, variables=ONE_THREAD)


def _part(name: str, **arguments: Path | int) -> Measurement:
    """Return the measurement by a function of `measure_tokenize`."""

    def measure() -> dict[str, float]:
        process = _run_part(name, **arguments)
        return {"seconds": process.measured["seconds"], "peak_bytes": process.peak_bytes}

    return measure


def _tokenize(
    measurements: TokenizeMeasurements,
    workers: str,
    documents: Path | None = None,
    encoder: str = "auto",
) -> dict[str, float]:
    """Run `pipeline tokenize` on a link to the documents and a copy of the tokenizer.

    `documents`: folder of documents to use instead of the run file's.
    """
    data = DataFolder(Path(tempfile.mkdtemp(dir=measurements.scratch)))
    data.documents.symlink_to(documents or measurements.documents)
    # A copy: the stage keeps figures for the report in the tokenizer's folder.
    shutil.copytree(measurements.tokenizer, data.tokenizer)
    settings = [
        f"paths.data_dir={data.path}",
        f"executor.workers={workers}",
        f"tokens.encoder={encoder}",
    ]
    process = _run_stage(measurements, "tokenize", settings)
    manifest: Manifest[TokenizeCounts] = read_json(data.tokens_manifest)
    tokens = sum(
        split["tokens"]
        for source in manifest["counts"]["sources"].values()
        for split in source.values()
    )
    figures = _process_figures(process) | {
        "seconds": manifest["seconds"],
        "tokens": tokens,
        "work_seconds": _work_seconds(data),
    }
    shutil.rmtree(data.path)
    return figures


def _work_seconds(data: DataFolder) -> float:
    """Return the seconds from the first task's start to the last one's end.

    The time that workers take to start is not in them.
    """
    starts: list[float] = []
    ends: list[float] = []
    for record in record_files(task_records(data.tokens)):
        end = record.stat().st_mtime
        starts.append(end - read_json(record)["seconds"])
        ends.append(end)
    return max(ends) - min(starts)


def _prepare(measurements: TokenizeMeasurements) -> dict[str, float]:
    """Run `pipeline prepare` with one worker, into a folder of its own."""
    data = Path(tempfile.mkdtemp(dir=measurements.scratch))
    settings = [f"paths.data_dir={data}", "executor.workers=1"]
    process = _run_stage(measurements, "prepare", settings)
    seconds = read_json(DataFolder(data).documents_manifest)["seconds"]
    shutil.rmtree(data)
    return _process_figures(process) | {"seconds": seconds}


def _convert(listed_in: Path) -> dict[str, float]:
    """Run the barest loop over the raw files that a text file lists."""
    process = run_python(CONVERTING_MODULE, str(listed_in), variables=ONE_THREAD)
    return _process_figures(process) | process.measured


def _run_stage(
    measurements: TokenizeMeasurements, stage: str, settings: Sequence[str]
) -> FinishedProcess:
    run_file = measurements.scratch / "run.yaml"
    run_file.write_text(dump(measurements.config))
    return run_python("pipeline", stage, str(run_file), *settings, variables=ONE_THREAD)


def _run_megatron(measurements: TokenizeMeasurements, script: str, option: str) -> dict[str, float]:
    """Run one of Megatron-LM's programs on all documents."""
    assert measurements.megatron is not None
    text = measurements.scratch / "text.jsonl"
    if not text.exists():
        _run_part("write_json_lines", documents=measurements.documents, output=text)

    # Its modules are imported from the checkout.
    paths = [str(measurements.megatron)]
    if "PYTHONPATH" in os.environ:
        paths.append(os.environ["PYTHONPATH"])
    prefix = measurements.scratch / MEGATRON_PREFIX
    command = [
        *(sys.executable, "-c", MEGATRON, str(measurements.megatron / "tools" / script)),
        *("--input", str(text)),
        *("--output-prefix", str(prefix)),
        *("--tokenizer-type", "HuggingFaceTokenizer"),
        *("--tokenizer-model", str(measurements.tokenizer)),
        "--append-eod",
        option,
    ]
    process = run_process(command, {"PYTHONPATH": os.pathsep.join(paths)})
    size = (measurements.scratch / f"{MEGATRON_PREFIX}_text_document.bin").stat().st_size
    return _process_figures(process) | {"seconds": process.wall_seconds, "bin_bytes": size}


def _process_figures(process: FinishedProcess) -> dict[str, float]:
    return {
        "wall_seconds": process.wall_seconds,
        "cpu_seconds": process.cpu_seconds,
        "peak_bytes": process.peak_bytes,
    }


def _list_raw_files(measurements: TokenizeMeasurements) -> Path | None:
    """Write the list of raw JSON-lines files that `prepare` and its barest loop read.

    None where there are no files, or files of another format.
    """
    sources = input_files(measurements.config).values()
    files = [file.path for source in sources for file in source.files]
    if not files or any(path.suffix not in (".zst", ".jsonl") for path in files):
        return None
    listed_in = measurements.scratch / "raw.txt"
    listed_in.write_text("\n".join(map(str, files)))
    return listed_in


def _measure_large(measurements: TokenizeMeasurements, repeat: int, text_bytes: int) -> Medians:
    """Measure a corpus `repeat` times as large, beside gigatoken, and one document of 200 MB."""
    # The corpora.
    repeated = _repeated(measurements, repeat)
    twice = _repeated(measurements, 2)
    with_large = _with_large_document(measurements)

    # The stage, and gigatoken alone where the text fits in memory with its ids.
    parts: dict[str, Measurement] = {
        f"corpus x {repeat}, 1 worker": lambda: _tokenize(measurements, "1", repeated),
    }
    if text_bytes * repeat <= MOST_BYTES_IN_MEMORY:
        # Right after the stage that it is compared with: machines change their speed.
        parts[f"corpus x {repeat}{IN_MEMORY}"] = _part(
            "encode_with_gigatoken", documents=repeated, tokenizer=measurements.tokenizer, threads=1
        )
    parts |= {
        f"corpus x {repeat}, 2 workers": lambda: _tokenize(measurements, "2", repeated),
        "corpus x 2, reference, 1 worker": lambda: _tokenize(measurements, "1", twice, "reference"),
        "corpus x 2, reference, 2 workers": lambda: _tokenize(
            measurements, "2", twice, "reference"
        ),
        WITH_LARGE_DOCUMENT: lambda: _tokenize(measurements, "1", with_large),
    }
    return measure_in_rounds(1, parts)


def _with_large_document(measurements: TokenizeMeasurements) -> Path:
    """Return a folder with all documents and one of 200 MB, in a shard of the first source."""
    shard = measurements.scratch / "large.parquet"
    _run_part(
        "write_large_document",
        documents=measurements.documents,
        output=shard,
        size=LARGE_DOCUMENT_BYTES,
    )
    folder = _repeated(measurements, 1)
    sources = measurements.config.sources.items()
    first = next(name for name, source in sources if source.has_documents)
    name = f"{first}/train_large_000{SHARD_SUFFIX}"
    (folder / name).symlink_to(shard)
    manifest: Manifest[PrepareCounts] = read_json(manifest_path(folder))
    manifest["files"][name] = {"bytes": shard.stat().st_size, "checksum": "large"}
    write_json(manifest_path(folder), manifest)
    return folder


def _repeated(measurements: TokenizeMeasurements, repeat: int) -> Path:
    """Return a folder of documents that holds each shard `repeat` times, as links."""
    folder = Path(tempfile.mkdtemp(dir=measurements.scratch))
    manifest: Manifest[PrepareCounts] = read_json(manifest_path(measurements.documents))
    files: dict[str, ListedFile] = {}
    for name, record in shard_records(manifest["files"]).items():
        for copy in range(repeat):
            path = folder / name.replace(SHARD_SUFFIX, f"r{copy:02d}{SHARD_SUFFIX}")
            path.parent.mkdir(exist_ok=True)
            path.symlink_to(measurements.documents / name)
            files[path.relative_to(folder).as_posix()] = record
    write_json(manifest_path(folder), manifest | {"files": files})
    return folder
