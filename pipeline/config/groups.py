"""How a job's ranks are grouped: the size of each group, and this rank's place in it.

The one record from which the launcher, batches, the loader, the optimizer's shards and checkpoints
take their numbers. Free of torch; `engine/groups.py` makes the process groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class GroupSizes:
    """How many ranks a job has in each group."""

    world: int
    """World ranks: all processes of a job, one a device. They hold ZeRO's shards, write one part of
    a checkpoint each, and agree before any of them goes on."""
    data: int
    """Data ranks: those that read different samples. They divide the global batch."""

    def __post_init__(self) -> None:
        assert self.world % self.data == 0, f"{self.data} data ranks in a world of {self.world}"


@dataclass(frozen=True)
class RankGroups:
    """The groups of a job as one of its ranks sees them."""

    sizes: GroupSizes
    world_rank: int
    """From 0."""
    data_rank: int
    """From 0; the same for ranks that read the same samples."""

    @property
    def is_rank_0(self) -> bool:
        """Whether this is the world rank that writes what a run has once: events, metrics,
        manifests."""
        return self.world_rank == 0

    def own_part(self, items: Sequence[T]) -> Sequence[T]:
        """Return this world rank's part of some items, of which all ranks together have each
        once."""
        return items[self.world_rank :: self.sizes.world]


def group_sizes(world: int) -> GroupSizes:
    """Return the groups of a job of `world` ranks: with data parallelism alone, each reads its own
    samples."""
    return GroupSizes(world=world, data=world)


def groups_of_rank(sizes: GroupSizes, world_rank: int) -> RankGroups:
    """Return the places of one rank, from 0.

    Ranks that read the same samples are neighbours, which a launcher puts on the same node.
    """
    ranks_of_one_sample = sizes.world // sizes.data
    return RankGroups(sizes, world_rank, world_rank // ranks_of_one_sample)
