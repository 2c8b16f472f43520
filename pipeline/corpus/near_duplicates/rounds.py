"""Rounds of comparing and deciding, until every document is decided.

The number of rounds has no limit: a chain of documents, each like the next one, takes at most one for
each link that leads to another shard.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.corpus.near_duplicates.compared_shards import ComparedShards
from pipeline.corpus.near_duplicates.comparison_folder import ComparisonFolder
from pipeline.corpus.near_duplicates.emptied_documents import EmptiedDocuments
from pipeline.corpus.near_duplicates.pairs import PairedPartition, StatusFile, write_pairs
from pipeline.corpus.near_duplicates.statuses import MergedStatus, write_status
from pipeline.corpus.near_duplicates.verdict_files import JudgedShard, write_near_duplicates
from pipeline.corpus.near_duplicates.verification import DecidedShard, decide_shard
from pipeline.store import versions
from pipeline.store.files import fingerprint, output_digest, write_json
from pipeline.work.executor import run_tasks
from pipeline.work.task import Task
from pipeline.work.workers import Workers

Partition = tuple[str, int]
"""Family of groups, and the number of a partition."""


@dataclass
class RoundCounts:
    """What the rounds did."""

    rounds: int = 0
    compared: int = 0
    """Pairs whose sets of shingles were compared."""
    too_different: int = 0
    """Pairs that could not be similar by the sizes of their sets."""
    similar: int = 0
    """Pairs that reach the threshold."""


class Rounds:
    """The rounds of one comparison: what is open, and what was decided last of each shard."""

    def __init__(
        self,
        comparison: ComparedShards,
        table: Path,
        folder: Path,
        threshold: float,
        digest: str,
        emptied: EmptiedDocuments,
    ) -> None:
        """Take what the rounds read. `digest`: hash of the comparison, of groups and sets."""
        self._emptied = emptied
        self._table = table
        self._comparison = comparison
        self._folder = folder
        self._threshold = threshold
        self._base: list[str | float] = [digest, threshold]
        self._status: StatusFile | None = None
        self._sizes: Mapping[Partition, int] = {}
        self._last: list[int | None] = [None] * len(comparison.shards)
        self._states: dict[int, str] = {}
        self.counts = RoundCounts(emptied.rounds, emptied.compared)

    def run(self, partitions: Mapping[Partition, int], crew: Workers) -> None:
        """Compare and decide until nothing is open.

        `partitions`: those that have groups, with the size of their files in bytes.
        """
        self._sizes = partitions
        windows = dict.fromkeys(partitions, 0)
        undecided = list(range(len(self._comparison.shards)))
        number = self.counts.rounds
        while undecided:
            # Which pairs to compare next.
            paired = self._pairs(number, windows, crew)
            digest = fingerprint([output_digest(result["files"]) for result in paired.values()])
            windows = {key: each["window"] for key, each in paired.items() if each["left"]}
            with_pairs = [key for key, each in paired.items() if each["pairs"] or each["left"]]
            write_json(ComparisonFolder(self._folder).round(number).partitions, with_pairs)

            # Compare and decide, shard by shard; then tell all shards.
            decided = self._decisions(number, undecided, digest, crew)
            for shard, result in decided.items():
                self._states[shard] = output_digest(result["files"])
                self._last[shard] = number
                self.counts.compared += result["compared"]
                self.counts.too_different += result["too_different"]
                self.counts.similar += result["similar"]
            before = undecided
            undecided = [shard for shard in before if decided[shard]["undecided"]]
            self._status = self._merged(number, crew)
            number += 1
        self.counts.rounds = number

    def verdicts(self, crew: Workers) -> dict[int, JudgedShard]:
        """Write the removed rows of every shard, after `run`; return the results by shard."""
        verdicts = ComparisonFolder(self._folder).verdicts(self._emptied.rounds)
        tasks = [
            Task(
                name=shard.name,
                function=write_near_duplicates,
                arguments={
                    "table": self._table,
                    "shard": number,
                    "last": self._last[number],
                    "status": self._status,
                    "folder": self._folder,
                    "output": verdicts.of_shard(shard.name),
                },
                fingerprint=self._fingerprint(-1, [self._states[number]]),
                size=shard.file_bytes,
            )
            for number, shard in enumerate(self._comparison.shards)
        ]
        done = run_tasks(tasks, verdicts.path, crew, "near-duplicates")
        return {number: done[task.name] for number, task in enumerate(tasks)}

    def _pairs(
        self, number: int, windows: Mapping[Partition, int], crew: Workers
    ) -> dict[Partition, PairedPartition]:
        """Write the pairs of a round; return the results by partition."""
        results: dict[Partition, PairedPartition] = {}
        for family in sorted({family for family, _ in windows}):
            output = ComparisonFolder(self._folder).round(number).pairs(family)
            of_family = {part: place for (kind, part), place in windows.items() if kind == family}
            tasks = {
                part: Task(
                    name=f"{part:06x}",
                    function=write_pairs,
                    arguments={
                        "table": self._table,
                        "groups": (family, part),
                        "place": (number, window),
                        "status": self._status,
                        "threshold": self._threshold,
                        "folder": self._folder,
                    },
                    fingerprint=self._fingerprint(number, [family, part, window]),
                    size=self._sizes[family, part],
                )
                for part, window in of_family.items()
            }
            label = f"round {number + 1}: pairs"
            done = run_tasks(list(tasks.values()), output.path, crew, label)
            results |= {(family, part): done[task.name] for part, task in tasks.items()}
        return results

    def _decisions(
        self, number: int, shards: Sequence[int], pairs: str, crew: Workers
    ) -> dict[int, DecidedShard]:
        """Compare and decide the documents of shards in a round; return the results by shard.

        `pairs`: hash of all pairs of the round.
        """
        names = {shard: self._comparison.shards[shard].name for shard in shards}
        tasks = {
            shard: Task(
                name=name,
                function=decide_shard,
                arguments={
                    "table": self._table,
                    "shard": shard,
                    "rounds": (number, self._last[shard]),
                    "status": self._status,
                    "threshold": self._threshold,
                    "folder": self._folder,
                    "emptied": self._emptied.paths.get(name),
                },
                fingerprint=self._fingerprint(
                    number, [pairs, self._states.get(shard), self._emptied.checksums.get(name)]
                ),
                size=self._comparison.shards[shard].file_bytes,
            )
            for shard, name in names.items()
        }
        output = ComparisonFolder(self._folder).round(number).states
        label = f"round {number + 1}: compare"
        done = run_tasks(list(tasks.values()), output.path, crew, label)
        return {shard: done[task.name] for shard, task in tasks.items()}

    def _merged(self, number: int, crew: Workers) -> StatusFile:
        """Join the statuses of all shards after a round."""
        folder = ComparisonFolder(self._folder).round(number)
        rounds = folder.last_rounds
        write_json(rounds, self._last)
        task = Task(
            name="status",
            function=write_status,
            arguments={
                "table": self._table,
                "round_of_shard": rounds,
                "number": number,
                "folder": self._folder,
            },
            fingerprint=self._fingerprint(number, [*self._states.values()]),
        )
        done = run_tasks([task], folder.status.path, crew, f"round {number + 1}: statuses", "files")
        result: MergedStatus = done[task.name]
        (record,) = result["files"].values()
        return StatusFile(folder.status.single, record["checksum"])

    def _fingerprint(self, number: int, inputs: Sequence[object]) -> str:
        """Return the fingerprint of a work item of a round."""
        status = None
        if self._status is not None:
            status = self._status.checksum
        return fingerprint([versions.NEAR_DUPLICATES, *self._base, number, status, *inputs])
