"""Measure one part of the search of documents for texts, alone in a fresh process.

`python -m pipeline.benchmarks.measure_search NAME DOCUMENTS TEXTS` calls one function of this module
and prints one line of JSON. DOCUMENTS is the folder of documents, TEXTS a JSON file with the texts to
search for. Times are CPU seconds; what a part works on is in memory before its clock starts.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.corpus.documents import listed_shards, open_shard, texts_of_group
from pipeline.corpus.folded_words import folded_bytes
from pipeline.corpus.ngram_index import NgramIndex
from pipeline.store.files import read_json


def documents_by_group(documents: Path) -> list[list[memoryview]]:
    """Return the texts of all documents, row group by row group."""
    groups: list[list[memoryview]] = []
    for name in listed_shards(documents):
        with open_shard(documents / name) as file:
            groups += [texts_of_group(file, group) for group in range(file.num_row_groups)]
    return groups


def read_texts(documents: Path, texts: list[str]) -> float:
    """Read all documents."""
    started = time.process_time()
    documents_by_group(documents)
    return time.process_time() - started


def divide_into_words(documents: Path, texts: list[str]) -> float:
    """Fold the bytes of all documents and divide them into words."""
    groups = documents_by_group(documents)
    started = time.process_time()
    for group in groups:
        for text in group:
            folded_bytes(text).decode().split()
    return time.process_time() - started


def number_words(documents: Path, texts: list[str]) -> float:
    """Divide all documents into words and number them; no text is searched for."""
    groups = documents_by_group(documents)
    index = NgramIndex([])
    started = time.process_time()
    for group in groups:
        index.find(group)
    return time.process_time() - started


def find_texts(documents: Path, texts: list[str]) -> float:
    """Search all documents for the texts, whose index is built before."""
    groups = documents_by_group(documents)
    index = NgramIndex(texts)
    started = time.process_time()
    for group in groups:
        index.find(group)
    return time.process_time() - started


def build_index(documents: Path, texts: list[str]) -> float:
    """Build the index of the texts."""
    started = time.process_time()
    NgramIndex(texts)
    return time.process_time() - started


MEASUREMENTS: dict[str, Callable[[Path, list[str]], float]] = {
    function.__name__: function
    for function in (read_texts, divide_into_words, number_words, find_texts, build_index)
}
"""Name on the command line -> function."""


def main() -> None:
    """Call the named function and print its seconds."""
    _, name, documents, texts = sys.argv
    print(json.dumps({"seconds": MEASUREMENTS[name](Path(documents), read_json(Path(texts)))}))


if __name__ == "__main__":
    main()
