"""The near-duplicates of a shard as a small Parquet file.

Reads what the last round has left of the shard.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

import pyarrow as pa

from pipeline.corpus.near_duplicates.compared_shards import read_comparison
from pipeline.corpus.near_duplicates.comparison_folder import ComparisonFolder
from pipeline.corpus.near_duplicates.pairs import StatusFile
from pipeline.corpus.near_duplicates.partition_file import read_records
from pipeline.corpus.near_duplicates.statuses import read_status
from pipeline.corpus.near_duplicates.verification import EDGE, first_staying
from pipeline.corpus.parquet_tables import read_parquet, write_parquet
from pipeline.store.curation.selection_folder import SELECT_AGAIN
from pipeline.store.records import FileRecord

VERDICTS = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("lost_to", pa.string(), nullable=False),
        pa.field("jaccard", pa.float64(), nullable=False),
    ]
)
"""A removed row of the shard, ascending; the id of the first document that stays, in the order of
priority, of those that share a band with it and are similar enough; their exact similarity."""


class JudgedShard(TypedDict):
    """Result of the work item of one shard."""

    removed: int
    files: Mapping[str, FileRecord]


def write_near_duplicates(
    table: Path, shard: int, last: int, status: StatusFile, folder: Path, output: Path
) -> JudgedShard:
    """Write the removed rows of a shard. `last`: the last round that decided on it.

    `output`: the file, in a folder of the folder of all verdicts.
    """
    comparison = read_comparison(table)
    name = comparison.shards[shard].name
    steps = ComparisonFolder(folder)
    edges = read_records(steps.round(last).states.of_shard(name), EDGE)
    lost = first_staying(edges, read_status(status.path, status.checksum)[edges["high"]])
    removed = pa.table(
        {
            "row": lost["row"].astype("int64"),
            "lost_to": [comparison.document_id(int(high)) for high in lost["high"]],
            "jaccard": lost["jaccard"],
        },
        schema=VERDICTS,
    )
    record = write_parquet(removed, output)
    return {
        "removed": len(lost),
        "files": {output.relative_to(output.parents[1]).as_posix(): record},
    }


def read_near_duplicates(path: Path) -> pa.Table:
    """Return the removed rows of a shard, of schema `VERDICTS`. Raises DataError for damage."""
    return read_parquet(path, VERDICTS, SELECT_AGAIN)
