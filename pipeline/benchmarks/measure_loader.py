"""Measure one part of the way from token files to batches, alone in a fresh process.

`python -m pipeline.benchmarks.measure_loader NAME ARGUMENTS` calls one function of this module; the
arguments are JSON. Prints one line of JSON: rates in tokens per second, sizes in bytes.
"""

import json
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.benchmarks.corpora import DTYPE, DataSettings, llama_mixture, make_config
from pipeline.config.groups import group_sizes, groups_of_rank
from pipeline.config.step_plan import plan_steps
from pipeline.sampling.batches import Batch, read_batch
from pipeline.sampling.dataset import open_data
from pipeline.sampling.loader import (
    LOCATED_AT_ONCE,
    PREFETCHED_STEPS,
    Loader,
    RankShare,
    TrainingData,
)
from pipeline.sampling.pack import pack
from pipeline.sampling.stream import OpenFiles, open_streams
from pipeline.store.layout import DataFolder, shard_table_path
from pipeline.tokens.shards.shard_table import forget_tables, keep_shard_table

ROWS = 32
"""Rows in a batch that one thread reads."""
MICRO_BATCH = 8
"""Sequences in a micro-batch of the loader."""
GLOBAL_BATCH = 256
"""Sequences in a step of the loader."""
SLOW_BATCH = 32
"""Sequences in a step that reads from a slow file system: four micro-batches of 8."""
STEPS_AHEAD = 1000
"""Steps of a run after the one that a start is measured for."""
MOST_OPEN_FILES = 1024


def process_memory(name: str) -> int:
    """Return bytes of memory of this process: `VmRSS`, or its peak `VmHWM`.

    Not `ru_maxrss`, which begins with the memory of the parent that started this process.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _share(batch: int, steps: int) -> RankShare:
    """Return the share of a single rank in a run of `steps` steps of `batch` sequences."""
    alone = groups_of_rank(group_sizes(1), 0)
    return RankShare(alone, MICRO_BATCH, plan_steps(1, batch, batch * steps))


def read_bytes() -> int:
    """Return the bytes that this process has read so far, from the page cache too."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("rchar:"))


def measure_opening(folder: Path, data: DataSettings, by_table: bool) -> dict[str, float]:
    """Measure what a rank reads to know all shards of both splits, and for how long.

    `by_table`: from the table of shards; else from the manifest, as without a table.
    """
    tokens = DataFolder(folder).tokens
    keep_shard_table(tokens)
    if not by_table:
        shard_table_path(tokens).unlink()
    forget_tables()
    config = make_config(folder, llama_mixture(), data)
    before = read_bytes()
    started = time.perf_counter()
    started_cpu = time.process_time()
    open_data(config)
    open_streams(tokens, list(config.sources), "validation")
    figures = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - started_cpu,
        "read_bytes": read_bytes() - before,
        "peak_bytes": process_memory("VmHWM"),
    }
    keep_shard_table(tokens)
    return figures


def measure_start(folder: Path, sample: int, data: DataSettings) -> dict[str, float]:
    """Measure the time from the end of the imports to the step that holds sample `sample`."""
    config = make_config(folder, llama_mixture(), data)
    step = sample // GLOBAL_BATCH + 1
    steps = range(step, step + STEPS_AHEAD)
    imported_bytes = process_memory("VmRSS")

    # Open the data, then take one step.
    started = time.perf_counter()
    opened = open_data(config)
    open_seconds = time.perf_counter() - started
    with Loader(opened, _share(GLOBAL_BATCH, steps.stop), steps, _unchanged) as loader:
        next(iter(loader))
        seconds = time.perf_counter() - started

    manifest_bytes = DataFolder(folder).tokens_manifest.stat().st_size
    return {
        "seconds": seconds,
        "open_seconds": open_seconds,
        "imported_bytes": imported_bytes,
        "peak_bytes": process_memory("VmHWM"),
        "manifest_bytes": manifest_bytes,
    }


