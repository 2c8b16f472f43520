"""`pipeline benchmark tokenize`: speed, bottleneck and memory of turning text into tokens.

Reads a run file's finished documents and tokenizer; works in a scratch folder that it removes. The
stage is measured as a whole process, each part in a fresh process (`tokenize_parts`). Writes JSON.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.benchmarks.common import (
    FinishedProcess,
    measure_in_rounds,
    run_process,
    run_python,
    show_table,
    write_results,
)
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import dump
from pipeline.corpus.documents import SHARD_SUFFIX, shard_records
from pipeline.corpus.source_kind import input_files
from pipeline.errors import DataError
from pipeline.logs import console, human_bytes
from pipeline.store.artifacts import read_manifest
from pipeline.store.files import read_json, write_json
from pipeline.store.layout import DataFolder, data_folder, manifest_path, task_records
from pipeline.work.cores import core_count

PARTS_MODULE = "pipeline.benchmarks.tokenize_parts"
LARGE_DOCUMENT_BYTES = 200_000_000
REDPAJAMA_1T_BYTES = 5e12
"""Source: Together, RedPajama-Data-1T: 1.2 T tokens, about 5 TB on disk unpacked."""
ONE_THREAD = {"TOKENIZERS_PARALLELISM": "false"}
MEGATRON = """\
import runpy, sys, typing, typing_extensions
if not hasattr(typing, "override"): typing.override = typing_extensions.override
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Start Megatron-LM's scripts, which need Python 3.12 only for `typing.override`."""


