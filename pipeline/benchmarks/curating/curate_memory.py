"""Peak memory of workers and client in `annotate` and `select`, on a corpus and on a larger one.

The larger corpus has other words in each copy of the sample, so that nothing in it is a duplicate.
Reads Linux's /proc; writes corpora in a scratch folder.
"""

import math
import re
import shutil
import subprocess
import sys
import time
from collections.abc import MutableMapping
from pathlib import Path

import psutil

from pipeline.benchmarks.common import Figures, run_python
from pipeline.benchmarks.curating.measured_corpus import (
    FULL_SHARD_BYTES,
    MeasuredCorpus,
    write_run_file,
    write_texts,
)
from pipeline.config.run_file import load
from pipeline.corpus.documents import listed_shards
from pipeline.errors import UserError
from pipeline.logs import note
from pipeline.store.layout import data_folder

STAGES = ("annotate", "select")
WORKERS = 2
SHARDS_OF_SAMPLE = 4
"""Shards of the sample; the larger corpus has so many more of the same size."""
SECONDS_BETWEEN_LOOKS = 0.1
WORD = re.compile(r"\w+")


def measure_memory(
    corpus: MeasuredCorpus, repeat: int, scratch: Path, measured: MutableMapping[str, Figures]
) -> None:
    """Run the stages on the sample, on `repeat` times as much, and on a full shard for each worker.

    Adds the figures of each to `measured` as soon as there are any.
    """
    small = corpus.text_bytes // SHARDS_OF_SAMPLE
    # Files of more than a shard: some of their documents are held out, in shards of their own.
    full_copies = math.ceil(FULL_SHARD_BYTES / corpus.text_bytes) + 1
    for name, file_count, copies, shard_bytes in (
        ("1 x", 1, 1, small),
        (f"{repeat} x", repeat, 1, small),
        ("full shards", WORKERS, full_copies, FULL_SHARD_BYTES),
    ):
        folder = scratch / f"memory of {name}"
        files = [folder / "texts" / f"{number}.jsonl" for number in range(file_count)]
        for number, file in enumerate(files):
            numbers = range(number * copies, (number + 1) * copies)
            write_texts(
                file, (with_other_words(text, copy) for copy in numbers for text in corpus.texts)
            )
        run_file = write_run_file(folder, files, corpus.tasks_dir, shard_bytes)
        run_python("pipeline", "prepare", str(run_file))
        shards = len(listed_shards(data_folder(load(run_file, needs=())).documents))
        for stage in STAGES:
            note(f"benchmark: memory of {stage}, {name}")
            figures = _run_stage(stage, run_file)
            size = {"text_bytes": corpus.text_bytes * copies * file_count, "shards": shards}
            measured[f"{stage}, {name}"] = {**figures, **size}
        shutil.rmtree(folder)


def with_other_words(text: str, copy: int) -> str:
    """Return a text whose words occur in no other copy: each ends with the copy's number."""
    if copy == 0:
        return text
    return WORD.sub(lambda word: f"{word[0]}{copy}", text)


def _run_stage(stage: str, run_file: Path) -> Figures:
    """Run a stage to its end; return the largest memory of its processes, and its seconds.

    Raises UserError, with the end of the output, where it fails.
    """
    log = run_file.parent / f"{stage}.log"
    command = [sys.executable, "-m", "pipeline", stage, str(run_file)]
    started = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, f"executor.workers={WORKERS}"], stdout=output, stderr=subprocess.STDOUT
        )
        client_bytes = 0
        worker_bytes = 0
        while process.poll() is None:
            client_bytes = max(client_bytes, peak_bytes(process.pid))
            worker_bytes = max([worker_bytes, *map(peak_bytes, _children(process.pid))])
            time.sleep(SECONDS_BETWEEN_LOOKS)
    if process.returncode:
        raise UserError(f"{' '.join(command)}\nfailed:\n{log.read_text()[-3000:]}")
    seconds = time.monotonic() - started
    return {"client_bytes": client_bytes, "worker_bytes": worker_bytes, "seconds": seconds}


def _children(process: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(process).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def peak_bytes(process: int) -> int:
    """Return the largest resident memory that a process has had; 0 where it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return max([int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")] or [0])
