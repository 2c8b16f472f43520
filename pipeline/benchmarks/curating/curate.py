"""`pipeline benchmark curate`: what annotating documents costs, part by part and together.

Measures on a sample of a corpus, in a scratch folder that it removes; each part in a fresh process
(`measure_curate.py`), in turn with RedPajama-v2's own code where a checkout is named; then the memory
of the stages `annotate` and `select`. Writes JSON. What was measured is also printed and written when
the benchmark is interrupted.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.benchmarks.common import Figures, run_python, shown_in_any_case, write_results
from pipeline.benchmarks.curating.curate_memory import measure_memory
from pipeline.benchmarks.curating.curate_results import (
    ALONE,
    EVERYTHING,
    LANGUAGE,
    PUBLISHED_BANDS,
    READ_AND_WRITE,
    THEIR_MINHASH,
    THEIR_SIGNALS,
    WITH_PUBLISHED,
    CurateResults,
    median_seconds,
    projections,
    rate_ratios,
    share_of_sum,
    show_curate_results,
)
from pipeline.benchmarks.curating.measured_corpus import MeasuredCorpus, make_corpus
from pipeline.benchmarks.curating.redpajama_code import VARIABLE
from pipeline.corpus.annotating.language import find_model
from pipeline.errors import ConfigError
from pipeline.logs import note, warn
from pipeline.store.environment import user_variable

MEASURING_MODULE = "pipeline.benchmarks.curating.measure_curate"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
PARTS = {name: (name.split(",")[0],) for name in ALONE}
"""Part that is measured alone -> its name among the parts of the annotations."""
PARTS_OF_TREE = ("signals", LANGUAGE, "pii", "text_hash", "minhash", "paragraphs")
"""What is annotated of RedPajama-v2, as in `jobs/corpus-redpajama-v2.yaml`."""
PUBLISHED_SCHEME = 'annotate.minhash={scheme: redpajama-v2, similarity: "0.8"}'

Seconds = Callable[[], float]
"""Function that measures the seconds of one part."""


def benchmark_curate(
    corpus: Path | None, count: int, megabytes: int, repeat: int, output: Path
) -> None:
    """Measure `count` rounds and the memory, print tables and write JSON.

    `corpus`: a run file whose documents are prepared, a folder of JSON lines, or None for the text of
    this Python installation. `megabytes`: size of the sample. `repeat`: size of the larger corpus of
    the memory, in samples; 0 leaves the memory out. Raises Interrupted after a signal.
    """
    with tempfile.TemporaryDirectory(prefix="pipeline-benchmark-") as scratch:
        measured_on = make_corpus(corpus, megabytes, Path(scratch))
        parts = _parts(measured_on)
        rounds: dict[str, list[float]] = {name: [] for name in parts}
        memory: dict[str, Figures] = {}

        def show() -> None:
            results = _results(measured_on, rounds, memory)
            show_curate_results(results)
            write_results(output, results)

        with shown_in_any_case(show):
            for number in range(1, count + 1):
                for name, measure in parts.items():
                    note(f"benchmark: round {number} of {count}, {name}")
                    rounds[name].append(measure())
            if repeat:
                measure_memory(measured_on, repeat, Path(scratch), memory)


def _parts(corpus: MeasuredCorpus) -> dict[str, Seconds]:
    """Return the measurements of a round, by name."""

    def ours(*parts: str, overrides: tuple[str, ...] = ()) -> Seconds:
        arguments = {"run_file": corpus.run_file, "parts": parts, "overrides": overrides}
        return lambda: _measure("annotate_documents", arguments)

    # What cannot be measured here is left out by name.
    left_out: set[str] = set()
    overrides: tuple[str, ...] = ()
    try:
        find_model()
    except ConfigError as error:
        warn(f"benchmark: language is left out: {error}")
        left_out.add(LANGUAGE)
        overrides = ("annotate.language=false",)
    names = [name for name in ALONE if name not in left_out]

    parts = {READ_AND_WRITE: ours(overrides=overrides)}
    for name in names:
        parts[name] = ours(*PARTS[name], overrides=overrides)
    parts[PUBLISHED_BANDS] = ours("minhash", overrides=(*overrides, PUBLISHED_SCHEME))
    parts[EVERYTHING] = ours(*(part for name in names for part in PARTS[name]), overrides=overrides)
    tree = {
        "run_file": corpus.tree_run_file,
        "parts": [part for part in PARTS_OF_TREE if part not in left_out],
        "overrides": overrides,
    }
    parts[WITH_PUBLISHED] = lambda: _measure("annotate_documents", tree)
    checkout = user_variable(VARIABLE)
    if checkout is None:
        warn(
            f"benchmark: {VARIABLE} names no checkout of togethercomputer/RedPajama-Data; its code "
            "is not measured"
        )
        return parts
    theirs = {"run_file": corpus.run_file, "checkout": checkout}
    parts[THEIR_SIGNALS] = lambda: _measure("compute_published_signals", theirs)
    parts[THEIR_MINHASH] = lambda: _measure("compute_published_minhash", theirs)
    return parts


def _measure(function: str, arguments: Mapping[str, object]) -> float:
    """Call a function of `measure_curate` in a fresh process; return its seconds."""
    as_json = json.dumps(arguments, default=str)
    process = run_python(MEASURING_MODULE, function, as_json, variables=ONE_THREAD)
    return process.measured["seconds"]


def _results(
    corpus: MeasuredCorpus, rounds: Mapping[str, list[float]], memory: Mapping[str, Figures]
) -> CurateResults:
    seconds = median_seconds(rounds)
    return {
        "corpus": corpus.described,
        "documents": len(corpus.texts),
        "text_bytes": corpus.text_bytes,
        "rounds": rounds,
        "share_of_sum": share_of_sum(seconds),
        "ratios": rate_ratios(seconds),
        "core_hours": projections(seconds, corpus.text_bytes),
        "memory": memory,
    }
