"""`pipeline benchmark loader`: start-up time and rate of the loader, for corpora of any size.

Needs no run file and no finished stage: makes its corpora in a scratch folder and removes them.
Each part is measured in a fresh process (`measure_loader`). Writes JSON.
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.benchmarks.common import (
    Measurement,
    measure_in_rounds,
    run_python,
    write_results,
)
from pipeline.benchmarks.corpora import write_random, write_simulated
from pipeline.benchmarks.loader_results import (
    BARE,
    BARE_KEPT,
    BY_MANIFEST,
    BY_TABLE,
    PLAIN,
    PLAIN_LOCATED,
    LoaderFigures,
    LoaderResults,
    LoaderSizes,
    checked_limits,
    rate_ratios,
    show_results,
    start_name,
)
from pipeline.logs import note
from pipeline.store.records import Json

MEASURING_MODULE = "pipeline.benchmarks.measure_loader"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
SHUFFLES = ("full", "block")


ReadingSettings = Mapping[str, str | bool]
"""Settings of the section `data` that decide how tokens are read: `shuffle`, `packing`,
`document_mask`."""


@dataclass(frozen=True)
class LoaderMeasurements:
    """The sizes and the scratch folder of one run of the benchmark."""

    sizes: LoaderSizes
    scratch: Path

    @property
    def real(self) -> Path:
        """Folder of the corpus of random ids."""
        return self.scratch / "real"

    def corpus(self, number: int) -> Path:
        """Return the folder of a simulated corpus, by its number from 0."""
        return self.scratch / f"simulated-{number}"

    def measurement(
        self, name: str, folder: Path, data: ReadingSettings | None = None, **numbers: float
    ) -> Measurement:
        """Return a function that measures one part, in a fresh process with one thread.

        `name`: function of `measure_loader`, `folder`: corpus. `data` and `numbers` are its other
        arguments; `data` gets the sequence length.
        """
        arguments: dict[str, Json] = {"folder": str(folder), **numbers}
        if data is not None:
            arguments["data"] = {"sequence_length": self.sizes.sequence_length, **data}
        as_json = json.dumps(arguments)
        return lambda: run_python(MEASURING_MODULE, name, as_json, variables=ONE_THREAD).measured


def benchmark_loader(count: int, output: Path, sizes: LoaderSizes | None = None) -> None:
    """Measure `count` rounds, print tables and write JSON to `output`."""
    sizes = sizes or LoaderSizes()
    with tempfile.TemporaryDirectory(prefix="pipeline-benchmark-") as scratch:
        # Corpora without content for the starts, a real one for the rates.
        measurements = LoaderMeasurements(sizes, Path(scratch))
        note("benchmark: making corpora")
        for number, corpus in enumerate(sizes.corpora):
            write_simulated(measurements.corpus(number), corpus.tokens, corpus.files)
        write_random(measurements.real, sizes.real_tokens, sizes.mean_document)
        measurements.measurement("warm_page_cache", measurements.real)()

        # Packing goes before the rates, some of which read its index.
        starts = measure_in_rounds(count, _starts(measurements))
        openings = measure_in_rounds(count, _openings(measurements))
        packing = measure_in_rounds(count, _packing(measurements))["best-fit"]
        rates = measure_in_rounds(count, _rates(measurements))
        slow = measure_in_rounds(count, _slow(measurements))
        reads = {
            shuffle: measurements.measurement(
                "count_reads", measurements.real, {"shuffle": shuffle}
            )()
            for shuffle in SHUFFLES
        }

    # The results, compared with the limits.
    figures: LoaderFigures = {
        "rounds": count,
        "start": starts,
        "opening": openings,
        "packing": packing,
        "rates": rates,
        "ratios": {bare: rate_ratios(rates, bare) for bare in (BARE, BARE_KEPT)},
        "slow": slow,
        "reads": reads,
    }
    results: LoaderResults = {**figures, "limits": checked_limits(figures, sizes)}
    show_results(results, sizes)
    write_results(output, results)


def _starts(measurements: LoaderMeasurements) -> dict[str, Measurement]:
    """Return the starts of a new and of a resumed run, for each simulated corpus."""
    return {
        start_name(corpus, sample): measurements.measurement(
            "measure_start", measurements.corpus(number), {}, sample=sample
        )
        for number, corpus in enumerate(measurements.sizes.corpora)
        for sample in (0, measurements.sizes.resumed_sample)
    }


def _openings(measurements: LoaderMeasurements) -> dict[str, Measurement]:
    """Return the two ways in which a rank learns the shards of the corpus with most files."""
    corpora = measurements.sizes.corpora
    number = max(range(len(corpora)), key=lambda number: corpora[number].files)
    return {
        name: measurements.measurement(
            "measure_opening", measurements.corpus(number), {}, by_table=name == BY_TABLE
        )
        for name in (BY_TABLE, BY_MANIFEST)
    }


def _packing(measurements: LoaderMeasurements) -> dict[str, Measurement]:
    measure = measurements.measurement(
        "measure_packing", measurements.real, {"packing": "best-fit"}
    )
    return {"best-fit": measure}


def _rates(measurements: LoaderMeasurements) -> dict[str, Measurement]:
    """Return all ways of reading from the page cache, by name."""
    batches = measurements.sizes.batches
    length = measurements.sizes.sequence_length

    def bare(name: str) -> Measurement:
        return measurements.measurement(name, measurements.real, batches=batches, length=length)

    def ours(name: str, data: ReadingSettings) -> Measurement:
        return measurements.measurement(name, measurements.real, data, batches=batches)

    # The bare loops, which the others are compared with.
    parts = {BARE: bare("copy_mapped_rows"), BARE_KEPT: bare("copy_and_keep_mapped_rows")}

    # Concatenated documents, in both orders.
    for shuffle in SHUFFLES:
        plain: ReadingSettings = {"shuffle": shuffle}
        masked: ReadingSettings = {"shuffle": shuffle, "document_mask": True}
        parts[f"{PLAIN}, {shuffle}"] = ours("read_by_position", plain)
        parts[f"{PLAIN_LOCATED}, {shuffle}"] = ours("read_located", plain)
        parts[f"loader, {shuffle}"] = ours("take_from_loader", plain)
        parts[f"loader, {shuffle}, document mask"] = ours("take_from_loader", masked)

    # Packed documents.
    best_fit: ReadingSettings = {"packing": "best-fit", "document_mask": True}
    in_blocks: ReadingSettings = {"shuffle": "block", **best_fit}
    parts[f"{PLAIN}, full, best-fit, document mask"] = ours("read_by_position", best_fit)
    parts["loader, full, best-fit, document mask"] = ours("take_from_loader", best_fit)
    parts["loader, block, best-fit, document mask"] = ours("take_from_loader", in_blocks)
    return parts


def _slow(measurements: LoaderMeasurements) -> dict[str, Measurement]:
    """Return the measurements with slow reads, on the second corpus with its seven sources."""
    sizes = measurements.sizes
    folder = measurements.corpus(min(1, len(sizes.corpora) - 1))
    return {
        f"slow files, {shuffle}": measurements.measurement(
            "measure_waiting",
            folder,
            {"shuffle": shuffle},
            steps=sizes.slow_steps,
            step_seconds=sizes.step_seconds,
            read_seconds=sizes.read_seconds,
        )
        for shuffle in SHUFFLES
    }
