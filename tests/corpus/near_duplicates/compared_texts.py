"""Small shards of documents with bands, for tests of the comparison, and the verdicts by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.config.run_sections import Executor
from pipeline.corpus.annotating.annotation_file import AnnotationWriter
from pipeline.corpus.documents import ShardWriter
from pipeline.corpus.near_duplicates.band_records import BANDS
from pipeline.corpus.near_duplicates.compared_shards import ComparedShard
from pipeline.corpus.near_duplicates.emptied_documents import EmptiedDocuments
from pipeline.corpus.near_duplicates.near_duplicates import NearDuplicates, find_near_duplicates
from pipeline.corpus.near_duplicates.shard_inputs import KEEP
from pipeline.corpus.near_duplicates.shingles import jaccard, shingles_of
from pipeline.corpus.near_duplicates.verdict_files import read_near_duplicates
from pipeline.corpus.parquet_tables import write_parquet
from pipeline.store.files import fingerprint
from pipeline.work.workers import workers

WORDS = 2
"""Words of a shingle in these tests: a text of n different words has n - 1 shingles."""
CHECKSUM = "of-these-documents"
"""Content of every shard in these tests."""
ALONE = Executor(workers=1)
Verdicts = dict[str, tuple[str, float]]
"""Id of a removed document -> the id that it lost to, and their similarity."""


def ids_in(start: int, end: int) -> str:
    """Return a text of the words `w<start>` to `w<end - 1>`."""
    return " ".join(f"w{number}" for number in range(start, end))


def write_shard(
    folder: Path,
    source: str,
    texts: Sequence[str],
    group: int = 0,
    bands: Sequence[Sequence[int] | None] | None = None,
    keep: Sequence[bool] | None = None,
    stem: str = "",
    cut_out: Sequence[Sequence[tuple[int, int]]] | None = None,
) -> ComparedShard:
    """Write documents with their bands; without `bands` all of them share one."""
    writer = ShardWriter(folder / "documents" / source, "train", stem or "00", 10**8)
    (folder / "documents" / source).mkdir(parents=True, exist_ok=True)
    for row, text in enumerate(texts):
        writer.add(text.encode(), b"{}", b"raw.jsonl", row)
        if row % 3 == 2:
            writer._write_row_group()
    (name,) = (name for name in writer.close() if name.endswith(".parquet"))
    annotations = folder / "annotations" / source / name
    values = [[1, 2]] * len(texts) if bands is None else bands
    write_column(annotations, BANDS, values)
    keep_path = None
    if keep is not None:
        keep_path = folder / "keep" / source / name
        cuts = [
            [{"start": start, "end": end} for start, end in of_text]
            for of_text in cut_out or [()] * len(texts)
        ]
        write_parquet(pa.table({"keep": list(keep), "cut_out": cuts}, KEEP), keep_path)
    return ComparedShard(
        source=source,
        stem=Path(name).stem,
        documents=folder / "documents" / source / name,
        checksum=CHECKSUM,
        annotations=annotations,
        keep=keep_path,
        group=group,
        rows=len(texts),
        file_bytes=sum(map(len, texts)),
        fingerprint=fingerprint([list(texts), values, keep]),
    )


def write_column(
    path: Path, field: pa.Field, values: Sequence[object], checksum: str = CHECKSUM
) -> None:
    """Write a file of annotations with one column, in two row groups where there are several rows."""
    with AnnotationWriter(path, [field], checksum, {}) as writer:
        for part in (values[:1], values[1:]):
            ids = pa.array([""] * len(part), pa.string())
            writer.add([ids, pa.array(part, field.type)])
        writer.finish()


def compare(
    shards: Sequence[ComparedShard],
    folder: Path,
    threshold: float = 0.8,
    emptied: EmptiedDocuments | None = None,
) -> NearDuplicates:
    """Run the comparison in this process."""
    with workers(ALONE) as crew:
        return find_near_duplicates(
            shards, folder, crew, threshold, WORDS, bands=2, emptied=emptied
        )


def verdicts_of(found: NearDuplicates) -> Verdicts:
    """Return all verdicts of a comparison."""
    verdicts: Verdicts = {}
    for name, path in found.paths.items():
        source, stem = name.split("~")
        for row in read_near_duplicates(path).to_pylist():
            verdicts[f"{source}/{stem}/{row['row']}"] = (row["lost_to"], row["jaccard"])
    return verdicts


def one_by_one(
    shards: Sequence[ComparedShard],
    texts: Mapping[str, Sequence[str]],
    bands: Mapping[str, Sequence[Sequence[int] | None]],
    threshold: float = 0.8,
) -> Verdicts:
    """Return the verdicts by going through all documents in the order of priority, one by one.

    `texts`, `bands`: by the name of the shard.
    """
    documents = [
        (shard.group, -len(text.encode()), place, row, shard, text)
        for place, shard in enumerate(sorted(shards, key=lambda each: (each.group, each.name)))
        for row, text in enumerate(texts[shard.name])
    ]
    staying: list[tuple[str, Sequence[int] | None, np.ndarray]] = []
    verdicts: Verdicts = {}
    for _, _, _, row, shard, text in sorted(documents, key=lambda each: each[:4]):
        own = bands[shard.name][row]
        shingles = shingles_of(text, WORDS)
        for other, other_bands, other_shingles in staying:
            shares = own and other_bands and any(map(int.__eq__, own, other_bands))
            if shares and jaccard(shingles, other_shingles) >= threshold:
                similarity = jaccard(shingles, other_shingles)
                verdicts[shard.document_id(row)] = (other, similarity)
                break
        else:
            staying.append((shard.document_id(row), own, shingles))
    return verdicts


def with_group(shard: ComparedShard, group: int) -> ComparedShard:
    """Return a shard of another group."""
    return replace(shard, group=group)


def pairs_of(texts: Sequence[str]) -> list[float]:
    """Return the similarity of every pair of texts."""
    sets = [shingles_of(text, WORDS) for text in texts]
    return [jaccard(first, second) for first, second in combinations(sets, 2)]
