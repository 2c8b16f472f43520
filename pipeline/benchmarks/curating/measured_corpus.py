"""The documents that `pipeline benchmark curate` measures on: a sample of a corpus, in a scratch folder.

Reads a run file's finished documents, a folder of JSON lines, or the text of this Python installation;
writes raw files, questions to search for, and run files.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import orjson
import pyarrow as pa
import xxhash

from pipeline.benchmarks.common import run_python
from pipeline.benchmarks.curating.published_tree import write_published_tree, write_tree_run_file
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.config.yaml_files import Document, YamlValue, to_yaml
from pipeline.corpus.decontaminating.item_texts import ITEMS
from pipeline.corpus.folded_words import words_of
from pipeline.corpus.parquet_tables import write_parquet
from pipeline.corpus.selecting.kept_documents import all_documents
from pipeline.errors import DataError
from pipeline.logs import note
from pipeline.store.artifacts import read_manifest
from pipeline.store.counts import PrepareCounts
from pipeline.store.layout import data_folder
from pipeline.store.records import Manifest
from pipeline.store.tasks_folder import TasksFolder

QUESTIONS = 10_000
"""Questions that are searched for; a suite has about as many."""
QUESTION_WORDS = 80
"""Words of a question; one of HellaSwag with its answer has about as many."""
VOCABULARY_WORDS = 200_000
"""Words of the sample that questions are made of."""
TASK = "questions"
FULL_SHARD_BYTES = 128 * 2**20
"""Text in a shard of the documents, as `prepare.shard_text_bytes` has it."""
SPLITS = ("train", "validation")
INSTALLED: Document = {
    name: {"kind": "local-machine", "slice": name} for name in ("code", "readmes", "reference")
}
"""Sources of the text of this Python installation."""


@dataclass(frozen=True)
class MeasuredCorpus:
    """A sample of documents, prepared, with run files that ask for everything."""

    run_file: Path
    tree_run_file: Path
    """Run file of the same documents as a tree of RedPajama-v2, whose signals and bands are taken from it."""
    tasks_dir: Path
    """Folder of the questions that are searched for."""
    texts: Sequence[str]
    described: str
    """Where the documents are from."""

    @property
    def text_bytes(self) -> int:
        """Bytes of all texts in UTF-8."""
        return sum(len(text.encode()) for text in self.texts)


def make_corpus(corpus: Path | None, megabytes: int, scratch: Path) -> MeasuredCorpus:
    """Sample and prepare documents.

    `corpus`: a run file, a folder of JSON lines, or None. `megabytes`: 10^6 bytes of text of the
    sample, at most. Raises DataError where a run file's documents are missing, or there is no text.
    """
    config = _config_of(corpus, scratch)
    texts = sampled_texts(config, megabytes * 1_000_000)
    if not texts:
        raise DataError(f"{corpus}: has no documents to measure on; name another corpus")
    described = "this Python installation" if corpus is None else str(corpus)

    # Questions of words that the documents have, so that few of their words are unknown.
    tasks_dir = scratch / "questions"
    _write_questions(tasks_dir, texts)
    write_texts(scratch / "sample" / "texts.jsonl", texts)
    run_file = write_run_file(scratch / "sample", [scratch / "sample" / "texts.jsonl"], tasks_dir)
    write_published_tree(scratch / "tree", texts)
    tree_run_file = write_tree_run_file(scratch / "sample-of-tree", scratch / "tree")
    for each in (run_file, tree_run_file):
        run_python("pipeline", "prepare", str(each))
    return MeasuredCorpus(run_file, tree_run_file, tasks_dir, texts, described)


def _config_of(corpus: Path | None, scratch: Path) -> RunConfig:
    """Return the config whose documents are sampled; prepares those that are not a run file's."""
    if corpus is not None and corpus.is_file():
        config = load(corpus, needs=())
        documents: Manifest[PrepareCounts] | None = read_manifest(
            data_folder(config).documents_manifest
        )
        if documents is None:
            raise DataError(f"{config.paths.data_dir}: run `pipeline prepare {corpus}` first")
        return config
    if corpus is not None and not corpus.is_dir():
        raise DataError(f"{corpus}: is neither a run file nor a folder; name one that exists")

    sources: Document = INSTALLED
    if corpus is not None:
        sources = {"documents": {"kind": "jsonl", "paths": [str(corpus.resolve())]}}
    run_file = scratch / "whole" / "run.yaml"
    run_file.parent.mkdir(parents=True)
    run_file.write_text(
        to_yaml({"paths": _paths(run_file.parent), "sources": sources}, is_ascii=True)
    )
    note("benchmark: preparing the documents")
    run_python("pipeline", "prepare", str(run_file))
    return load(run_file, needs=())


def _paths(folder: Path) -> YamlValue:
    return {"data_dir": str(folder / "data"), "run_dir": str(folder / "run")}


def sampled_texts(config: RunConfig, most_bytes: int) -> list[str]:
    """Return texts of all sources, at most `most_bytes` of UTF-8 where there are more.

    Documents are taken in the order of a hash of their ids, so that each source has its share.
    """
    sizes = {key: len(text.encode()) for key, text in _all_texts(config)}
    chosen: set[str] = set()
    taken = 0
    for key in sorted(sizes, key=lambda key: xxhash.xxh3_64_intdigest(key.encode())):
        if taken + sizes[key] <= most_bytes:
            taken += sizes[key]
            chosen.add(key)
    return [text for key, text in _all_texts(config) if key in chosen]


def _all_texts(config: RunConfig) -> Iterator[tuple[str, str]]:
    documents = all_documents(config.paths.data_dir)
    for source in config.sources_with_text:
        for split in SPLITS:
            yield from documents.iterate_texts(source, split)


def write_texts(path: Path, texts: Iterable[str]) -> None:
    """Write texts as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.writelines(orjson.dumps({"text": text}) + b"\n" for text in texts)


def write_run_file(
    folder: Path, raw: Sequence[Path], tasks_dir: Path, shard_bytes: int = FULL_SHARD_BYTES
) -> Path:
    """Write a run file that asks for every part of the annotations of the documents in `raw`.

    `shard_bytes`: bytes of text in a shard of the documents.
    """
    settings: Document = {
        "paths": _paths(folder),
        "sources": {"documents": {"kind": "jsonl", "paths": [str(path) for path in raw]}},
        "prepare": {"shard_text_bytes": shard_bytes},
        "annotate": {"signals": ["redpajama-v2"]},
        "select": {
            "exact_duplicates": ["text_hash"],
            "near_duplicates": {"threshold": 0.8},
            "decontaminate": {"tasks": [TASK]},
            "max_removed": {"default": 1.0},
        },
        "evaluation": {"tasks_dir": str(tasks_dir)},
    }
    run_file = folder / "run.yaml"
    run_file.write_text(to_yaml(settings, is_ascii=True))
    return run_file


def _write_questions(tasks_dir: Path, texts: Sequence[str]) -> None:
    """Write questions of random words, each as often as the documents have it."""
    words = list(islice((word for text in texts for word in words_of(text)), VOCABULARY_WORDS))
    draw = random.Random(0)
    rows = [
        {
            "id": number,
            "hash": "",
            "prompt": " ".join(draw.choices(words, k=QUESTION_WORDS)),
            "answers": [""],
            "right": [0],
        }
        for number in range(QUESTIONS)
    ]
    write_parquet(pa.Table.from_pylist(rows, schema=ITEMS), TasksFolder(tasks_dir).items(TASK))
