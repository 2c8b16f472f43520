"""Samples of removed documents with the evidence: `removed/<reason>.jsonl`, for people.

Reads the candidates of all groups, and of the chosen documents the verdicts, texts and annotations.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from pipeline.config.curation.rules import parse_comparison
from pipeline.config.run_config import RunConfig
from pipeline.corpus.annotating.annotation_file import read_annotations
from pipeline.corpus.documents import listed_shards, read_documents
from pipeline.corpus.parquet_tables import read_parquet, row_numbers
from pipeline.corpus.selecting.conclude import CANDIDATES, SAMPLES
from pipeline.corpus.selecting.judged_shards import JudgedShard
from pipeline.corpus.selecting.rule_values import compared_values
from pipeline.corpus.selecting.verdicts import Verdict, read_verdicts
from pipeline.harmless_text import harmless
from pipeline.store.curation.annotation_folder import annotation_folder
from pipeline.store.curation.selection_folder import SELECT_AGAIN, SelectionFolder
from pipeline.store.files import file_record, write_atomic
from pipeline.store.layout import data_folder
from pipeline.store.records import FileRecord, Json, content_of

EXCERPT_CHARACTERS = 400
"""Characters of a text that a sample shows."""
RULE = "rule:"
"""What the reason begins with where a document does not pass a rule."""


def write_samples(
    config: RunConfig,
    folder: SelectionFolder,
    candidates: Sequence[Path],
    shards: Sequence[JudgedShard],
) -> dict[str, FileRecord]:
    """Write samples of each reason, SAMPLES of each source, chosen by a hash of the id.

    `folder`: of the verdicts, and of the samples. Returns the record of each
    file by its path below that folder.
    """
    # The smallest positions of all groups, with one group in memory.
    chosen: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for path in candidates:
        for row in read_parquet(path, CANDIDATES, SELECT_AGAIN).to_pylist():
            source = row["id"].partition("/")[0]
            of_reason = chosen.setdefault((row["reason"], source), [])
            of_reason.append((row["position"], row["id"]))
            of_reason.sort()
            del of_reason[SAMPLES:]

    shard_with = {shard.identity: shard for shard in shards}
    files: dict[str, FileRecord] = {}
    for reason in dict.fromkeys(reason for reason, _ in chosen):
        lines: list[str] = []
        for (other, _), positions in chosen.items():
            if other == reason:
                identities = [identity for _, identity in positions]
                lines += [
                    _line(sample) for sample in _samples(config, folder, identities, shard_with)
                ]
        path = folder.samples(reason)
        write_atomic(path, "".join(lines))
        files[path.relative_to(folder.path).as_posix()] = file_record(path)
    return files


def _line(sample: Mapping[str, Json]) -> str:
    return json.dumps(sample, ensure_ascii=False) + "\n"


def _samples(
    config: RunConfig,
    folder: SelectionFolder,
    identities: Iterable[str],
    shard_with: Mapping[str, JudgedShard],
) -> list[dict[str, Json]]:
    """Return the evidence on documents, reading each shard once, in the order of their ids."""
    by_shard: dict[str, list[int]] = {}
    for identity in sorted(identities):
        shard, _, row = identity.rpartition("/")
        by_shard.setdefault(shard, []).append(int(row))
    samples: list[dict[str, Json]] = []
    for identity, rows in by_shard.items():
        name = shard_with[identity].name
        verdicts = read_verdicts(folder.verdicts(name)).take(rows).to_pylist()
        texts = read_documents(data_folder(config).documents / name, rows, ["text"])
        values = measured_values(config, name, rows)
        for verdict, document, measured in zip(verdicts, texts, values, strict=True):
            samples.append(_sample(config, identity, verdict, document["text"], measured))
    return samples


def _sample(
    config: RunConfig, identity: str, verdict: Verdict, text: str, measured: Mapping[str, Json]
) -> dict[str, Json]:
    """Return the evidence on one removed document."""
    assert config.select is not None, "the stage is asked for"
    failed = [reason.removeprefix(RULE) for reason in verdict["reasons"] if RULE in reason]
    return {
        "id": f"{identity}/{verdict['row']}",
        "reason": verdict["reason"],
        "reasons": verdict["reasons"],
        "failed": {config.select.rules[rule]: measured[rule] for rule in failed},
        "lost_to": verdict["lost_to"],
        "jaccard": verdict["jaccard"],
        "characters": len(text),
        "excerpt": harmless(text[:EXCERPT_CHARACTERS]),
    }


def measured_values(
    config: RunConfig, shard: str, rows: Sequence[int]
) -> list[dict[str, float | str | None]]:
    """Return for each row of a shard the value that each rule compares, by the rule's name.

    None where the value is undefined.
    """
    assert config.select is not None, "the stage is asked for"
    comparisons = {name: parse_comparison(text) for name, text in config.select.rules.items()}
    columns = list(dict.fromkeys(comparison.column for comparison in comparisons.values()))
    if not columns:
        return [{} for _ in rows]
    path = annotation_folder(config).file(shard)
    documents = content_of(listed_shards(data_folder(config).documents)[shard])
    parts: list[pa.Table] = []
    first = 0
    for table in read_annotations(path, documents, columns):
        inside = [row - first for row in rows if first <= row < first + table.num_rows]
        parts.append(table.take(row_numbers(inside)))
        first += table.num_rows
    table = pa.concat_tables(parts)
    values: list[dict[str, float | str | None]] = [{} for _ in rows]
    for name, comparison in comparisons.items():
        column = table[comparison.column].combine_chunks()
        if isinstance(comparison.value, str):
            found = column.to_pylist()
        else:
            numbers = compared_values(comparison, column).tolist()
            found = [None if number != number else number for number in numbers]
        for row, value in zip(values, found, strict=True):
            row[name] = value
    return values
