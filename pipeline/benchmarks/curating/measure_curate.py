"""Measure one part of annotating documents, alone in a fresh process.

`python -m pipeline.benchmarks.curating.measure_curate NAME JSON` calls one function of this module
with the arguments in JSON and prints one line of JSON. Seconds are CPU seconds of the process, which
uses one thread; modules, models and indexes are loaded before its clock starts.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict

import pyarrow as pa

from pipeline.benchmarks.curating.redpajama_code import published_code
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.corpus.annotating.annotate_shard import AskedParts, annotate_shard
from pipeline.corpus.annotating.part import AnnotationPart
from pipeline.corpus.annotating.parts import parts_asked_for
from pipeline.corpus.annotating.published_rows import PublishedSource
from pipeline.corpus.annotating.redpajama_minhash import (
    BANDS_AND_ROWS,
    FUNCTIONS,
    SEED,
    SHINGLE_WORDS,
)
from pipeline.corpus.documents import listed_shards
from pipeline.corpus.parquet_tables import write_parquet
from pipeline.corpus.selecting.kept_documents import all_documents
from pipeline.store.layout import data_folder
from pipeline.store.manifests.shard_places import source_of
from pipeline.store.records import content_of

WARM_UP = "The first document of a process loads what the others use. " * 20


class PartFigures(TypedDict):
    """What one function has measured."""

    seconds: float
    text_bytes: int


def annotate_documents(
    run_file: Path, parts: Sequence[str], overrides: Sequence[str]
) -> PartFigures:
    """Annotate all documents with some parts, by name: read, compute and write.

    What is published beside them is read where the parts take it.
    """
    config = load(run_file, overrides, needs=())
    chosen = [part for part in parts_asked_for(config) if part.name in parts]
    assert [part.name for part in chosen] == [*parts], "the run file asks for all"
    documents = data_folder(config).documents
    text_bytes = 0
    with tempfile.TemporaryDirectory(dir=run_file.parent) as scratch:
        output = Path(scratch, "annotations.parquet")
        _load_everything(Path(scratch), chosen)
        started = time.process_time()
        for name, record in listed_shards(documents).items():
            output.unlink(missing_ok=True)
            asked = _asked(chosen, PublishedSource.asked_for(config, source_of(name), chosen))
            result = annotate_shard(documents / name, content_of(record), output, "measured", asked)
            text_bytes += result["text_bytes"]
        seconds = time.process_time() - started
    return {"seconds": seconds, "text_bytes": text_bytes}


def _asked(parts: Sequence[AnnotationPart], published: PublishedSource | None) -> AskedParts:
    return AskedParts(parts, {part.name: part.fingerprint() for part in parts}, published)


def _load_everything(scratch: Path, parts: Sequence[AnnotationPart]) -> None:
    """Annotate one document: loads what is loaded once in each process."""
    table = pa.table({"id": ["first"], "text": pa.array([WARM_UP], pa.large_string())})
    write_parquet(table, scratch / "first.parquet")
    annotate_shard(
        scratch / "first.parquet", "", scratch / "first.annotations", "first", _asked(parts, None)
    )


def compute_published_signals(run_file: Path, checkout: Path) -> PartFigures:
    """Compute RedPajama-v2's signals with its own code; texts are in memory, nothing is written."""
    texts = _texts(load(run_file, needs=()))
    with published_code(checkout) as code:
        started = time.process_time()
        for text in texts:
            document = code.document(text, domain=None, precompute_ngrams=True)
            for signal in code.signals.values():
                signal(document)
        seconds = time.process_time() - started
    return {"seconds": seconds, "text_bytes": _size(texts)}


def compute_published_minhash(run_file: Path, checkout: Path) -> PartFigures:
    """Make RedPajama-v2's words and bands with its own code; texts are in memory."""
    texts = _texts(load(run_file, needs=()))
    with published_code(checkout) as code:
        minhash = code.minhash(
            similarity_thresholds=[float(name) for name in BANDS_AND_ROWS],
            ngram_size=SHINGLE_WORDS,
            num_permutations=FUNCTIONS,
            seed=SEED,
        )
        started = time.process_time()
        for text in texts:
            minhash.compute_banded_signatures(tuple(code.normalize(text).split()))
        seconds = time.process_time() - started
    return {"seconds": seconds, "text_bytes": _size(texts)}


def _texts(config: RunConfig) -> list[str]:
    documents = all_documents(config.paths.data_dir)
    return [
        text
        for source in config.sources_with_text
        for split in ("train", "validation")
        for _, text in documents.iterate_texts(source, split)
    ]


def _size(texts: Sequence[str]) -> int:
    return sum(len(text.encode()) for text in texts)


MEASUREMENTS: dict[str, Callable[..., PartFigures]] = {
    function.__name__: function
    for function in (
        annotate_documents,
        compute_published_signals,
        compute_published_minhash,
    )
}
"""Name on the command line -> function."""


def main() -> None:
    """Call the named function and print what it has measured."""
    _, name, as_json = sys.argv
    arguments = json.loads(as_json)
    for key in ("run_file", "checkout"):
        if key in arguments:
            arguments[key] = Path(arguments[key])
    print(json.dumps(MEASUREMENTS[name](**arguments)))


if __name__ == "__main__":
    main()
