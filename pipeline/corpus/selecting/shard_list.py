"""The list of all shards that `select` judges, as a file that work items read by number."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.corpus.parquet_tables import read_parquet, write_parquet
from pipeline.corpus.selecting.judged_shards import ShardGroup
from pipeline.store.curation.selection_folder import SELECT_AGAIN

SCHEMA = pa.schema(
    [
        ("identity", pa.string()),
        ("split", pa.string()),
        ("name", pa.string()),
        ("group", pa.int64()),
    ]
)
"""What the ids of a shard's documents begin with, its split, its path, the number of its group."""


@dataclass(frozen=True)
class ShardList:
    """The file, which each worker reads once."""

    path: Path
    checksum: str

    @property
    def identities(self) -> list[str]:
        """What the ids of each shard's documents begin with, `source/stem`."""
        return _read(self).identities

    @property
    def splits(self) -> list[str]:
        """Split of each shard."""
        return _read(self).splits

    def ends_of_groups(self) -> np.ndarray:
        """Return for each group the number behind its last shard, `(groups,)`."""
        groups = _read(self).groups
        count = int(groups.max()) + 1 if len(groups) else 0
        return np.searchsorted(groups, np.arange(count), side="right")


def write_shard_list(groups: Sequence[ShardGroup], path: Path) -> ShardList:
    """Write the list of the shards of all groups, in the order of their numbers."""
    rows = [
        (shard.identity, shard.split, shard.name, group.number)
        for group in groups
        for shard in group.shards
    ]
    columns = [pa.array(column) for column in zip(*rows, strict=True)] or [[], [], [], []]
    record = write_parquet(pa.table(dict(zip(SCHEMA.names, columns, strict=True)), SCHEMA), path)
    return ShardList(path, record["checksum"])


class _Columns(NamedTuple):
    identities: list[str]
    splits: list[str]
    groups: np.ndarray


@lru_cache(maxsize=2)
def _read(shard_list: ShardList) -> _Columns:
    table = read_parquet(shard_list.path, SCHEMA, SELECT_AGAIN)
    return _Columns(
        table["identity"].to_pylist(), table["split"].to_pylist(), table["group"].to_numpy()
    )