@dataclass(frozen=True)
class Bench:
    """The run file and the scratch folder of one run of the benchmark."""

    config: RunConfig
    scratch: Path
    text_bytes: int
    megatron: Path | None

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

    Raises DataError where documents or tokenizer are missing, or where there is no text.
    """
    data = data_folder(config)
    manifests = [read_manifest(data.documents_manifest), read_manifest(data.tokenizer_manifest)]
    if None in manifests:
        raise DataError(
            f"{config.paths.data_dir}: run `pipeline prepare` and `train-tokenizer` with this run "
            "file first"
        )
    assert manifests[0] is not None
    text_bytes = sum(
        sum(s["text_bytes"].values()) for s in manifests[0]["counts"]["sources"].values()
    )
    if not text_bytes:
        raise DataError(
            "sources: none has documents (all are of kind megatron), so there is nothing to "
            "tokenize"
        )
    with tempfile.TemporaryDirectory(prefix="pipeline-benchmark-") as scratch:
        bench = Bench(config, Path(scratch), text_bytes, megatron)
        measured = measure_in_rounds(count, _measurements(bench))
        large = _large(bench, repeat)
    tokens = int(measured["whole stage, 1 worker"]["tokens"])
    results = {
        "text_bytes": text_bytes,
        "tokens": tokens,
        "rounds": count,
        "medians": measured,
        "large": large,
        "ratios": _ratios(measured, large),
    }
    _show(results, repeat)
    write_results(output, results)


def _measurements(bench: Bench) -> dict[str, Callable[[], Mapping[str, float]]]:
    cores = core_count()

    def part(name: str, threads: int = 1) -> Callable[[], Mapping[str, float]]:
        return lambda: _part(bench, name, bench.documents, threads)

    parts: dict[str, Callable[[], Mapping[str, float]]] = {
        "Parquet read": part("read_parquet"),
        "encode": part("encode"),
        "write": part("write"),
        "whole stage, 1 worker": lambda: _stage(bench, "1"),
        "gigatoken in memory, 1 thread": part("gigatoken"),
        "gigatoken by row group, 1 thread": part("gigatoken_by_row_group"),
        "whole stage, workers: auto": lambda: _stage(bench, "auto"),
        f"gigatoken in memory, {cores} threads": part("gigatoken", cores),
        f"gigatoken by row group, {cores} threads": part("gigatoken_by_row_group", cores),
        "reference in memory, 1 thread": part("reference"),
    }
    raw = _raw_list(bench)
    if raw:
        parts["prepare, 1 worker"] = lambda: _prepare(bench)
        parts["prepare, barest loop"] = lambda: _part(bench, "raw", raw, 1)
    if bench.megatron:
        parts["Megatron-LM preprocess_data_fast.py"] = lambda: _megatron(
            bench, "preprocess_data_fast.py", "--use-gigatoken"
        )
        parts["Megatron-LM preprocess_data.py"] = lambda: _megatron(
            bench, "preprocess_data.py", f"--workers={cores}"
        )
    return parts


def _part(bench: Bench, name: str, documents: Path, threads: int) -> dict[str, float]:
    folder = bench.scratch / "part"
    folder.mkdir(exist_ok=True)
    link = DataFolder(folder).documents
    link.unlink(missing_ok=True)
    link.symlink_to(documents)
    process = run_python(
        PARTS_MODULE, name, str(link), str(bench.tokenizer), str(threads), environment=ONE_THREAD
    )
    return {"seconds": process.result["seconds"], "peak_bytes": process.peak_bytes}


def _stage(
    bench: Bench, workers: str, documents: Path | None = None, encoder: str = "auto"
) -> dict[str, float]:
    """Run `pipeline tokenize` on a link to the documents and a copy of the tokenizer."""
    data = DataFolder(Path(tempfile.mkdtemp(dir=bench.scratch)))
    data.documents.symlink_to(documents or bench.documents)
    # A copy: the stage keeps figures for the report in the tokenizer's folder.
    shutil.copytree(bench.tokenizer, data.tokenizer)
    settings = [
        f"paths.data_dir={data.path}",
        f"executor.workers={workers}",
        f"tokens.encoder={encoder}",
    ]
    process = _pipeline(bench, "tokenize", settings)
    manifest = read_json(data.tokens_manifest)
    tokens = sum(
        split["tokens"]
        for source in manifest["counts"]["sources"].values()
        for split in source.values()
    )
    result = _seconds(process) | {
        "seconds": manifest["seconds"],
        "tokens": tokens,
        "work_seconds": _work_seconds(data),
    }
    shutil.rmtree(data.path)
    return result


def _work_seconds(data: DataFolder) -> float:
    """Return the seconds from the first task's start to the last one's end.

    They leave out the time that workers take to start.
    """
    records = list(task_records(data.tokens).glob("*.json"))
    ends = [record.stat().st_mtime for record in records]
    return max(ends) - min(
        end - read_json(record)["seconds"] for end, record in zip(ends, records, strict=True)
    )


def _prepare(bench: Bench) -> dict[str, float]:
    data = Path(tempfile.mkdtemp(dir=bench.scratch))
    process = _pipeline(bench, "prepare", [f"paths.data_dir={data}", "executor.workers=1"])
    seconds = read_json(DataFolder(data).documents_manifest)["seconds"]
    shutil.rmtree(data)
    return _seconds(process) | {"seconds": seconds}


def _pipeline(bench: Bench, stage: str, settings: Sequence[str]) -> FinishedProcess:
    run_file = bench.scratch / "run.yaml"
    run_file.write_text(dump(bench.config))
    return run_python("pipeline", stage, str(run_file), *settings, environment=ONE_THREAD)


def _megatron(bench: Bench, script: str, option: str) -> dict[str, float]:
    assert bench.megatron is not None
    text = bench.scratch / "text.jsonl"
    if not text.exists():
        run_python(PARTS_MODULE, "lines", str(bench.documents), str(text), "1")
    names = [
        "--tokenizer-type",
        "HuggingFaceTokenizer",
        "--tokenizer-model",
        str(bench.tokenizer),
        "--append-eod",
        option,
    ]
    command = ["-c", MEGATRON, str(bench.megatron / "tools" / script), "--input", str(text)]
    prefix = bench.scratch / "megatron"
    search = os.pathsep.join(filter(None, [str(bench.megatron), os.environ.get("PYTHONPATH")]))
    process = run_process(
        [sys.executable, *command, "--output-prefix", str(prefix), *names],
        environment={"PYTHONPATH": search},
    )
    size = (bench.scratch / "megatron_text_document.bin").stat().st_size
    return _seconds(process) | {"seconds": process.wall_seconds, "bin_bytes": size}


def _seconds(process: FinishedProcess) -> dict[str, float]:
    return {
        "wall_seconds": process.wall_seconds,
        "cpu_seconds": process.cpu_seconds,
        "peak_bytes": process.peak_bytes,
    }


def _raw_list(bench: Bench) -> Path | None:
    """Write the list of raw JSON-lines files that `prepare` and its barest loop read.

    None where there are no files, or files of another format.
    """
    files = [file.path for found in input_files(bench.config).values() for file in found.files]
    if not files or any(path.suffix not in (".zst", ".jsonl") for path in files):
        return None
    listed = bench.scratch / "raw.txt"
    listed.write_text("\n".join(map(str, files)))
    return listed


def _large(bench: Bench, repeat: int) -> dict[str, dict[str, float]]:
    """Measure a corpus `repeat` times as large on 1 and 2 workers, and one document of 200 MB."""
    repeated = _repeated(bench, repeat)
    twice = _repeated(bench, 2)
    run_python(
        PARTS_MODULE,
        "large",
        str(bench.documents),
        str(bench.scratch / "large.parquet"),
        str(LARGE_DOCUMENT_BYTES),
    )
    with_large = _repeated(bench, 1)
    source = next(name for name, source in bench.config.sources.items() if source.has_documents)
    name = f"{source}/train_large_000{SHARD_SUFFIX}"
    (with_large / name).symlink_to(bench.scratch / "large.parquet")
    manifest = read_json(manifest_path(with_large))
    manifest["files"][name] = {
        "bytes": (bench.scratch / "large.parquet").stat().st_size,
        "checksum": "large",
    }
    write_json(manifest_path(with_large), manifest)
    return measure_in_rounds(
        1,
        {
            f"corpus x {repeat}, 1 worker": lambda: _stage(bench, "1", repeated),
            f"corpus x {repeat}, 2 workers": lambda: _stage(bench, "2", repeated),
            "corpus x 2, reference, 1 worker": lambda: _stage(bench, "1", twice, "reference"),
            "corpus x 2, reference, 2 workers": lambda: _stage(bench, "2", twice, "reference"),
            "with a document of 200 MB, 1 worker": lambda: _stage(bench, "1", with_large),
        },
    )


def _repeated(bench: Bench, repeat: int) -> Path:
    """Return a folder of documents in which each shard stands `repeat` times, as links."""
    folder = Path(tempfile.mkdtemp(dir=bench.scratch))
    manifest = read_json(manifest_path(bench.documents))
    files = {}
    for name, record in shard_records(manifest["files"]).items():
        for copy in range(repeat):
            path = folder / name.replace(SHARD_SUFFIX, f"r{copy:02d}{SHARD_SUFFIX}")
            path.parent.mkdir(exist_ok=True)
            path.symlink_to(bench.documents / name)
            files[path.relative_to(folder).as_posix()] = record
    write_json(manifest_path(folder), manifest | {"files": files})
    return folder


def _ratios(
    measured: Mapping[str, Mapping[str, float]], large: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    seconds = {name: values["seconds"] for name, values in [*measured.items(), *large.items()]}
    cores = core_count()
    auto = seconds["whole stage, workers: auto"]
    one = seconds["whole stage, 1 worker"]
    ratios = {
        f"stage / gigatoken {how}, {threads}": seconds[f"gigatoken {how}, {threads}"] / stage
        for threads, stage in (("1 thread", one), (f"{cores} threads", auto))
        for how in ("in memory", "by row group")
    }
    for what in dict.fromkeys(
        name.rpartition(",")[0] for name in large if name.endswith("2 workers")
    ):
        one_worker = large[f"{what}, 1 worker"]
        two_workers = large[f"{what}, 2 workers"]
        for seconds_of, how in (
            ("seconds", "whole stage"),
            ("work_seconds", "without starting them"),
        ):
            ratios[f"{what}: 2 workers / 1, {how}"] = (
                one_worker[seconds_of] / two_workers[seconds_of]
            )
    if "prepare, 1 worker" in seconds:
        ratios["prepare / its barest loop"] = (
            seconds["prepare, barest loop"] / seconds["prepare, 1 worker"]
        )
    ours = measured["whole stage, workers: auto"]["wall_seconds"]
    for name in measured:
        if name.startswith("Megatron"):
            ratios[f"whole process / {name}"] = measured[name]["wall_seconds"] / ours
    return ratios


def _show(results: Mapping[str, Any], repeat: int) -> None:
    medians = results["medians"]
    text_bytes = results["text_bytes"]
    tokens = results["tokens"]
    stage = medians["whole stage, 1 worker"]["seconds"]
    parts = {name: medians[name]["seconds"] for name in ("Parquet read", "encode", "write")}
    rows = [
        _row(
            name, seconds, text_bytes, tokens, f"{seconds / stage:.0%}", medians[name]["peak_bytes"]
        )
        for name, seconds in parts.items()
    ]
    rest = stage - sum(parts.values())
    rows.append(["start, comparison, the rest", f"{rest:.2f}", "", "", f"{rest / stage:.0%}", ""])
    rows += [
        _row(
            name,
            values["seconds"],
            text_bytes,
            tokens,
            "100%" if name == "whole stage, 1 worker" else "",
            values["peak_bytes"],
        )
        for name, values in medians.items()
        if name not in parts
    ]
    for name, values in results["large"].items():
        size = (
            text_bytes * int(name.split(",")[0].removeprefix("corpus x "))
            if name.startswith("corpus x")
            else text_bytes
        )
        size += LARGE_DOCUMENT_BYTES if "200 MB" in name else 0
        rows.append(
            _row(name, values["seconds"], size, int(values["tokens"]), "", values["peak_bytes"])
        )
    show_table(
        f"Text to tokens: {human_bytes(text_bytes)}, {tokens:,} tokens, medians of "
        f"{results['rounds']} rounds",
        ("part", "seconds", "MB/s", "Mtok/s", "of the stage", "peak memory"),
        rows,
    )
    show_table(
        "Ratios",
        ("of rates", ""),
        [(name, f"{ratio:.2f}") for name, ratio in results["ratios"].items()],
    )
    repeated = next(iter(results["large"].values()))
    rate = text_bytes * repeat / repeated["seconds"]
    hours = REDPAJAMA_1T_BYTES / rate / 3600
    console.print(
        f"RedPajama-1T (5 TB, 1.2 T tokens) at {rate / 1e6:.0f} MB/s of one worker: {hours:,.1f} "
        "core-hours of tokenize"
    )


def _row(
    name: str, seconds: float, text_bytes: float, tokens: int, share: str, peak: float
) -> list[str]:
    rate = text_bytes / seconds / 1e6
    speed = tokens / seconds / 1e6
    return [name, f"{seconds:.2f}", f"{rate:.1f}", f"{speed:.1f}", share, human_bytes(peak)]
