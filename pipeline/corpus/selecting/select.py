"""The stage `select`: decide which documents the later stages read, and which parts of them.

Reads `data_dir/documents` and `data_dir/annotations`; writes `data_dir/selection`: a verdict on each
document, samples of what was removed, and a hash for each shard of what readers take of it. Works in
rounds, each a list of work items: every document alone (`judge.py`), documents with the same key
(`duplicates.py`), the verdicts (`conclude.py`).
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from pipeline.config.curation.select_section import DuplicateKey, Select
from pipeline.config.run_config import RunConfig
from pipeline.corpus.documents import SHARD_SUFFIX
from pipeline.corpus.parquet_tables import write_parquet
from pipeline.corpus.selecting.conclude import (
    ConcludedShards,
    conclude_shards,
)
from pipeline.corpus.selecting.duplicates import (
    LoserFiles,
    WrittenRound,
    find_losers,
    keys_path,
    losers_path,
    partitions_of,
    write_keys,
)
from pipeline.corpus.selecting.judge import JudgedShards, JudgeSettings, judge_shards
from pipeline.corpus.selecting.judged_shards import ShardGroup, judged_shards, shard_groups
from pipeline.corpus.selecting.kept_documents import DIGESTS
from pipeline.corpus.selecting.removals import (
    added_counts,
    closing_lines,
    headline,
    refuse_wrong_counts,
)
from pipeline.corpus.selecting.removed_samples import write_samples
from pipeline.corpus.selecting.shard_list import ShardList, write_shard_list
from pipeline.corpus.selecting.start import check_columns
from pipeline.store import versions
from pipeline.store.artifacts import Result
from pipeline.store.curation.annotation_folder import annotation_folder
from pipeline.store.curation.selection_folder import (
    SelectionFolder,
    selection_folder,
)
from pipeline.store.curation.verdict_counts import SelectCounts
from pipeline.store.files import fingerprint, remove_unlisted
from pipeline.store.layout import data_folder
from pipeline.store.manifests.shard_places import logical_name
from pipeline.store.records import FileRecord, ListedFile
from pipeline.work.executor import run_tasks
from pipeline.work.task import Task
from pipeline.work.workers import Workers, workers

ORDER_OF_KEYS: tuple[DuplicateKey, ...] = ("id", "url", "text_hash")
"""Keys are compared in this order, whatever the order in the run file."""


@dataclass(frozen=True)
class _Rounds:
    """What all rounds of the stage share."""

    config: RunConfig
    folder: SelectionFolder
    groups: Sequence[ShardGroup]
    shard_list: ShardList
    crew: Workers

    @property
    def select(self) -> Select:
        """The section of the run file, without which the stage is not asked for."""
        assert self.config.select is not None, "the stage is asked for"
        return self.config.select

    @property
    def folders(self) -> dict[str, Path]:
        """Folders that work items read."""
        return {
            "documents": data_folder(self.config).documents,
            "annotations": annotation_folder(self.config).path,
            "drafts": self.folder.round("drafts"),
        }


def select(config: RunConfig) -> Result[SelectCounts]:
    """Write a verdict on every document.

    Raises ConfigError for a rule over a column that the annotations do not have; DataError for
    files that are damaged or do not belong together, and after all verdicts, with the numbers, where
    a reason removes more of a source than `select.max_removed` allows, or everything.
    """
    folder = selection_folder(config)
    assert config.select is not None, "the stage is asked for"
    shards = judged_shards(config, config.select.reads_annotations)
    check_columns(config, shards)
    groups = shard_groups(shards)
    shard_list = write_shard_list(groups, folder.round("shards") / f"list{SHARD_SUFFIX}")

    # The same workers take all rounds.
    with workers(config.executor) as crew:
        rounds = _Rounds(config, folder, groups, shard_list, crew)
        drafts = _judge(rounds)
        losses, made_from = _find_duplicates(rounds, drafts)
        concluded = _conclude(rounds, losses, [*_records(drafts), *made_from])

    # Samples come before a refusal, which asks people to look at them.
    counts = added_counts(config, groups, concluded)
    counts["clamped_spans"] = sum(result["clamped"] for result in drafts.values())
    candidates = [_candidates_path(folder, group) for group in groups]
    samples = write_samples(config, candidates, shards)
    refuse_wrong_counts(config, counts)

    # What readers look at; intermediate files go once nothing can stop the stage.
    files: dict[str, ListedFile] = {**samples}
    for result in concluded.values():
        files |= {name: result["files"][name] for name in result["digests"]}
    digests = {
        logical_name(name): digest
        for result in concluded.values()
        for name, digest in result["digests"].items()
    }
    files |= _write_digests(folder, digests)
    shutil.rmtree(folder.unfinished, ignore_errors=True)
    patterns = [f"*/*{SHARD_SUFFIX}", f"*/*/*{SHARD_SUFFIX}", "removed/*.jsonl", "*/.*.partial"]
    remove_unlisted(folder.path, list(files), patterns)
    counts["headline"] = headline(counts)
    return Result(counts, files, closing=closing_lines(counts))


def _judge(rounds: _Rounds) -> dict[str, JudgedShards]:
    """Judge every document alone; return group -> result."""
    # What is judged by.
    section = rounds.select
    settings = JudgeSettings(
        section.rules, section.pii, takes_published="published" in section.exact_duplicates
    )
    decides = [dict(settings.rules), settings.pii, settings.takes_published]

    # A work item for each group of shards.
    folder = rounds.folder.round("drafts")
    tasks = [
        Task(
            name=group.name,
            function=judge_shards,
            arguments={
                "documents_dir": rounds.folders["documents"],
                "annotations_dir": rounds.folders["annotations"],
                "round_dir": folder,
                "shards": group.shards,
                "settings": settings,
            },
            fingerprint=fingerprint([versions.SELECT, group.shards, decides]),
            size=group.size,
        )
        for group in rounds.groups
    ]
    return run_tasks(tasks, folder, rounds.crew, "select: every document alone")


def _records(results: Mapping[str, JudgedShards | WrittenRound]) -> list[FileRecord]:
    return [record for result in results.values() for record in result["files"].values()]


def _find_duplicates(
    rounds: _Rounds, drafts: Mapping[str, JudgedShards]
) -> tuple[list[LoserFiles], list[FileRecord]]:
    """Compare documents by one key after another.

    Returns the files of losers, and their records.
    """
    partitions = partitions_of(sum(result["documents"] for result in drafts.values()))
    made_from: list[FileRecord] = []
    losses: list[LoserFiles] = []
    for key in ORDER_OF_KEYS:
        if key in rounds.select.exact_duplicates:
            keyed = _write_keys(rounds, key, losses, partitions, [*_records(drafts), *made_from])
            lost = _find_losers(rounds, key, partitions, _records(keyed))
            made_from += _records(lost)
            losses.append(
                LoserFiles("exact-duplicate", rounds.folder.round(f"losers-{key}"), partitions)
            )
    return losses, made_from


def _write_keys(
    rounds: _Rounds,
    key: DuplicateKey,
    earlier: Sequence[LoserFiles],
    partitions: int,
    made_from: Sequence[FileRecord],
) -> dict[str, WrittenRound]:
    folder = rounds.folder.round(f"keys-{key}")
    before = fingerprint([versions.SELECT, key, partitions, made_from])
    tasks = [
        Task(
            name=group.name,
            function=write_keys,
            arguments={
                "folders": rounds.folders,
                "shards": group.shards,
                "key": key,
                "earlier": tuple(earlier),
                "group": group.number,
                "partitions": partitions,
                "output": keys_path(folder, group.number),
            },
            fingerprint=fingerprint([before, group.shards]),
            size=group.size,
        )
        for group in rounds.groups
    ]
    return run_tasks(tasks, folder, rounds.crew, f"select: {key} of documents")


def _find_losers(
    rounds: _Rounds, key: DuplicateKey, partitions: int, made_from: Sequence[FileRecord]
) -> dict[str, WrittenRound]:
    folder = rounds.folder.round(f"losers-{key}")
    before = fingerprint([versions.SELECT, key, partitions, rounds.shard_list.checksum, made_from])
    tasks = [
        Task(
            name=f"{part:06d}",
            function=find_losers,
            arguments={
                "keys": rounds.folder.round(f"keys-{key}"),
                "groups": len(rounds.groups),
                "part": part,
                "shard_list": rounds.shard_list,
                "output": losers_path(folder, part),
            },
            fingerprint=fingerprint([before, part]),
            size=sum(record["bytes"] for record in made_from) / partitions,
        )
        for part in range(partitions)
    ]
    return run_tasks(tasks, folder, rounds.crew, f"select: equal {key}")


def _candidates_path(folder: SelectionFolder, group: ShardGroup) -> Path:
    return folder.round("samples") / f"{group.name}{SHARD_SUFFIX}"


def _conclude(
    rounds: _Rounds,
    losses: Sequence[LoserFiles],
    made_from: Sequence[FileRecord],
) -> dict[str, ConcludedShards]:
    """Write the verdicts; return group -> result."""
    before = fingerprint([versions.SELECT, made_from, rounds.shard_list.checksum])
    tasks = [
        Task(
            name=group.name,
            function=conclude_shards,
            arguments={
                "selection": rounds.folder.path,
                "drafts": rounds.folders["drafts"],
                "shards": group.shards,
                "group": group.number,
                "losses": tuple(losses),
                "shard_list": rounds.shard_list,
                "candidates": _candidates_path(rounds.folder, group),
            },
            fingerprint=fingerprint([before, group.shards]),
            size=group.size,
        )
        for group in rounds.groups
    ]
    return run_tasks(tasks, rounds.folder.path, rounds.crew, "select: verdicts")


def _write_digests(folder: SelectionFolder, digests: Mapping[str, str]) -> dict[str, FileRecord]:
    """Write the hash of what readers take of each shard; return the record of the file."""
    names = sorted(digests)
    columns = {"shard": names, "digest": [digests[name] for name in names]}
    record = write_parquet(pa.table(columns, schema=DIGESTS), folder.digests)
    return {folder.digests.name: record}
