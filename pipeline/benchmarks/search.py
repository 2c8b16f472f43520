"""`pipeline benchmark search`: speed of the search of documents for tasks' questions.

Reads a run file's finished documents, and the questions in `evaluation.tasks_dir`; without such a
folder, searches for texts of random words of the documents. Each part is measured in a fresh process
(`measure_search.py`). Writes JSON.
"""

import random
import tempfile
from itertools import islice
from pathlib import Path
from typing import TypedDict

from pipeline.benchmarks.common import (
    Measurement,
    Medians,
    measure_in_rounds,
    met_or_missed,
    run_python,
    show_table,
    write_results,
)
from pipeline.config.run_config import RunConfig
from pipeline.corpus.folded_words import words_of
from pipeline.corpus.ngram_index import GRAM_WORDS
from pipeline.corpus.selecting.kept_documents import all_documents
from pipeline.errors import DataError
from pipeline.evaluation.task_items import read_task_items
from pipeline.logs import console, human_bytes
from pipeline.store.artifacts import read_manifest
from pipeline.store.counts import PrepareCounts
from pipeline.store.files import write_json
from pipeline.store.layout import data_folder
from pipeline.store.records import Manifest
from pipeline.store.tasks_folder import TasksFolder

MEASURING_MODULE = "pipeline.benchmarks.measure_search"
WHOLE = "search"
PARTS = {
    "read Parquet": "read_texts",
    "divide into words": "divide_into_words",
    "divide into words, number them": "number_words",
    WHOLE: "find_texts",
}
"""Part of the work, each with the one before it -> function of `measure_search`."""
RANDOM_TEXTS = 10_000
RANDOM_TEXT_WORDS = 80
"""Words of a random text; a question of HellaSwag with its answer has about as many."""
VOCABULARY_WORDS = 200_000
"""Words of each source that random texts are made of."""
LEAST_RATE = 5e6
"""Bytes of text that a core should search in a second, read and all."""


class SearchResults(TypedDict):
    """What the JSON file holds. Times are in CPU seconds."""

    text_bytes: int
    """Bytes of all documents."""
    texts: int
    """Texts that were searched for."""
    ngrams: int
    """N-grams of these texts."""
    rounds: int
    medians: Medians
    """Part -> seconds and memory, medians over the rounds."""
    bytes_per_second: float
    """Rate of reading and searching together."""


def benchmark_search(config: RunConfig, count: int, output: Path) -> None:
    """Measure `count` rounds, print a table and write JSON. Raises DataError without documents."""
    documents: Manifest[PrepareCounts] | None = read_manifest(
        data_folder(config).documents_manifest
    )
    if documents is None:
        raise DataError(f"{config.paths.data_dir}: run `pipeline prepare` with this run file first")
    sources = documents["counts"]["sources"].values()
    text_bytes = sum(sum(source["text_bytes"].values()) for source in sources)

    # Every part in a process of its own.
    texts = _texts(config)
    with tempfile.TemporaryDirectory(prefix="pipeline-benchmark-") as scratch:
        file = Path(scratch, "texts.json")
        write_json(file, texts)
        parts = PARTS | {"build the index": "build_index"}
        measured = measure_in_rounds(
            count, {name: _part(config, function, file) for name, function in parts.items()}
        )

    seconds = measured["read Parquet"]["seconds"] + measured[WHOLE]["seconds"]
    results: SearchResults = {
        "text_bytes": text_bytes,
        "texts": len(texts),
        "ngrams": sum(max(1, len(words_of(text)) - GRAM_WORDS + 1) for text in texts),
        "rounds": count,
        "medians": measured,
        "bytes_per_second": text_bytes / seconds,
    }
    _show_results(results)
    write_results(output, results)


def _part(config: RunConfig, function: str, texts: Path) -> Measurement:
    """Return the measurement by a function of `measure_search`."""

    def measure() -> dict[str, float]:
        documents = str(data_folder(config).documents)
        process = run_python(MEASURING_MODULE, function, documents, str(texts))
        return {"seconds": process.measured["seconds"], "peak_bytes": process.peak_bytes}

    return measure


def _texts(config: RunConfig) -> list[str]:
    """Return the questions of all tasks in `evaluation.tasks_dir`, or texts of random words."""
    tasks_dir = config.evaluation.tasks_dir
    if tasks_dir is not None:
        folder = TasksFolder(tasks_dir)
        names = [name for name in folder.names() if folder.items(name).is_file()]
        return [text for name in names for text in read_task_items(tasks_dir, name).searched.texts]

    # A word is drawn as often as the documents have it, so few of the documents' words are unknown.
    words: list[str] = []
    for name in config.sources_with_text:
        texts = all_documents(config.paths.data_dir).iterate_texts(name, "train")
        words_of_source = (word for _, text in texts for word in words_of(text))
        words += islice(words_of_source, VOCABULARY_WORDS)
    draw = random.Random(0)
    return [" ".join(draw.choices(words, k=RANDOM_TEXT_WORDS)) for _ in range(RANDOM_TEXTS)]


def _show_results(results: SearchResults) -> None:
    text_bytes = results["text_bytes"]
    rows = [
        [
            name,
            f"{figures['seconds']:.2f}",
            f"{text_bytes / figures['seconds'] / 1e6:.1f}" if name in PARTS else "",
            human_bytes(figures["peak_bytes"]),
        ]
        for name, figures in results["medians"].items()
    ]
    show_table(
        f"Search of {human_bytes(text_bytes)} for {results['texts']:,} texts "
        f"({results['ngrams']:,} n-grams), medians of {results['rounds']} rounds",
        ("part, with those before it", "CPU seconds", "MB/s", "peak memory"),
        rows,
    )
    rate = results["bytes_per_second"]
    verdict = met_or_missed(rate >= LEAST_RATE)
    console.print(
        f"read and searched: {rate / 1e6:.1f} MB/s a core ({LEAST_RATE / 1e6:.0f} wanted: {verdict})"
    )