def copy_mapped_rows(folder: Path, batches: int, length: int) -> dict[str, float]:
    """Copy random rows of a memory-mapped file into one array: the barest loop there can be."""
    batch = np.empty((ROWS, length + 1), np.int64)

    def copy(mapped: np.ndarray, places: list[int]) -> None:
        for row, place in enumerate(places):
            batch[row] = mapped[place : place + length + 1]

    return _copy_random_rows(folder, batches, length, copy)


def copy_and_keep_mapped_rows(folder: Path, batches: int, length: int) -> dict[str, float]:
    """Copy random rows into new arrays of inputs and targets; keep as many as a loader keeps."""
    kept: deque[np.ndarray] = deque(maxlen=(PREFETCHED_STEPS + 1) * GLOBAL_BATCH // ROWS)

    def copy(mapped: np.ndarray, places: list[int]) -> None:
        batch = np.empty((2, ROWS, length), np.int64)
        for row, place in enumerate(places):
            ids = mapped[place : place + length + 1]
            batch[0, row] = ids[:-1]
            batch[1, row] = ids[1:]
        kept.append(batch)

    return _copy_random_rows(folder, batches, length, copy)


def _copy_random_rows(
    folder: Path, batches: int, length: int, copy: Callable[[np.ndarray, list[int]], None]
) -> dict[str, float]:
    (path,) = (DataFolder(folder).tokens / "web").glob("*.bin")
    tokens = path.stat().st_size // DTYPE.itemsize
    rows = np.random.default_rng(1).integers(0, (tokens - 1) // length, (batches, ROWS))
    offsets = rows * length
    started = time.perf_counter()
    mapped = np.memmap(path, DTYPE, "r")
    for places in offsets:
        copy(mapped, places.tolist())
    return {"tokens_per_second": batches * ROWS * length / (time.perf_counter() - started)}


def read_by_position(folder: Path, batches: int, data: DataSettings) -> dict[str, float]:
    """Read batches in one thread, each by the positions of its samples."""
    opened = _open_real(folder, data)

    def read(batch: int) -> None:
        opened.read(np.arange(batch * ROWS, (batch + 1) * ROWS))

    return _rate(read, batches, opened)


def read_located(folder: Path, batches: int, data: DataSettings) -> dict[str, float]:
    """Read batches in one thread; locate many batches together, as the loader does."""
    opened = _open_real(folder, data)
    located_batches = LOCATED_AT_ONCE // ROWS
    places = opened.order.locate(np.arange(0))

    def read(batch: int) -> None:
        nonlocal places
        first = batch % located_batches * ROWS
        if first == 0:
            places = opened.order.locate(np.arange(batch * ROWS, batch * ROWS + LOCATED_AT_ONCE))
        read_batch(opened.sources, places.take(slice(first, first + ROWS)), opened.shape)

    return _rate(read, batches, opened)


def take_from_loader(folder: Path, batches: int, data: DataSettings) -> dict[str, float]:
    """Take steps from a loader as fast as it delivers them."""
    opened = _open_real(folder, data)
    steps = max(2, batches * ROWS // GLOBAL_BATCH)
    share = _share(GLOBAL_BATCH, steps + 1)
    with Loader(opened, share, range(1, steps + 2), _unchanged) as loader:
        iterator = iter(loader)
        next(iterator)
        started = time.perf_counter()
        for _ in iterator:
            pass
        seconds = time.perf_counter() - started
    return {"tokens_per_second": steps * GLOBAL_BATCH * opened.shape.sequence_length / seconds}


def measure_packing(folder: Path, data: DataSettings) -> dict[str, float]:
    """Build the index of best-fit packing from nothing, in this process."""
    config = make_config(folder, {"web": 1.0}, data)
    index = DataFolder(folder).packing(config.data.sequence_length)
    shutil.rmtree(index, ignore_errors=True)
    started = time.perf_counter()
    counts = pack(config).counts["sources"]["web"]
    seconds = time.perf_counter() - started
    size = sum(path.stat().st_size for path in index.glob("web/*.rows"))
    tokens = counts["positions"] + counts["documents"]
    return {
        "tokens_per_second": tokens / seconds,
        "index_bytes_per_token": size / tokens,
        "peak_bytes": process_memory("VmHWM"),
        "cut_documents": counts["cut_documents"] / counts["documents"],
    }


class SlowFiles(OpenFiles):
    """Files whose reads take a fixed time, as on a loaded parallel file system.

    Several reads may wait at the same time.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(MOST_OPEN_FILES)
        self._seconds = seconds

    def read_into(self, path: Path, buffer: memoryview, offset: int) -> int:
        time.sleep(self._seconds)
        return super().read_into(path, buffer, offset)


def measure_waiting(
    folder: Path, steps: int, step_seconds: float, read_seconds: float, data: DataSettings
) -> dict[str, float]:
    """Measure how long a loop with steps of `step_seconds` waits for slow files."""
    opened = open_data(make_config(folder, llama_mixture(), data), SlowFiles(read_seconds))
    waits: list[float] = []

    # The loader starts to read when its context is entered, so the first wait begins before.
    started = time.perf_counter()
    with Loader(opened, _share(SLOW_BATCH, steps), range(1, steps + 1), _unchanged) as loader:
        iterator = iter(loader)
        for _ in range(steps):
            next(iterator)
            waits.append(time.perf_counter() - started)
            time.sleep(step_seconds)
            started = time.perf_counter()

    waited = sum(waits[1:])
    return {
        "first_wait_seconds": waits[0],
        "longest_wait_seconds": max(waits[1:]),
        "waited": waited / (waited + (steps - 1) * step_seconds),
    }


class CountingFiles(OpenFiles):
    """Files that count their reads and the bytes read."""

    def __init__(self) -> None:
        super().__init__(MOST_OPEN_FILES)
        self.reads = 0
        self.bytes = 0
        self._counting = threading.Lock()

    def read_into(self, path: Path, buffer: memoryview, offset: int) -> int:
        with self._counting:
            self.reads += 1
            self.bytes += len(buffer)
        return super().read_into(path, buffer, offset)


def count_reads(folder: Path, data: DataSettings) -> dict[str, float]:
    """Count the reads of one epoch, and their bytes."""
    files = CountingFiles()
    opened = open_data(make_config(folder, {"web": 1.0}, data), files)
    rows = opened.sources[0].rows.count
    for first in range(0, rows, ROWS):
        opened.read(np.arange(first, min(first + ROWS, rows)))
    return {
        "rows": rows,
        "reads": files.reads,
        "bytes": files.bytes,
        "mean_bytes": files.bytes / files.reads,
    }


def warm_page_cache(folder: Path) -> dict[str, float]:
    """Read the real corpus once, so that it is in the page cache."""
    size = 0
    block = bytearray(4 << 20)
    for path in (DataFolder(folder).tokens / "web").iterdir():
        with path.open("rb", buffering=0) as file:
            count = file.readinto(block)
            while count:
                size += count
                count = file.readinto(block)
    return {"bytes": size}


def _open_real(folder: Path, data: DataSettings) -> TrainingData:
    return open_data(make_config(folder, {"web": 1.0}, data))


def _rate(read: Callable[[int], None], batches: int, opened: TrainingData) -> dict[str, float]:
    """Return the rate of reading batches, after one that opens files and index."""
    read(0)
    started = time.perf_counter()
    for batch in range(batches):
        read(batch)
    seconds = time.perf_counter() - started
    return {"tokens_per_second": batches * ROWS * opened.shape.sequence_length / seconds}


def _unchanged(batch: Batch) -> Batch:
    """Stand for the conversion of a micro-batch to the device."""
    return batch


MEASUREMENTS: dict[str, Callable[..., dict[str, float]]] = {
    function.__name__: function
    for function in (
        measure_start,
        measure_opening,
        copy_mapped_rows,
        copy_and_keep_mapped_rows,
        read_by_position,
        read_located,
        take_from_loader,
        measure_packing,
        measure_waiting,
        count_reads,
        warm_page_cache,
    )
}
"""Name on the command line -> function."""


def main() -> None:
    """Call the named function and print what it measured."""
    arguments = json.loads(sys.argv[2])
    folder = Path(arguments.pop("folder"))
    print(json.dumps(MEASUREMENTS[sys.argv[1]](folder, **arguments)))


if __name__ == "__main__":
    main()
