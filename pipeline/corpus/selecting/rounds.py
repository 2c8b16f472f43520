"""The rounds of `select`: each one is a list of work items over all shards.

Every round writes below `selection/.unfinished`, the last one the verdicts, which nothing reads
there until they take the place of earlier ones. A round whose
inputs are the same is done.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config.curation.select_section import DuplicateKey, Select
from pipeline.config.run_config import RunConfig
from pipeline.corpus.decontaminating.decontaminate import Decontaminated, decontaminate
from pipeline.corpus.decontaminating.searched_tasks import searched_tasks
from pipeline.corpus.documents import SHARD_SUFFIX
from pipeline.corpus.near_duplicates.emptied_documents import EmptiedDocuments
from pipeline.corpus.near_duplicates.near_duplicates import NearDuplicates, find_near_duplicates
from pipeline.corpus.near_duplicates.repeated_paragraphs import (
    RepeatedParagraphs,
    find_repeated_paragraphs,
)
from pipeline.corpus.selecting.compared_documents import (
    KeptSoFar,
    compared_name,
    compared_shards,
    rows_of_shards,
    write_kept,
)
from pipeline.corpus.selecting.conclude import ConcludedShards, FoundOfGroup, conclude_shards
from pipeline.corpus.selecting.duplicates import (
    LoserFiles,
    WrittenRound,
    find_losers,
    keys_path,
    losers_path,
    partitions_of,
    write_keys,
)
from pipeline.corpus.selecting.emptied import SUFFIX, EmptiedShards, write_emptied_rows
from pipeline.corpus.selecting.judge import JudgedShards, JudgeSettings, judge_shards
from pipeline.corpus.selecting.judged_shards import JudgedShard, ShardGroup
from pipeline.corpus.selecting.shard_list import ShardList
from pipeline.store import versions
from pipeline.store.curation.annotation_folder import annotation_folder
from pipeline.store.curation.selection_folder import SelectionFolder
from pipeline.store.files import fingerprint
from pipeline.store.layout import data_folder
from pipeline.store.records import FileRecord, Json
from pipeline.work.executor import run_tasks
from pipeline.work.task import Task
from pipeline.work.workers import Workers

ORDER_OF_KEYS: tuple[DuplicateKey, ...] = ("id", "url", "text_hash")
"""Keys are compared in this order, whatever the order in the run file."""


@dataclass
class Rounds:
    """The rounds of one run of the stage, and what they have found so far."""

    config: RunConfig
    folder: SelectionFolder
    groups: Sequence[ShardGroup]
    shard_list: ShardList
    crew: Workers
    drafts: Mapping[str, JudgedShards] = field(default_factory=dict[str, JudgedShards])
    losses: list[LoserFiles] = field(default_factory=list[LoserFiles])
    contaminated: Decontaminated | None = None
    near: NearDuplicates | None = None
    paragraphs: RepeatedParagraphs | None = None
    made_from: list[Json] = field(default_factory=list["Json"])
    """What identifies the files that the rounds so far have written."""

    @property
    def select(self) -> Select:
        """The section of the run file, without which the stage is not asked for."""
        assert self.config.select is not None, "the stage is asked for"
        return self.config.select

    @property
    def shards(self) -> list[JudgedShard]:
        """All shards in their order."""
        return [shard for group in self.groups for shard in group.shards]

    @property
    def folders(self) -> dict[str, Path]:
        """Folders that work items read and write."""
        return {
            "documents": data_folder(self.config).documents,
            "annotations": annotation_folder(self.config).path,
            "drafts": self.folder.round("drafts"),
            "selection": self.folder.beside.path,
        }

    def run(self) -> dict[str, ConcludedShards]:
        """Run all rounds that the section asks for; return group -> result of the last one."""
        rows: Mapping[str, int] = {}
        section = self.select
        if section.decontaminate or section.near_duplicates or section.paragraph_duplicates:
            rows = rows_of_shards(self.folders["documents"], self.shards)

        # Each document alone, then documents with the same key.
        self._find_contaminated(rows)
        self._judge()
        for key in ORDER_OF_KEYS:
            if key in section.exact_duplicates:
                self._compare_key(key)

        self._find_copies(rows)
        return self._conclude()

    def _find_contaminated(self, rows: Mapping[str, int]) -> None:
        section = self.select.decontaminate
        if section is None:
            return
        shards = compared_shards(self.folders, self.shards, rows)
        tasks = searched_tasks(section, self.config.evaluation.tasks_dir)
        folder = self.folder.round("contaminated")
        self.contaminated = decontaminate(shards, folder, self.crew, section, tasks)
        self.made_from.append(dict(self.contaminated.digests))

    def _judge(self) -> None:
        """Judge every document alone."""
        # By what.
        section = self.select
        settings = JudgeSettings(
            section.rules,
            section.pii,
            takes_published="published" in section.exact_duplicates,
            cut_spans=section.cut_spans,
        )
        decides: Json = [
            dict(settings.rules),
            settings.pii,
            settings.takes_published,
            [cut.model_dump() for cut in section.cut_spans],
        ]
        paths: Mapping[str, Path] = {}
        if self.contaminated is not None:
            paths = self.contaminated.paths

        # One group of shards after another.
        def arguments(group: ShardGroup) -> dict[str, Any]:
            return {
                "folders": self.folders,
                "shards": group.shards,
                "settings": settings,
                "contaminated": _of_group(paths, group),
            }

        before = [versions.SELECT, decides, *self.made_from]
        folder = self.folders["drafts"]
        label = "select: every document alone"
        self.drafts = self._run(judge_shards, arguments, before, folder, label)
        self.made_from.extend(_records(self.drafts))

    def _compare_key(self, key: DuplicateKey) -> None:
        """Find the documents that lose to another one with the same key."""
        # Keys by group, divided by their hash.
        partitions = partitions_of(sum(result["documents"] for result in self.drafts.values()))
        folder = self.folder.round(f"keys-{key}")

        def arguments(group: ShardGroup) -> dict[str, Any]:
            return {
                "folders": self.folders,
                "shards": group.shards,
                "key": key,
                "earlier": tuple(self.losses),
                "group": group.number,
                "partitions": partitions,
                "output": keys_path(folder, group.number),
            }

        before = [versions.SELECT, key, partitions, *self.made_from]
        keyed: dict[str, WrittenRound] = self._run(
            write_keys, arguments, before, folder, f"select: {key} of documents"
        )

        # Losers of each part, divided by group.
        records = _records(keyed)
        losers = self.folder.round(f"losers-{key}")
        before = [versions.SELECT, key, partitions, self.shard_list.checksum, *records]
        tasks = [
            Task(
                name=f"{part:06d}",
                function=find_losers,
                arguments={
                    "keys": folder,
                    "groups": len(self.groups),
                    "part": part,
                    "shard_list": self.shard_list,
                    "output": losers_path(losers, part),
                },
                fingerprint=fingerprint([before, part]),
            )
            for part in range(partitions)
        ]
        lost: dict[str, WrittenRound] = run_tasks(
            tasks, losers, self.crew, f"select: equal {key}", "parts"
        )
        self.made_from.extend(_records(lost))
        self.losses.append(LoserFiles("exact-duplicate", losers, partitions))

    def _kept_so_far(self, name: str) -> KeptSoFar:
        """Write which documents nothing has removed so far."""
        folder = self.folder.round(name)
        near = {} if self.near is None else self.near.paths

        def arguments(group: ShardGroup) -> dict[str, Any]:
            return {
                "drafts": self.folders["drafts"],
                "shards": group.shards,
                "group": group.number,
                "losses": tuple(self.losses),
                "near": _of_group(near, group),
                "output": folder,
            }

        before = [versions.SELECT, self.shard_list.checksum, *self.made_from]
        kept: dict[str, WrittenRound] = self._run(
            write_kept, arguments, before, folder, "select: what is left"
        )
        return KeptSoFar(folder, _files_of(kept))

    def _find_copies(self, rows: Mapping[str, int]) -> None:
        """Find documents that are almost the same, and paragraphs of those that are left.

        A document of which its repeated paragraphs leave nothing is no copy that stays, so others
        are compared again without it, until no verdict changes. It cannot go on for ever: verdicts
        depend on documents that come before alone, so each time at least one more is final.
        """
        before = list(self.made_from)
        kept: KeptSoFar | None = None
        if self.select.near_duplicates:
            kept = self._kept_so_far("kept-of-copies")
        emptied = EmptiedDocuments()
        while True:
            # Files of one time are not those of another, so that an interrupted one goes on.
            earlier = self.near
            if kept is not None:
                self.near = self._find_near_duplicates(rows, kept, emptied)
                if earlier is not None and earlier.digests == self.near.digests:
                    return
                self.made_from = [*before, dict(self.near.digests)]
            self._find_paragraphs(rows, emptied.rounds)
            if self.near is None or self.paragraphs is None:
                return
            found = self._find_emptied(self.near, self.paragraphs)
            if found.digest == emptied.digest:
                return
            emptied = found

    def _find_near_duplicates(
        self, rows: Mapping[str, int], kept: KeptSoFar, emptied: EmptiedDocuments
    ) -> NearDuplicates:
        section = self.select.near_duplicates
        assert section is not None, "compared where that is asked for"
        assert self.config.annotate is not None, "refused when the run file is loaded"
        bands = self.config.annotate.minhash
        assert bands is not None, "refused when the run file is loaded"
        shards = compared_shards(self.folders, self.shards, rows, kept)
        return find_near_duplicates(
            shards,
            self.folder.comparison,
            self.crew,
            section.threshold,
            bands.words,
            bands.bands,
            emptied=emptied,
        )

    def _find_paragraphs(self, rows: Mapping[str, int], first_round: int) -> None:
        """Find what to cut of documents that are left. `first_round`: of their comparison."""
        section = self.select.paragraph_duplicates
        if section is None:
            return
        kept = self._kept_so_far(f"kept-of-near-{first_round}")
        shards = compared_shards(self.folders, self.shards, rows, kept)
        folder = self.folder.round(f"paragraphs-{first_round}")
        self.paragraphs = find_repeated_paragraphs(
            shards, folder, self.crew, section.fewest_characters
        )
        self.made_from.append(dict(self.paragraphs.digests))

    def _find_emptied(
        self, near: NearDuplicates, paragraphs: RepeatedParagraphs
    ) -> EmptiedDocuments:
        """Write which compared documents are blank without their repeated paragraphs."""
        folder = self.folder.round(f"emptied-{near.rounds}")

        def arguments(group: ShardGroup) -> dict[str, Any]:
            return {
                "folders": self.folders,
                "shards": group.shards,
                "paragraphs": _of_group(paragraphs.paths, group),
                "comparison": self.folder.comparison,
                "output": folder,
            }

        before = [versions.SELECT, self.shard_list.checksum, *self.made_from]
        done: dict[str, EmptiedShards] = self._run(
            write_emptied_rows, arguments, before, folder, "select: emptied documents"
        )
        records = _files_of(done)
        paths: dict[str, Path] = {}
        checksums: dict[str, str] = {}
        for shard in self.shards:
            name = f"{shard.name}{SUFFIX}"
            if name in records:
                paths[compared_name(shard)] = folder / name
                checksums[compared_name(shard)] = records[name]["checksum"]
        return EmptiedDocuments(paths, checksums, near.rounds, near.compared)

    def candidates(self, group: ShardGroup) -> Path:
        """Return the file of the removed documents of a group that may be shown."""
        return self.folder.beside.path / ".candidates" / f"{group.name}{SHARD_SUFFIX}"

    def _conclude(self) -> dict[str, ConcludedShards]:
        """Write the verdicts; return group -> result."""
        near = {} if self.near is None else self.near.paths
        paragraphs = {} if self.paragraphs is None else self.paragraphs.paths

        def arguments(group: ShardGroup) -> dict[str, Any]:
            found = FoundOfGroup(
                group.number,
                tuple(self.losses),
                _of_group(near, group),
                _of_group(paragraphs, group),
            )
            return {
                "folders": self.folders,
                "shards": group.shards,
                "found": found,
                "shard_list": self.shard_list,
                "candidates": self.candidates(group),
            }

        before = [versions.SELECT, self.shard_list.checksum, *self.made_from]
        folder = self.folders["selection"]
        return self._run(conclude_shards, arguments, before, folder, "select: verdicts")

    def _run(
        self,
        function: Callable[..., Any],
        arguments: Callable[[ShardGroup], dict[str, Any]],
        before: Sequence[Json],
        folder: Path,
        label: str,
    ) -> dict[str, Any]:
        """Run a work item for each group of shards. `before`: everything that decides all of them."""
        decides = fingerprint(before)
        tasks = [
            Task(
                name=group.name,
                function=function,
                arguments=arguments(group),
                fingerprint=fingerprint([decides, group.shards]),
                size=group.size,
            )
            for group in self.groups
        ]
        return run_tasks(tasks, folder, self.crew, label)


def _of_group(paths: Mapping[str, Path], group: ShardGroup) -> dict[str, Path]:
    """Return the files of the shards of a group by the shards' paths, from those by their names."""
    return {
        shard.name: paths[compared_name(shard)]
        for shard in group.shards
        if compared_name(shard) in paths
    }


def _files_of(results: Mapping[str, EmptiedShards | WrittenRound]) -> dict[str, FileRecord]:
    """Return all files of a round, by path below its folder."""
    return {name: each for result in results.values() for name, each in result["files"].items()}


def _records(results: Mapping[str, JudgedShards | WrittenRound]) -> list[Json]:
    """Return what identifies the files of a round."""
    return [
        record["checksum"] for result in results.values() for record in result["files"].values()
    ]
