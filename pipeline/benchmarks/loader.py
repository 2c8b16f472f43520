"""`pipeline benchmark loader`: start-up time and rate of the loader, for corpora of any size.

Needs no run file and no finished stage: makes its corpora in a scratch folder and removes them.
Each part is measured in a fresh process (`loader_parts`). Writes JSON.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.benchmarks.common import (
    measure_in_rounds,
    met_or_missed,
    run_python,
    show_table,
    write_results,
)
from pipeline.benchmarks.corpora import DTYPE, write_random, write_simulated
from pipeline.logs import console, human_bytes, note

PARTS_MODULE = "pipeline.benchmarks.loader_parts"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
GPU_TOKENS_PER_SECOND = 0.5e6
"""Tokens per second that one GPU at half of 989 TFLOP/s (H100, bf16) trains on.

For a model of N = 125 M weights, 12 layers, d = 768, T = 2,048:
494.5e12 / (6 N + 12 x 12 d T) = 0.51e6 (the formula: Chowdhery et al. 2022, appendix B)."""
BARE = "bare loop over a memory map"
BARE_KEPT = "the same, inputs and targets, kept"
PLAIN = "one thread"
PLAIN_LOCATED = "one thread, places by 2,048"
START_SECONDS = 1.0
START_BYTES = 300e6
LEAST_RATE = 20e6
LEAST_RATIO = 0.5
MOST_WAITED = 0.005


@dataclass(frozen=True)
class Corpus:
    """A simulated corpus."""

    name: str
    tokens: int
    files: int


@dataclass(frozen=True)
class LoaderSizes:
    """How much the loader benchmark measures."""

    corpora: Sequence[Corpus] = (
        Corpus("1 GB", 500_000_000, 10),
        Corpus("100 GB", 50_000_000_000, 420),
        Corpus("2.4 TB", 1_200_000_000_000, 10_000),
        Corpus("2.4 TB, many files", 1_200_000_000_000, 100_000),
    )
    """Simulated corpora, 2 bytes a token; the limits are held against the third one."""
    resumed_sample: int = 500_000_000
    sequence_length: int = 2048
    real_tokens: int = 250_000_000
    """Tokens in the file that is read from the page cache."""
    mean_document: int = 800
    """Mean length of a document, in tokens."""
    batches: int = 1500
    """Batches of 32 rows in each measurement."""
    slow_steps: int = 100
    step_seconds: float = 0.1
    read_seconds: float = 0.005
    """Seconds of each read on a slow file system."""


@dataclass(frozen=True)
class Bench:
    """The sizes and the scratch folder of one run of the benchmark."""

    sizes: LoaderSizes
    scratch: Path
    real: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "real", self.scratch / "real")

    def corpus(self, number: int) -> Path:
        return self.scratch / f"simulated-{number}"

    def part(self, name: str, folder: Path, **arguments: Any) -> Callable[[], Mapping[str, float]]:
        """Return a function that measures a part in a fresh process.

        The argument `data`, where given, gets the sequence length.
        """
        if "data" in arguments:
            arguments["data"] = {"sequence_length": self.sizes.sequence_length, **arguments["data"]}
        given = json.dumps({"folder": str(folder), **arguments})
        return lambda: run_python(PARTS_MODULE, name, given, environment=ONE_THREAD).result


def benchmark_loader(count: int, output: Path, sizes: LoaderSizes | None = None) -> None:
    """Measure `count` rounds, print tables and write JSON to `output`."""
    sizes = sizes or LoaderSizes()
    with tempfile.TemporaryDirectory(prefix="pipeline-benchmark-") as scratch:
        bench = Bench(sizes, Path(scratch))
        note("benchmark: making corpora")
        for number, corpus in enumerate(sizes.corpora):
            write_simulated(bench.corpus(number), corpus.tokens, corpus.files)
        write_random(bench.real, sizes.real_tokens, sizes.mean_document)
        bench.part("warm", bench.real)()
        starts = measure_in_rounds(count, _starts(bench))
        packing = measure_in_rounds(
            count, {"best-fit": bench.part("pack", bench.real, data={"packing": "best-fit"})}
        )["best-fit"]
        rates = measure_in_rounds(count, _rates(bench))
        slow = measure_in_rounds(count, _slow(bench))
        reads = {
            shuffle: bench.part("reads", bench.real, data={"shuffle": shuffle})()
            for shuffle in ("full", "block")
        }
    results = {
        "rounds": count,
        "start": starts,
        "packing": packing,
        "rates": rates,
        "ratios": {bare: _ratios(rates, bare) for bare in (BARE, BARE_KEPT)},
        "slow": slow,
        "reads": reads,
    }
    with_limits = {**results, "limits": _limits(results, sizes)}
    _show(with_limits, sizes)
    write_results(output, with_limits)


def _starts(bench: Bench) -> dict[str, Callable[[], Mapping[str, float]]]:
    return {
        f"{corpus.name}, sample {sample:,}": bench.part(
            "start", bench.corpus(number), sample=sample, data={}
        )
        for number, corpus in enumerate(bench.sizes.corpora)
        for sample in (0, bench.sizes.resumed_sample)
    }


def _rates(bench: Bench) -> dict[str, Callable[[], Mapping[str, float]]]:
    batches = bench.sizes.batches
    length = bench.sizes.sequence_length

    def ours(part: str, **data: Any) -> Callable[[], Mapping[str, float]]:
        return bench.part(part, bench.real, batches=batches, data=data)

    parts = {
        BARE: bench.part("bare", bench.real, batches=batches, length=length),
        BARE_KEPT: bench.part("bare_kept", bench.real, batches=batches, length=length),
    }
    for shuffle in ("full", "block"):
        parts[f"{PLAIN}, {shuffle}"] = ours("read_by_position", shuffle=shuffle)
        parts[f"{PLAIN_LOCATED}, {shuffle}"] = ours("read_located", shuffle=shuffle)
        for masked in (False, True):
            mask = ", document mask" if masked else ""
            parts[f"loader, {shuffle}{mask}"] = ours(
                "loader", shuffle=shuffle, document_mask=masked
            )
    best_fit = {"packing": "best-fit", "document_mask": True}
    parts[f"{PLAIN}, full, best-fit, document mask"] = ours("read_by_position", **best_fit)
    parts["loader, full, best-fit, document mask"] = ours("loader", **best_fit)
    parts["loader, block, best-fit, document mask"] = ours("loader", shuffle="block", **best_fit)
    return parts


def _slow(bench: Bench) -> dict[str, Callable[[], Mapping[str, float]]]:
    """Return the measurements with slow reads, on the second corpus with its seven sources."""
    sizes = bench.sizes
    folder = bench.corpus(min(1, len(sizes.corpora) - 1))
    times = {
        "steps": sizes.slow_steps,
        "step_seconds": sizes.step_seconds,
        "read_seconds": sizes.read_seconds,
    }
    return {
        f"slow files, {shuffle}": bench.part("slow", folder, **times, data={"shuffle": shuffle})
        for shuffle in ("full", "block")
    }


def _ratios(rates: Mapping[str, Mapping[str, float]], bare: str) -> dict[str, float]:
    """Return each rate divided by the rate of the bare loop `bare`."""
    return {
        name: values["tokens_per_second"] / rates[bare]["tokens_per_second"]
        for name, values in rates.items()
    }


def _limits(results: Mapping[str, Any], sizes: LoaderSizes) -> list[dict[str, Any]]:
    """Compare the measured figures with their limits.

    `at_least` in a result tells whether the limit is a lower one.
    """
    starts = results["start"]
    rates = results["rates"]
    ratios = results["ratios"]
    smallest, large = (sizes.corpora[min(i, len(sizes.corpora) - 1)].name for i in (0, 2))
    first, resumed = (starts[f"{large}, sample {sample:,}"] for sample in (0, sizes.resumed_sample))
    growth = first["peak_bytes"] - starts[f"{smallest}, sample 0"]["peak_bytes"]
    plain = f"{PLAIN_LOCATED}, full"
    loader = "loader, full"
    found = [
        (f"{large}: seconds to the first step", first["seconds"], START_SECONDS, False),
        (f"{large}: seconds, resumed", resumed["seconds"], START_SECONDS, False),
        (f"{large}: bytes of memory", first["peak_bytes"], START_BYTES, False),
        (
            f"{large}: bytes more than {smallest}, per byte of manifest",
            growth / first["manifest_bytes"],
            5.0,
            False,
        ),
        (f"{plain}: tokens/s", rates[plain]["tokens_per_second"], LEAST_RATE, True),
        (f"{plain}: of the bare loop", ratios[BARE][plain], LEAST_RATIO, True),
        (f"{loader}: tokens/s", rates[loader]["tokens_per_second"], LEAST_RATE, True),
        (f"{loader}: of the bare loop that keeps", ratios[BARE_KEPT][loader], LEAST_RATIO, True),
        *(
            (f"{name}: share waited", values["waited"], MOST_WAITED, False)
            for name, values in results["slow"].items()
        ),
    ]
    return [
        {
            "what": what,
            "measured": measured,
            "limit": limit,
            "at_least": at_least,
            "met": is_limit_met(measured, limit, at_least),
        }
        for what, measured, limit, at_least in found
    ]


def is_limit_met(measured: float, limit: float, at_least: bool) -> bool:
    """Tell whether a figure keeps its limit: a lower one with `at_least`, else an upper one."""
    if at_least:
        return measured >= limit
    return measured <= limit


def _show(results: Mapping[str, Any], sizes: LoaderSizes) -> None:
    starts = [
        (
            name,
            human_bytes(values["manifest_bytes"]),
            f"{values['open_seconds']:.2f}",
            f"{values['seconds']:.2f}",
            human_bytes(values["imported_bytes"]),
            human_bytes(values["peak_bytes"]),
        )
        for name, values in results["start"].items()
    ]
    show_table(
        f"From after imports to the first step, medians of {results['rounds']} rounds",
        ("corpus", "manifest", "opened, s", "first step, s", "memory before", "peak memory"),
        starts,
    )
    show_table(
        f"From the page cache: {human_bytes(sizes.real_tokens * DTYPE.itemsize)}, rows of "
        f"{sizes.sequence_length:,} tokens",
        ("part", "Mtok/s", "us per row", "of the bare loop", "of the one that keeps"),
        [_rate_row(name, values, results, sizes) for name, values in results["rates"].items()],
    )
    packing = results["packing"]
    console.print(
        f"Best-fit packing of documents of {sizes.mean_document:,} tokens: "
        f"{packing['tokens_per_second'] / 1e6:.1f} M tokens/s, "
        f"{packing['index_bytes_per_token']:.3f} bytes of index a "
        f"token, {human_bytes(packing['peak_bytes'])} of memory, {packing['cut_documents']:.1%} of "
        "documents cut\n"
    )
    _show_reading(results, sizes)
    show_table(
        "Limits",
        ("", "measured", "limit", ""),
        [
            (
                limit["what"],
                f"{limit['measured']:,.4g}",
                f"{'>=' if limit['at_least'] else '<='} {limit['limit']:,.4g}",
                met_or_missed(limit["met"]),
            )
            for limit in results["limits"]
        ],
    )
    rate = results["rates"]["loader, full"]["tokens_per_second"]
    console.print(
        f"A GPU at 50 % MFU on a 125M model needs about {GPU_TOKENS_PER_SECOND / 1e6:.1f} M "
        "tokens/s: one loader gives "
        f"{rate / GPU_TOKENS_PER_SECOND:,.0f} times that"
    )


def _rate_row(
    name: str, values: Mapping[str, float], results: Mapping[str, Any], sizes: LoaderSizes
) -> Sequence[str]:
    rate = values["tokens_per_second"]
    per_row = f"{sizes.sequence_length / rate * 1e6:.1f}"
    shares = (f"{results['ratios'][bare][name]:.2f}" for bare in (BARE, BARE_KEPT))
    return (name, f"{rate / 1e6:.1f}", per_row, *shares)


def _show_reading(results: Mapping[str, Any], sizes: LoaderSizes) -> None:
    show_table(
        f"Reads that take {sizes.read_seconds * 1e3:.0f} ms, steps that take "
        f"{sizes.step_seconds * 1e3:.0f} ms",
        ("", "first step waited, s", "longest later, s", "waited after the first"),
        [
            (
                name,
                f"{values['first_wait_seconds']:.3f}",
                f"{values['longest_wait_seconds']:.4f}",
                f"{values['waited']:.3%}",
            )
            for name, values in results["slow"].items()
        ],
    )
    show_table(
        "Reads of an epoch",
        ("shuffle", "rows", "reads", "mean size"),
        [
            (name, f"{values['rows']:,}", f"{values['reads']:,}", human_bytes(values["mean_bytes"]))
            for name, values in results["reads"].items()
        ],
    )
