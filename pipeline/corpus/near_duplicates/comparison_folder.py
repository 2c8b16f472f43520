"""Names the files of a comparison of documents, below a folder of its own.

No other module spells these names. Reads and writes nothing.
"""

from dataclasses import dataclass
from pathlib import Path

import xxhash


@dataclass(frozen=True)
class StepFolder:
    """The folder of one step: its work items' records, and a file for each work item."""

    path: Path
    suffix: str

    def of_shard(self, name: str) -> Path:
        """Return the file of a shard, in one of 256 folders by a hash of its name."""
        part = xxhash.xxh3_64_intdigest(name.encode()) & 0xFF
        return self.path / f"{part:02x}" / f"{name}{self.suffix}"

    def of_partition(self, partition: int) -> Path:
        """Return the file of a partition, 256 of them in a folder."""
        return self.path / f"{partition >> 8:04x}" / f"{partition:06x}{self.suffix}"

    def name(self, path: Path) -> str:
        """Return a file's path below the folder of the step."""
        return path.relative_to(self.path).as_posix()

    @property
    def single(self) -> Path:
        """The file of a step that has one work item."""
        return self.path / f"every-shard{self.suffix}"


@dataclass(frozen=True)
class ComparisonFolder:
    """The folder of one comparison of documents."""

    path: Path

    def table(self, fingerprint: str) -> Path:
        """Return the table of the shards, JSON."""
        return self.path / f"shards-{fingerprint}.json"

    def tables(self) -> list[Path]:
        """Return all tables of shards that exist."""
        return sorted(self.path.glob("shards-*.json"))

    @property
    def bands(self) -> StepFolder:
        """Records of a shard's bands, in partitions by their hash."""
        return StepFolder(self.path / "bands", ".parts")

    @property
    def groups(self) -> StepFolder:
        """Groups of documents that share a band, of one partition."""
        return StepFolder(self.path / "groups", ".groups")

    @property
    def members(self) -> StepFolder:
        """Documents of the groups of one partition, in parts by their shard."""
        return StepFolder(self.path / "groups", ".members")

    @property
    def sets(self) -> StepFolder:
        """Shingles of a shard's documents that share a band with others, a part for each row."""
        return StepFolder(self.path / "sets", ".sets")

    @property
    def frequencies(self) -> StepFolder:
        """How often the shingles of documents in large groups occur, of a shard and of all."""
        return StepFolder(self.path / "sets", ".frequencies")

    @property
    def rarity(self) -> StepFolder:
        """How often the shingles of documents in large groups occur, of all shards."""
        return StepFolder(self.path / "rarity", ".frequencies")

    @property
    def prefixes(self) -> StepFolder:
        """Records of the rarest shingles of a shard's documents, in partitions by their hash."""
        return StepFolder(self.path / "prefixes", ".parts")

    @property
    def prefix_groups(self) -> StepFolder:
        """Groups of documents that share one of their rarest shingles, of one partition."""
        return StepFolder(self.path / "prefix-groups", ".groups")

    @property
    def prefix_members(self) -> StepFolder:
        """Documents of these groups, in parts by their shard."""
        return StepFolder(self.path / "prefix-groups", ".members")

    @property
    def recorded_bands(self) -> Path:
        """Results of the step `bands`, JSON, when its files are gone."""
        return self.path / "bands.json"

    @property
    def rounds(self) -> Path:
        """Folder of all rounds."""
        return self.path / "rounds"

    def round(self, number: int) -> "RoundFolder":
        """Return the folder of a round."""
        return RoundFolder(self.rounds / f"{number:06d}")

    def verdicts(self, first_round: int) -> StepFolder:
        """Return the removed rows of a shard, Parquet, of the rounds that begin with this one."""
        return StepFolder(self.every_verdicts / f"{first_round:06d}", ".parquet")

    @property
    def every_verdicts(self) -> Path:
        """Folder of all removed rows."""
        return self.path / "verdicts"

    @property
    def paragraphs(self) -> StepFolder:
        """Records of a shard's paragraphs, in partitions by their hash."""
        return StepFolder(self.path / "paragraphs", ".parts")

    @property
    def repeated(self) -> StepFolder:
        """Paragraphs of one partition that stood before, in parts by their shard."""
        return StepFolder(self.path / "repeated", ".parts")

    @property
    def cuts(self) -> StepFolder:
        """Spans of a shard's repeated paragraphs, Parquet."""
        return StepFolder(self.path / "cuts", ".parquet")


@dataclass(frozen=True)
class RoundFolder:
    """The folder of one round of comparing and deciding."""

    path: Path

    def pairs(self, family: str) -> StepFolder:
        """Return the pairs to compare of a partition of one family of groups, by shard."""
        return StepFolder(self.path / f"pairs-{family}", ".parts")

    @property
    def partitions(self) -> Path:
        """The files of this round that hold pairs, JSON."""
        return self.path / "pairs.json"

    @property
    def last_rounds(self) -> Path:
        """The last round that decided on each shard, JSON."""
        return self.path / "last-rounds.json"

    @property
    def states(self) -> StepFolder:
        """What was found of a shard's documents up to this round."""
        return StepFolder(self.path / "states", ".state")

    @property
    def status_parts(self) -> StepFolder:
        """One byte a document of a shard."""
        return StepFolder(self.path / "states", ".status")

    @property
    def status(self) -> StepFolder:
        """One byte a document of all shards."""
        return StepFolder(self.path / "statuses", ".status")
