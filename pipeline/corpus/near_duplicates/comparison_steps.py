"""The steps before the rounds of a comparison, each a list of work items over shards or partitions."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from pipeline.corpus.near_duplicates.band_records import (
    RecordedShard,
    partitions_for,
    write_band_records,
)
from pipeline.corpus.near_duplicates.compared_shards import ComparedShards
from pipeline.corpus.near_duplicates.comparison_folder import ComparisonFolder
from pipeline.corpus.near_duplicates.groups import (
    BANDS,
    PREFIXES,
    GroupedPartition,
    write_groups,
)
from pipeline.corpus.near_duplicates.kept_comparison import kept_bands
from pipeline.corpus.near_duplicates.rare_shingles import (
    prefix_length,
    write_prefix_records,
    write_rarity,
)
from pipeline.corpus.near_duplicates.shingles import ShingledShard, write_shingles
from pipeline.store import versions
from pipeline.store.files import fingerprint, output_digest
from pipeline.store.layout import task_records
from pipeline.store.records import FileRecord, Json
from pipeline.work.executor import run_tasks
from pipeline.work.stored_results import stored_results
from pipeline.work.task import Task
from pipeline.work.workers import Workers

LABEL_OF_GROUPS = "groups that share {}"


class WrittenFiles(TypedDict):
    """The part of every result here that tells what was written."""

    files: Mapping[str, FileRecord]
    """Path below the folder of the step -> size and checksum."""


def digest_of(results: Mapping[int, WrittenFiles]) -> str:
    """Return the hash of all files of a step."""
    return fingerprint([output_digest(result["files"]) for result in results.values()])


def bytes_of(results: Mapping[int, WrittenFiles]) -> int:
    """Return the size of all files of a step."""
    return sum(
        record["bytes"] for result in results.values() for record in result["files"].values()
    )


class ComparisonSteps:
    """The steps of one comparison, in its folder."""

    def __init__(self, comparison: ComparedShards, folder: Path, crew: Workers) -> None:
        """Write the table of the shards, for the work items."""
        self._comparison = comparison
        self.shards = comparison.shards
        """The shards in the order of their numbers."""
        self._folder = folder
        self._files = ComparisonFolder(folder)
        self._crew = crew
        # The table's name tells its content, so a worker that stays never takes an old one.
        self.table = self._files.table(comparison.fingerprint_of_table)
        comparison.write(self.table)
        for other in self._files.tables():
            if other != self.table:
                other.unlink(missing_ok=True)

    def bands_decide(self, partitions: int) -> str:
        """Return the hash of everything that decides the records of bands."""
        contents = [shard.fingerprint for shard in self.shards]
        order = self._comparison.fingerprint
        return fingerprint([versions.NEAR_DUPLICATES, partitions, order, contents])

    def band_records(self, partitions: int) -> dict[int, RecordedShard]:
        """Write the records of the bands of all shards, unless their groups are kept."""
        kept = kept_bands(self._folder, self.bands_decide(partitions))
        if kept is not None:
            tasks = self._partition_tasks(
                write_groups,
                {"family": BANDS, "folder": self._folder},
                kept,
                partitions,
                LABEL_OF_GROUPS.format(BANDS),
            )
            done = stored_results(tasks, task_records(self._files.groups.path))
            if len(done) == len(tasks):
                return kept
        output = self._files.bands.path
        arguments = {"partitions": partitions, "folder": self._folder}
        return self.by_shard(write_band_records, arguments, [partitions], output, "bands")

    def groups(
        self, partitions: int, recorded: Mapping[int, RecordedShard], family: str = BANDS
    ) -> dict[int, GroupedPartition]:
        """Group the documents that share a key, partition by partition."""
        output = self._files.groups
        if family == PREFIXES:
            output = self._files.prefix_groups
        return self.by_partition(
            write_groups,
            {"family": family, "folder": self._folder},
            recorded,
            (output.path, partitions),
            LABEL_OF_GROUPS.format(family),
        )

    def shingles(self, partitions: int, words: int, digest: str) -> dict[int, ShingledShard]:
        """Write the shingles of all documents that are in a group. `digest`: of the groups."""
        output = self._files.sets.path
        arguments = {"partitions": partitions, "words": words, "folder": self._folder}
        inputs = [partitions, words, digest]
        return self.by_shard(write_shingles, arguments, inputs, output, "shingles")

    def groups_by_rarest(
        self,
        sets: Mapping[int, ShingledShard],
        partitions: int,
        threshold: float,
        digest: str,
    ) -> dict[int, GroupedPartition]:
        """Group the documents of large groups by their rarest shingles.

        `partitions`: of the bands; `digest`: of groups and sets.
        """
        large = [number for number, result in sets.items() if result["large_shingles"]]
        task = Task(
            name="rarity",
            function=write_rarity,
            arguments={"table": self.table, "shards": large, "folder": self._folder},
            fingerprint=fingerprint([versions.NEAR_DUPLICATES, digest]),
        )
        done = run_tasks([task], self._files.rarity.path, self._crew, "frequencies", "files")
        rarity = output_digest(done[task.name]["files"])

        # As many records as the prefix of all these documents has.
        shingles = sum(result["large_shingles"] for result in sets.values())
        parts = partitions_for(prefix_length(shingles, threshold))
        recorded: dict[int, RecordedShard] = self.by_shard(
            write_prefix_records,
            {"partitions": (partitions, parts), "threshold": threshold, "folder": self._folder},
            [partitions, parts, threshold, digest, rarity],
            self._files.prefixes.path,
            "rarest shingles",
        )
        return self.groups(parts, recorded, PREFIXES)

    def by_shard(
        self,
        function: Callable[..., Any],
        arguments: Mapping[str, object],
        inputs: Sequence[Json],
        output: Path,
        label: str,
    ) -> dict[int, Any]:
        """Run a work item for each shard; return the results by shard."""
        shards = self._comparison.shards
        tasks = [
            Task(
                name=shard.name,
                function=function,
                arguments={"table": self.table, "shard": number, **arguments},
                fingerprint=fingerprint([versions.NEAR_DUPLICATES, shard.fingerprint, *inputs]),
                size=shard.file_bytes,
            )
            for number, shard in enumerate(shards)
        ]
        done = run_tasks(tasks, output, self._crew, label)
        return {number: done[task.name] for number, task in enumerate(tasks)}

    def by_partition(
        self,
        function: Callable[..., Any],
        arguments: Mapping[str, object],
        records: Mapping[int, WrittenFiles],
        output: tuple[Path, int],
        label: str,
    ) -> dict[int, Any]:
        """Run a work item for each partition; return the results by partition.

        `records`: results of the step that wrote what is partitioned. `output`: the folder of the
        step, and the number of partitions.
        """
        folder, partitions = output
        tasks = self._partition_tasks(function, arguments, records, partitions, label)
        done = run_tasks(tasks, folder, self._crew, label)
        return {partition: done[task.name] for partition, task in enumerate(tasks)}

    def _partition_tasks(
        self,
        function: Callable[..., Any],
        arguments: Mapping[str, object],
        records: Mapping[int, WrittenFiles],
        partitions: int,
        label: str,
    ) -> list[Task]:
        """Return a work item for each partition, as `by_partition` runs them."""
        digest = digest_of(records)
        size = bytes_of(records) / partitions
        common = [versions.NEAR_DUPLICATES, self._comparison.fingerprint, partitions, digest, label]
        return [
            Task(
                name=f"{partition:06x}",
                function=function,
                arguments={"table": self.table, "partition": partition, **arguments},
                fingerprint=fingerprint([*common, partition]),
                size=size,
            )
            for partition in range(partitions)
        ]
