"""Find the near-duplicates among documents, each one verified against a document that stays.

Documents are compared if they share a band of MinHash. A document is removed if its exact Jaccard
similarity, on the sets of its shingles, to a document that stays is at least a threshold. Which ones
stay is decided in the order of priority (`compared_shards.py`), never by transitive closure.

Steps, each a list of work items with files of their own: records of bands, by shard; groups, by
partition of bands; sets of shingles, by shard; for large groups records of rarest shingles, and their
groups; rounds of comparing and deciding; the removed rows, by shard. All lies in one folder. A step whose
inputs are the same is done: another threshold leaves bands, groups and sets as they are
(`kept_comparison.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.corpus.near_duplicates.band_records import partitions_for
from pipeline.corpus.near_duplicates.compared_shards import ComparedShard, compared
from pipeline.corpus.near_duplicates.comparison_folder import ComparisonFolder, StepFolder
from pipeline.corpus.near_duplicates.comparison_steps import ComparisonSteps, bytes_of, digest_of
from pipeline.corpus.near_duplicates.emptied_documents import EmptiedDocuments
from pipeline.corpus.near_duplicates.groups import BANDS, PREFIXES, GroupedPartition
from pipeline.corpus.near_duplicates.kept_comparison import ReusableSteps
from pipeline.corpus.near_duplicates.rounds import Partition, Rounds
from pipeline.corpus.near_duplicates.shingles import ShingledShard
from pipeline.corpus.near_duplicates.verdict_files import JudgedShard
from pipeline.store.files import fingerprint, output_digest
from pipeline.work.workers import Workers


@dataclass(frozen=True)
class NearDuplicates:
    """What a comparison has found."""

    paths: Mapping[str, Path]
    """`source~stem` of each shard -> the Parquet file of its removed rows (`verdict_files.py`)."""
    digests: Mapping[str, str]
    """`source~stem` of each shard -> hash of that file."""
    documents: int
    """Documents with bands that took part."""
    in_groups: int
    """Documents that share a band with others."""
    removed: int
    rounds: int
    """Rounds until every document was decided, with those of comparisons before."""
    compared: int
    """Pairs whose sets of shingles were compared."""
    too_different: int
    """Pairs that could not be similar by the sizes of their sets."""
    largest_group: int
    """Documents that share one band."""
    steps: ReusableSteps
    """What another threshold needs."""


def find_near_duplicates(
    shards: Sequence[ComparedShard],
    folder: Path,
    crew: Workers,
    threshold: float,
    words: int = 5,
    bands: int = 14,
    *,
    emptied: EmptiedDocuments | None = None,
) -> NearDuplicates:
    """Compare the documents of all shards; write the removed rows of each shard.

    `folder`: of this comparison alone. `words`: of a shingle. `bands`: of a document, from which the
    number of partitions follows. `emptied`: those to which no document may lose, where the same
    shards were compared before. Raises DataError where documents, annotations or files of the
    comparison are damaged (TasksFailed with all of these messages).
    """
    comparison = compared(shards)
    steps = ComparisonSteps(comparison, folder, crew)

    # Who shares a band with whom.
    partitions = partitions_for(comparison.documents * bands)
    recorded = steps.band_records(partitions)
    grouped = steps.groups(partitions, recorded)
    digest = digest_of(grouped)

    # What these documents consist of; the rarest of it for those that share a band with very many.
    sets = steps.shingles(partitions, words, digest)
    digest = fingerprint([digest, words, digest_of(sets)])
    rare_groups: Mapping[int, GroupedPartition] = {}
    if any(result["large_shingles"] for result in sets.values()):
        rare_groups = steps.groups_by_rarest(sets, partitions, threshold, digest)

    # Compare and decide.
    families = {BANDS: grouped, PREFIXES: rare_groups}
    open_partitions: dict[Partition, int] = {
        (family, number): bytes_of({number: result})
        for family, results in families.items()
        for number, result in results.items()
        if result["groups"]
    }
    digest = fingerprint([comparison.fingerprint, digest, digest_of(rare_groups)])
    emptied = emptied or EmptiedDocuments()
    rounds = Rounds(comparison, steps.table, folder, threshold, digest, emptied)
    rounds.run(open_partitions, crew)
    judged = rounds.verdicts(crew)
    verdicts = ComparisonFolder(folder).verdicts(emptied.rounds)
    reusable = ReusableSteps(
        fingerprint=steps.bands_decide(partitions),
        recorded=recorded,
        groups=[name for result in grouped.values() for name in result["files"]],
        sets=[name for result in sets.values() for name in result["files"]],
    )
    return _found(comparison.shards, verdicts, rounds, reusable, (grouped, sets, judged))


def _found(
    shards: Sequence[ComparedShard],
    verdicts: StepFolder,
    rounds: Rounds,
    steps: ReusableSteps,
    results: tuple[
        Mapping[int, GroupedPartition],
        Mapping[int, ShingledShard],
        Mapping[int, JudgedShard],
    ],
) -> NearDuplicates:
    """Return what the steps have found, from the results of their work items."""
    grouped, sets, judged = results
    return NearDuplicates(
        paths={shard.name: verdicts.of_shard(shard.name) for shard in shards},
        digests={
            shards[number].name: output_digest(result["files"]) for number, result in judged.items()
        },
        documents=sum(result["documents"] for result in steps.recorded.values()),
        in_groups=sum(result["documents"] for result in sets.values()),
        removed=sum(result["removed"] for result in judged.values()),
        rounds=rounds.counts.rounds,
        compared=rounds.counts.compared,
        too_different=rounds.counts.too_different,
        largest_group=max((result["largest_group"] for result in grouped.values()), default=0),
        steps=steps,
    )
