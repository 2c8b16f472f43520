"""Groups of ranks in a job: the size of each group, and the position of a rank in it.

Launcher, batch arithmetic, loader, optimizer shards and checkpoints take all their numbers of ranks
from these records. Free of torch; `engine/groups.py` makes the process groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class GroupSizes:
    """Number of ranks in each group of a job."""

    world: int
    """World ranks: all processes of a job, one per device. Each holds one shard of ZeRO and writes
    one part of a checkpoint; they agree on every decision before any of them continues."""
    data: int
    """Data ranks: those that read different samples, so that ranks which read the same samples count
    once. They divide the global batch."""

    def __post_init__(self) -> None:
        assert self.world % self.data == 0, f"{self.data} data ranks in a world of {self.world}"


@dataclass(frozen=True)
class RankGroups:
    """The groups of a job, and the position of one rank in each of them."""

    sizes: GroupSizes
    world_rank: int
    """Number of the rank among all ranks, from 0."""
    data_rank: int
    """Number of its data group, from 0; ranks that read the same samples share it."""

    @property
    def is_rank_0(self) -> bool:
        """Whether this rank writes the files that a run has once: events, metrics, manifests."""
        return self.world_rank == 0

    def own_part(self, items: Sequence[T]) -> Sequence[T]:
        """Return the items of this world rank: every item belongs to exactly one rank."""
        return items[self.world_rank :: self.sizes.world]


def group_sizes(world: int) -> GroupSizes:
    """Return the groups of a job of `world` ranks under data parallelism, its only parallelism."""
    return GroupSizes(world=world, data=world)


def groups_of_rank(sizes: GroupSizes, world_rank: int) -> RankGroups:
    """Return the position of a rank in each of its groups; `world_rank` counts from 0.

    Ranks that read the same samples have consecutive numbers, so that a launcher puts them on the
    same node.
    """
    ranks_per_sample = sizes.world // sizes.data
    return RankGroups(sizes, world_rank, world_rank // ranks_per_sample)
